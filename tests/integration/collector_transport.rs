//! The collector against a Prometheus that fails in every way a network can offer.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::path};
use wva::{
    clock::{Clock, SimulatedClock},
    config::{BearerToken, CustomEngine, CustomFamily, Secret},
    interfaces::{CollectorError, ModelKey, Quantity, Signal},
};

use crate::collector_support::{Collecting, configuration};

/// Just after the recorded answers were taken.
pub(crate) const RECORDED: i64 = 1_795_473_823;
const QUERIES: u64 = 11;
/// For what must run out; nothing else uses it.
const SHORT: Duration = Duration::from_millis(300);

/// Answers like the recorded Prometheus, except the queries whose expression contains `broken`.
struct Recorded {
    broken: &'static str,
}

impl Respond for Recorded {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let in_body = url::form_urlencoded::parse(&request.body);
        let promql = request.url.query_pairs().chain(in_body).find(|(name, _)| name == "query").unwrap().1;
        if !self.broken.is_empty() && promql.contains(self.broken) {
            let body = r#"{"status":"error","errorType":"execution","error":"too many samples"}"#;
            return ResponseTemplate::new(422).set_body_raw(body, "application/json");
        }
        ResponseTemplate::new(200).set_body_raw(recorded_answer(&promql), "application/json")
    }
}

/// What the recorded Prometheus answers.
pub(crate) fn recorded_answer(promql: &str) -> &'static str {
    macro_rules! answer {
        ($name:literal) => {
            include_str!(concat!("../fixtures/collector/prometheus-2.42/", $name, ".json"))
        };
    }
    if promql.starts_with("label_replace(") && !promql.contains("cache_config") {
        return r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    }
    let answers = [
        ("cache_config", answer!("engines")),
        ("timestamp(", answer!("sample_time")),
        ("kv_cache_usage", answer!("kv_cache_usage")),
        ("requests_waiting", answer!("queue_length")),
        ("requests_running", answer!("running")),
        ("request_success", answer!("request_rate")),
    ];
    answers.into_iter().find(|(part, _)| promql.contains(part)).unwrap().1
}

const SOUND: Recorded = Recorded { broken: "" };

fn model() -> ModelKey {
    ModelKey::new("chat", "meta-llama/Llama-3.1-8B-Instruct")
}

async fn answering(response: impl Respond + 'static) -> MockServer {
    let server = MockServer::start().await;
    answer(&server, response).await;
    server
}

/// Answers every query with `response` from now on.
async fn answer(server: &MockServer, response: impl Respond + 'static) {
    server.reset().await;
    Mock::given(path("/api/v1/query")).respond_with(response).mount(server).await;
}

async fn requests(server: &MockServer) -> u64 {
    server.received_requests().await.unwrap().len() as u64
}

/// The error of a fetch from `server`, and how many requests it took.
async fn failure(server: &MockServer, timeout: Duration) -> (CollectorError, Collecting, u64) {
    let mut config = configuration(&server.uri());
    config.prometheus.query_timeout = timeout;
    let collecting = Collecting::new(&config).unwrap();
    let error = collecting.collector.refresh().await.unwrap_err();
    assert_eq!(collecting.collector.health().last_error, Some(error.to_string()));
    assert_eq!(collecting.collector.fetch_saturation_metrics(&model()).await, Err(error.clone()));
    (error, collecting, requests(server).await)
}

fn reasons(collecting: &Collecting) -> String {
    let mut registry = wva::telemetry::MetricsRegistry::new();
    collecting.tracker.register(registry.registry_mut());
    registry.encode().unwrap()
}

#[tokio::test]
async fn refused_credentials_are_told_from_an_outage_whatever_the_body_and_not_tried_again() {
    for status in [401, 403] {
        let server = answering(ResponseTemplate::new(status).set_body_raw("<html>who are you?", "text/html")).await;
        let (error, collecting, requests) = failure(&server, Duration::from_secs(10)).await;
        assert!(matches!(error, CollectorError::Unauthorized { status: found, .. } if found == status), "{error:?}");
        assert_eq!(requests, QUERIES);
        let expected = r#"wva_metrics_collection_errors_total{query_type="kv_cache_usage",reason="unauthorized"} 1"#;
        assert!(reasons(&collecting).contains(expected));
    }
}

#[tokio::test]
async fn an_error_in_the_query_keeps_what_prometheus_says_and_is_not_tried_again() {
    let body = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected <aggr:max>"}"#;
    let server = answering(ResponseTemplate::new(400).set_body_raw(body, "application/json")).await;
    let (error, _, requests) = failure(&server, Duration::from_secs(10)).await;
    assert_eq!(
        error.to_string(),
        format!(
            "Prometheus at {} failed the query kv_cache_usage: bad_data: parse error: unexpected <aggr:max> (HTTP status \
             400 Bad Request)",
            server.uri()
        )
    );
    assert_eq!(requests, QUERIES);
}

#[tokio::test]
async fn an_outage_is_tried_again_until_the_timeout_and_its_page_ends_up_in_the_message() {
    let page = format!("<html>\n  <h1>503   no upstream</h1>{}", "x".repeat(10_000));
    let server = answering(ResponseTemplate::new(503).set_body_raw(page, "text/html")).await;
    let (error, _, requests) = failure(&server, Duration::from_secs(2)).await;
    let message = error.to_string();
    assert!(message.contains("503 Service Unavailable") && message.contains("<h1>503 no upstream"), "{message}");
    assert!(message.len() < 500, "{message}");
    assert!(requests > QUERIES, "{requests}");
}

/// An engine of one's own with a family for everything that has a long name.
fn own_engine(number: usize) -> CustomEngine {
    let family = |quantity| CustomFamily {
        quantity,
        name: format!("engine_{number}_of_the_house:{quantity:?}_as_we_measure_it").into(),
        label: None,
    };
    let quantities = [Quantity::Waiting, Quantity::Running, Quantity::KvCacheUsage, Quantity::Finished];
    CustomEngine {
        name: format!("own-{number}").into(),
        model_label: Some("served".into()),
        rank_label: None,
        families: quantities.map(family).into(),
    }
}

#[tokio::test]
async fn a_query_that_no_url_holds_is_posted_and_any_other_is_not() {
    let server = answering(SOUND).await;
    let mut config = configuration(&server.uri());
    config.collector.engines = (0..100).map(own_engine).collect();
    let collecting = Collecting::new(&config).unwrap();
    collecting.collector.refresh().await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len() as u64, QUERIES);
    let (got, posted): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.method == "GET");
    assert!(!got.is_empty() && !posted.is_empty(), "{} got, {} posted", got.len(), posted.len());
    assert!(got.iter().all(|request| request.url.as_str().len() < 8_192));
    assert!(posted.iter().all(|request| request.body.len() > 7_500));
}

#[tokio::test]
async fn a_passing_outage_goes_unnoticed() {
    let server = answering(SOUND).await;
    let outage = ResponseTemplate::new(503).set_body_string("restarting");
    Mock::given(path("/api/v1/query"))
        .respond_with(outage)
        .up_to_n_times(QUERIES)
        .with_priority(1)
        .mount(&server)
        .await;
    let collecting = Collecting::new(&configuration(&server.uri())).unwrap();
    assert_eq!(collecting.fetch(&model()).await.len(), 2);
    assert_eq!(requests(&server).await, 2 * QUERIES);
    assert_eq!(collecting.collector.health().last_error, None);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_at_the_timeout() {
    let server = answering(ResponseTemplate::new(200).set_delay(Duration::from_hours(1))).await;
    let (error, _, _) = failure(&server, SHORT).await;
    assert!(error.to_string().contains("cannot be reached: no answer within 300ms"), "{error}");
}

#[tokio::test]
async fn a_refused_connection_names_the_server_but_not_the_query() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = configuration(&format!("http://{address}"));
    config.prometheus.query_timeout = SHORT;
    let error = Collecting::new(&config).unwrap().collector.refresh().await.unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with(&format!("Prometheus at http://{address} cannot be reached: ")), "{message}");
    assert!(!message.contains("vllm"), "{message}");
}

#[tokio::test]
async fn what_is_no_query_result_is_an_error_and_never_an_empty_result() {
    let table = [
        (ResponseTemplate::new(200).set_body_string("<html>Sign in"), "<html>Sign in"),
        (ResponseTemplate::new(200).set_body_string(r#"{"status":"success""#), "EOF"),
        (ResponseTemplate::new(200).set_body_string("{}"), "neither data nor an error"),
        (ResponseTemplate::new(404).set_body_string("404 page not found"), "404 page not found"),
        (
            ResponseTemplate::new(302).insert_header("location", "https://login/"),
            "refers to https://login/; set prometheus.url",
        ),
    ];
    for (response, expected) in table {
        let server = answering(response).await;
        let (error, _, requests) = failure(&server, Duration::from_secs(10)).await;
        assert!(matches!(error, CollectorError::Query { .. }) && error.to_string().contains(expected), "{error}");
        assert_eq!(requests, QUERIES, "another attempt changes nothing");
    }
}

#[tokio::test]
async fn a_rotated_bearer_token_is_taken_up_and_a_missing_one_is_named() {
    let server = answering(SOUND).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = configuration(&server.uri());
    config.prometheus.bearer_token = Some(BearerToken::File(file.path().to_owned()));
    let collecting = Collecting::new(&config).unwrap();
    for token in ["first", "second"] {
        std::fs::write(file.path(), format!("{token}\n")).unwrap();
        collecting.collector.refresh().await.unwrap();
        let last = server.received_requests().await.unwrap().pop().unwrap();
        assert_eq!(last.headers["authorization"], format!("Bearer {token}"));
    }
    let path = file.path().display().to_string();
    file.close().unwrap();
    let error = collecting.collector.refresh().await.unwrap_err().to_string();
    assert!(error.contains(&path) && error.contains("prometheus.bearerTokenPath"), "{error}");
}

#[tokio::test]
async fn headers_token_peak_window_and_path_prefix_go_with_every_query() {
    let server = MockServer::start().await;
    Mock::given(path("/tenants/a/api/v1/query")).respond_with(SOUND).mount(&server).await;
    let mut config = configuration(&format!("{}/tenants/a/", server.uri()));
    config.prometheus.headers.insert("x-scope-orgid".to_owned(), Secret::new("team-a"));
    config.prometheus.bearer_token = Some(BearerToken::Literal(Secret::new("c2VjcmV0")));
    config.collector.peak_window = Duration::from_secs(90);
    Collecting::new(&config).unwrap().collector.refresh().await.unwrap();
    for request in server.received_requests().await.unwrap() {
        assert_eq!(request.headers["x-scope-orgid"], "team-a");
        assert_eq!(request.headers["authorization"], "Bearer c2VjcmV0");
        assert!(request.url.query_pairs().any(|(_, value)| value.contains("[90s") || value.contains("[15m]")));
    }
}

#[tokio::test]
async fn a_failed_fetch_leaves_what_is_known_until_it_is_too_old() {
    let server = answering(SOUND).await;
    let clock = Arc::new(SimulatedClock::new(Timestamp::from_second(RECORDED).unwrap()));
    let config = configuration(&server.uri());
    let collecting = Collecting::at(&config, &(clock.clone() as Arc<dyn Clock>)).unwrap();
    let not_read = collecting.collector.fetch_saturation_metrics(&model()).await.unwrap_err();
    assert!(matches!(not_read, CollectorError::NotReadYet { .. }), "{not_read:?}");
    let known = collecting.fetch(&model()).await;
    assert_eq!(collecting.collector.health().last_success, Some(Timestamp::from_second(RECORDED).unwrap()));

    answer(&server, ResponseTemplate::new(401)).await;
    clock.advance(Duration::from_secs(59));
    let error = collecting.collector.refresh().await.unwrap_err();
    assert_eq!(collecting.collector.fetch_saturation_metrics(&model()).await, Ok(known));
    let unserved = ModelKey::new("chat", "nobody/serves-this");
    assert_eq!(collecting.collector.fetch_saturation_metrics(&unserved).await, Ok(Vec::new()));
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        collecting.collector.fetch_saturation_metrics(&model()).await,
        Err(error),
        "what has grown too old is an error, not an empty list"
    );
}

#[tokio::test]
async fn a_model_that_is_gone_is_forgotten_with_the_next_fetch() {
    let server = answering(SOUND).await;
    let collecting = Collecting::new(&configuration(&server.uri())).unwrap();
    assert_eq!(collecting.fetch(&model()).await.len(), 2);
    let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    answer(&server, ResponseTemplate::new(200).set_body_raw(empty, "application/json")).await;
    assert_eq!(collecting.fetch(&model()).await, []);
}

#[tokio::test]
async fn without_a_supplementary_query_the_rest_goes_on_and_its_signals_keep_their_age() {
    let server = answering(SOUND).await;
    let collecting = Collecting::new(&configuration(&server.uri())).unwrap();
    let before = collecting.fetch(&model()).await;
    answer(&server, Recorded { broken: "request_success" }).await;
    assert_eq!(collecting.fetch(&model()).await, before);
    let health = collecting.collector.health();
    assert!(health.last_error.is_some_and(|error| error.contains("request_rate: execution: too many samples")));

    let fresh = Collecting::new(&configuration(&server.uri())).unwrap();
    let replica = &fresh.fetch(&model()).await[0];
    assert_eq!(replica.request_rate, Signal::Missing);
    assert_eq!(replica.kv_cache_usage.value(), before[0].kv_cache_usage.value());
}

#[tokio::test]
async fn without_a_cache_reads_are_answered_by_the_last_fetch_and_ask_nothing() {
    let server = answering(Recorded { broken: "cache_config" }).await;
    let mut config = configuration(&server.uri());
    config.collector.cache_max_entries = 0;
    let collecting = Collecting::new(&config).unwrap();
    collecting.collector.refresh().await.unwrap();
    for _ in 1..=2 {
        assert_eq!(collecting.collector.fetch_saturation_metrics(&model()).await.unwrap().len(), 2);
        assert_eq!(requests(&server).await, QUERIES);
    }
}

#[tokio::test]
async fn a_misspelt_model_is_answered_with_the_names_that_exist() {
    let server = answering(SOUND).await;
    let clock = Arc::new(SimulatedClock::new(Timestamp::from_second(RECORDED).unwrap()));
    let collecting = Collecting::at(&configuration(&server.uri()), &(clock.clone() as Arc<dyn Clock>)).unwrap();
    collecting.collector.refresh().await.unwrap();
    assert_eq!(collecting.collector.validate_metrics_availability(&model()).await, Ok(()));
    let misspelt = ModelKey::new("chat", "llama-3.1-8b");
    let error = collecting.collector.validate_metrics_availability(&misspelt).await.unwrap_err().to_string();
    assert!(
        error.contains("namespace chat has series of meta-llama/Llama-3.1-8B-Instruct, deepseek-ai/DeepSeek-V3"),
        "{error}"
    );
}
