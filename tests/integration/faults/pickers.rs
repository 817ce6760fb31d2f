//! An endpoint picker that fails, behind TLS and a token that both rotate.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    routing::get,
};
use jiff::Timestamp;
use wva::{
    clock::{Clock, SimulatedClock},
    config::{Backend, GatewayAddress, GatewaySettings, ServerTrust},
    interfaces::{ModelKey, Signal},
};

use super::{Episode, State};
use crate::{
    collector_support::{Collecting, configuration},
    collector_tls::{Authority, Files, NAME, serve},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Nothing listens.
    Down,
    /// No answer within the timeout.
    Slow,
    /// Every answer has this status.
    Status(u16),
    /// Its certificate is signed by somebody we do not trust.
    WrongAuthority,
    /// It takes another token than the file holds.
    ExpiredToken,
    /// What it holds is not a number.
    NotANumber,
}

/// How a picker answers, with what it holds.
#[derive(Clone, Default)]
struct Picker(Arc<Mutex<(Option<Fault>, u32)>>);

impl Picker {
    fn answers(&self, fault: Option<Fault>, held: u32) {
        *self.0.lock().unwrap() = (fault, held);
    }

    async fn answer(&self, headers: &HeaderMap) -> (StatusCode, String) {
        let (fault, held) = *self.0.lock().unwrap();
        let token = if fault == Some(Fault::ExpiredToken) { "Bearer second" } else { "Bearer first" };
        let known = headers.get(header::AUTHORIZATION).is_some_and(|value| value == token || value == "Bearer second");
        let held = if fault == Some(Fault::NotANumber) { "NaN".to_owned() } else { held.to_string() };
        let labels = "{model_name=\"m\",target_model_name=\"m\"}";
        let page = format!("llm_d_epp_flow_control_queue_size{labels} {held}\nllm_d_epp_request_total{labels} 9\n");
        match fault {
            _ if !known => (StatusCode::UNAUTHORIZED, String::new()),
            Some(Fault::Slow) => std::future::pending().await,
            Some(Fault::Status(status)) => (StatusCode::from_u16(status).unwrap(), String::new()),
            _ => (StatusCode::OK, page),
        }
    }
}

/// What a fault of an endpoint picker does to the queue that it told of.
pub(super) async fn suffer(name: &str, fault: Fault) -> Episode {
    let (authority, stranger, files, picker) = (Authority::new(), Authority::new(), Files::new(), Picker::default());
    let answers = picker.clone();
    let handler = move |headers: HeaderMap| {
        let answers = answers.clone();
        async move { answers.answer(&headers).await }
    };
    let app = || Router::new().route("/metrics", get(handler.clone()));
    let (address, serving) = serve(&authority, None, SocketAddr::from(([127, 0, 0, 1], 0)), app()).await;
    let mut serving = Some(serving);
    let mut config = configuration("http://unused");
    config.collector.backends = vec![Backend::Epp];
    config.collector.scrape_timeout = Duration::from_secs(1);
    config.collector.gateways = GatewaySettings {
        addresses: vec![GatewayAddress {
            namespace: "prod".into(),
            url: format!("https://{address}/metrics").parse().unwrap(),
        }],
        bearer_token_path: Some(files.write("token", "first".to_owned())),
        trust: ServerTrust {
            ca_cert_path: Some(files.write("ca.pem", authority.pem())),
            server_name: Some(NAME.to_owned()),
            ..ServerTrust::default()
        },
    };
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let clock = Arc::new(SimulatedClock::new(start));
    let collecting = Collecting::at(&config, &(clock.clone() as Arc<dyn Clock>)).unwrap();
    let queue = async || collecting.collector.fetch_model_metrics(&ModelKey::new("prod", "m")).await.gateway_queue;
    picker.answers(None, 4);
    collecting.collector.refresh().await.unwrap();
    assert_eq!(queue().await, Signal::present(4.0, start), "{name}: before");

    picker.answers(Some(fault), 5);
    match fault {
        Fault::Down => serving.take().unwrap().stop().await,
        Fault::WrongAuthority => drop(files.write("ca.pem", stranger.pem())),
        _ => {}
    }
    clock.advance(Duration::from_secs(5));
    // Why it failed is in the health.
    let _ = collecting.collector.refresh().await;
    let state = match queue().await {
        found if found == Signal::present(4.0, start) => State::Kept,
        Signal::Present { value, .. } => State::Fresh(value),
        Signal::Missing | Signal::NotDefined => State::Missing,
    };
    let said = collecting.collector.health().last_error;

    picker.answers(None, 6);
    match fault {
        Fault::Down => serving = Some(serve(&authority, None, address, app()).await.1),
        Fault::WrongAuthority => drop(files.write("ca.pem", authority.pem())),
        Fault::ExpiredToken => drop(files.write("token", "second".to_owned())),
        _ => {}
    }
    let mut recovery = 0;
    loop {
        recovery += 1;
        clock.advance(Duration::from_secs(5));
        let _ = collecting.collector.refresh().await;
        let is_over = collecting.collector.health().last_error.is_none();
        if (is_over && queue().await == Signal::present(6.0, clock.now())) || recovery == 10 {
            drop(serving);
            return Episode { state, said, recovery };
        }
    }
}
