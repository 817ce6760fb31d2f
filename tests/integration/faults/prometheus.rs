//! A Prometheus that fails, behind TLS and a token that both rotate.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Query,
    http::{HeaderMap, Response, StatusCode, header},
    routing::get,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use wva::{
    clock::{Clock, SimulatedClock},
    config::BearerToken,
    interfaces::{ModelKey, Signal},
};

use super::{Episode, State};
use crate::{
    collector_support::Collecting,
    collector_tls::{Authority, Files, config, serve},
    collector_transport::{RECORDED, recorded_answer},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Nothing listens.
    Down,
    /// No answer within the query timeout.
    Slow,
    /// Every answer has this status.
    Status(u16),
    /// Its certificate is signed by somebody we do not trust.
    WrongAuthority,
    /// It takes another token than the file holds.
    ExpiredToken,
    /// It leaves a pod out of the answers to queries that ask for this, of all if it is empty, and says so.
    InPart(&'static str),
    /// Its clock is ahead of ours by these seconds, or behind.
    Clock(i64),
    /// Every series has a label of 10 kB with odd characters.
    OddLabels,
    /// There is no file.
    NoToken,
    /// The query that asks for this metric fails.
    Partial(&'static str),
    /// Half of each answer.
    EndsMidway,
    /// Values of one signal are no numbers.
    NotANumber,
    /// Each series stands in an answer twice.
    Twice,
    /// So many series of models that nobody declared.
    Foreign(usize),
}

const SHORT: Duration = Duration::from_millis(300);

#[derive(Deserialize)]
struct Asked {
    query: String,
}

/// What the server makes of each query.
#[derive(Clone)]
struct Server {
    fault: Arc<Mutex<Option<Fault>>>,
    clock: Arc<SimulatedClock>,
}

impl Server {
    fn fails(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The recorded answer, told by a clock that is `ahead` of ours.
    fn by_clock(&self, answer: &str, ahead: i64) -> Response<Body> {
        let now = self.clock.now().as_millisecond() as f64 / 1e3;
        changed(answer, |series| {
            let mut series = series.clone();
            let sampled_at: f64 = series["value"][1].as_str().unwrap().parse().unwrap();
            series["value"] = json!([now + ahead as f64, (sampled_at + ahead as f64).to_string()]);
            vec![series]
        })
    }

    async fn answer(&self, headers: &HeaderMap, promql: &str) -> Response<Body> {
        let fault = *self.fault.lock().unwrap();
        let token = if fault == Some(Fault::ExpiredToken) { "Bearer second" } else { "Bearer first" };
        let known = headers.get(header::AUTHORIZATION).is_some_and(|value| value == token || value == "Bearer second");
        if !known {
            return respond(401, "who are you?".to_owned());
        }
        let sound = recorded_answer(promql);
        match fault {
            Some(Fault::Slow) => std::future::pending().await,
            Some(Fault::Status(status)) => respond(status, "<h1>no upstream</h1>".to_owned()),
            Some(Fault::Partial(part)) if promql.contains(part) => {
                respond(422, r#"{"status":"error","errorType":"execution","error":"too many samples"}"#.to_owned())
            }
            Some(Fault::EndsMidway) => respond(200, sound[..sound.len() / 2].to_owned()),
            Some(Fault::NotANumber) if promql.contains("kv_cache_usage") => changed(sound, |series| {
                let mut series = series.clone();
                series["value"][1] = json!("NaN");
                vec![series]
            }),
            Some(Fault::InPart(part)) if promql.contains(part) => {
                let answer = changed_value(sound, |series| {
                    if series["metric"]["pod"] == "new-0" { Vec::new() } else { vec![series.clone()] }
                });
                respond(200, warned(answer, "no store holds replica=\"a\"").to_string())
            }
            Some(Fault::Clock(ahead)) if promql.contains("timestamp(") => self.by_clock(sound, ahead),
            Some(Fault::OddLabels) => changed(sound, |series| {
                let mut series = series.clone();
                series["metric"]["adapter"] = format!("a\"b\\c\n{}\u{1f600}", "x".repeat(10_000)).into();
                vec![series]
            }),
            Some(Fault::Twice) => changed(sound, |series| vec![series.clone(), series.clone()]),
            Some(Fault::Foreign(count))
                if promql.contains("requests_waiting") && !promql.starts_with("label_replace") =>
            {
                respond(200, with_foreign_series(sound, count))
            }
            _ if promql.contains("timestamp(") => self.by_clock(sound, 0),
            _ => respond(200, sound.to_owned()),
        }
    }
}

fn respond(status: u16, body: String) -> Response<Body> {
    Response::builder().status(StatusCode::from_u16(status).unwrap()).body(Body::from(body)).unwrap()
}

fn changed(answer: &str, change: impl Fn(&Value) -> Vec<Value>) -> Response<Body> {
    respond(200, changed_value(answer, change).to_string())
}

fn changed_value(answer: &str, change: impl Fn(&Value) -> Vec<Value>) -> Value {
    let mut answer: Value = serde_json::from_str(answer).unwrap();
    let series: Vec<Value> = answer["data"]["result"].as_array().unwrap().iter().flat_map(change).collect();
    answer["data"]["result"] = series.into();
    answer
}

fn warned(mut answer: Value, warning: &str) -> Value {
    answer["warnings"] = json!([warning]);
    answer
}

fn with_foreign_series(answer: &str, count: usize) -> String {
    let (before, after) = answer.split_once("\"result\":[").unwrap();
    let mut text = format!("{before}\"result\":[");
    for number in 0..count {
        let labels = format!(r#""namespace":"other","pod":"p-{number}","model_name":"m-{}""#, number % 100);
        write!(text, r#"{{"metric":{{{labels}}},"value":[{RECORDED},"1"]}},"#).unwrap();
    }
    text + after
}

/// What a fault of Prometheus does to a KV-cache usage.
pub(super) async fn suffer(name: &str, fault: Fault) -> Episode {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Files::new());
    let clock = Arc::new(SimulatedClock::new(Timestamp::from_second(RECORDED).unwrap()));
    let server = Server { fault: Arc::default(), clock: clock.clone() };
    let answers = server.clone();
    let handler = move |headers: HeaderMap, Query(Asked { query }): Query<Asked>| {
        let answers = answers.clone();
        async move { answers.answer(&headers, &query).await }
    };
    let app = || Router::new().route("/api/v1/query", get(handler.clone()));
    let (address, serving) = serve(&authority, None, SocketAddr::from(([127, 0, 0, 1], 0)), app()).await;
    let mut config = config(address, &files, &authority);
    config.prometheus.query_timeout = if fault == Fault::Slow { SHORT } else { Duration::from_secs(2) };
    let token = files.write("token", "first".to_owned());
    config.prometheus.bearer_token = Some(BearerToken::File(token.clone()));
    let collecting = Collecting::at(&config, &(clock.clone() as Arc<dyn Clock>)).unwrap();
    let usage = async || {
        let model = ModelKey::new("chat", "meta-llama/Llama-3.1-8B-Instruct");
        let replicas = collecting.collector.fetch_saturation_metrics(&model).await.unwrap();
        replicas
            .iter()
            .find(|replica| &*replica.pod == "new-0")
            .map_or(Signal::Missing, |replica| replica.kv_cache_usage)
    };
    collecting.collector.refresh().await.unwrap();
    let before = usage().await;
    assert_eq!(before.value(), Some(&0.6123), "{name}: before");

    server.fails(Some(fault));
    let mut serving = Some(serving);
    match fault {
        Fault::Down => serving.take().unwrap().stop().await,
        Fault::WrongAuthority => drop(files.write("ca.pem", stranger.pem())),
        Fault::NoToken => std::fs::remove_file(&token).unwrap(),
        _ => {}
    }
    clock.advance(Duration::from_secs(5));
    let refreshed = collecting.collector.refresh().await.is_ok();
    let found = usage().await.fresh(clock.now(), config.signal_age_limit);
    let state = match found.value() {
        None => State::Missing,
        // The answers were recorded: what is fetched anew is the same, but for a fault that leaves the pod out.
        Some(_) if found == before && (!refreshed || matches!(fault, Fault::InPart(_))) => State::Kept,
        Some(value) => State::Fresh(*value),
    };
    let said = collecting.collector.health().last_error;

    // The recorded answers name one moment: that it was fetched anew shows in the health.
    server.fails(None);
    match fault {
        Fault::Down => serving = Some(serve(&authority, None, address, app()).await.1),
        Fault::WrongAuthority => drop(files.write("ca.pem", authority.pem())),
        Fault::ExpiredToken | Fault::NoToken => drop(files.write("token", "second".to_owned())),
        _ => {}
    }
    let mut recovery = 0;
    loop {
        recovery += 1;
        clock.advance(Duration::from_secs(5));
        // Why it failed is in the health.
        let _ = collecting.collector.refresh().await;
        let health = collecting.collector.health();
        let is_over = health.last_error.is_none() && health.last_success == Some(clock.now());
        if (is_over && usage().await == before) || recovery == 10 {
            drop(serving);
            return Episode { state, said, recovery };
        }
    }
}
