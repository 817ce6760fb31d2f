//! The simulated fleet from outside: what it exports, serves and repeats.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use wva::{
    clock::SimulatedClock,
    fleet::{
        CONTENT_TYPE, EngineScrape, Exposition, Fleet, GatewayScrape, LiveFleet, LoadPlan, NameGeneration, Picoseconds,
        Profile, VariantSpec, http as fleet_http,
    },
    interfaces::ModelKey,
};

const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

/// Rendered by vLLM 0.33's own metrics code, values invented.
const REAL: &str = include_str!("../fixtures/fleet/vllm-0.33-metrics.txt");

const PLAN: &str = "
models:
- model: meta-llama/Llama-3.1-8B-Instruct
  load:
    poisson:
      seed: 7
      steps: [{ rate: 60 }]
      promptTokens: { lognormal: { mean: 1000, sigma: 0.9, max: 16000 } }
      outputTokens: { lognormal: { mean: 200, sigma: 0.8, max: 2000 } }
";

fn key() -> ModelKey {
    ModelKey::new("default", MODEL)
}

fn add_replica(fleet: &mut Fleet) {
    let pool = fleet.pool_or_new(&key());
    pool.add_variant(VariantSpec::new("default/llama", Profile::built_in("llama-3.1-8b-h100").unwrap()));
    pool.add_replica("default/llama", Picoseconds::ZERO).unwrap();
}

fn fleet_under_load() -> Fleet {
    let mut fleet = Fleet::default();
    add_replica(&mut fleet);
    add_replica(&mut fleet);
    LoadPlan::parse(PLAN).unwrap().prepare().unwrap().apply(&mut fleet);
    fleet
}

fn render(fleet: &Fleet, exposition: Exposition) -> String {
    let replica = &fleet.pool(&key()).unwrap().replicas()[0];
    EngineScrape::new(exposition, MODEL, replica.engine()).render().unwrap()
}

/// Lines without their values.
fn shapes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 })
}

#[test]
fn an_engine_exports_what_the_real_one_does_line_for_line_and_in_its_order() {
    let mut fleet = fleet_under_load();
    fleet.advance_to(Picoseconds::from_millis(20_000));
    let text = render(&fleet, Exposition::default());
    let mut ours = shapes(&text);
    for expected in shapes(REAL) {
        assert!(ours.any(|line| line == expected), "missing, or not in this order: {expected}");
    }
}

#[test]
fn every_exported_line_parses_and_histograms_are_cumulative_and_agree_with_their_count() {
    let mut fleet = fleet_under_load();
    fleet.advance_to(Picoseconds::from_millis(60_000));
    let text = render(&fleet, Exposition::default());
    let mut buckets: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.strip_suffix('}').unwrap().split_once('{').unwrap();
        assert!(labels.split("\",").all(|label| label.contains("=\"")), "{line}");
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{line}");
        match name.strip_suffix("_bucket") {
            Some(histogram) => buckets.entry(histogram).or_default().push(value as u64),
            None => drop(values.insert(name, value)),
        }
    }
    assert_eq!(buckets.len(), 11);
    for (histogram, counts) in buckets {
        assert!(counts.is_sorted(), "{histogram}: {counts:?}");
        let count = values[format!("{histogram}_count").as_str()];
        assert_eq!(*counts.last().unwrap() as f64, count, "{histogram}");
        assert!(count > 0.0, "{histogram} has seen the load");
    }
    assert!((0.0..=1.0).contains(&values["vllm:kv_cache_usage_perc"]));
    assert!(values["vllm:generation_tokens_total"] > values["vllm:request_generation_tokens_sum"]);
}

#[test]
fn the_older_generation_has_the_older_names_and_not_the_newer() {
    let fleet = fleet_under_load();
    let exposition = Exposition { names: NameGeneration::Older, cache_config_info: false };
    let text = render(&fleet, exposition);
    for name in
        ["vllm:gpu_cache_usage_perc{", "vllm:time_per_output_token_seconds_sum{", "vllm:gpu_prefix_cache_hits_total{"]
    {
        assert!(text.contains(name), "{name}");
    }
    for name in ["vllm:kv_cache_usage_perc", "vllm:inter_token_latency", "engine=", "by_reason", "cache_config_info"] {
        assert!(!text.contains(name), "{name}");
    }
    let info = r#"vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="23250",engine="0"} 1.0"#;
    assert!(render(&fleet, Exposition::default()).contains(info));
}

#[test]
fn a_model_name_with_quotes_and_backslashes_is_escaped() {
    let engine = wva::fleet::Engine::new(&Profile::built_in("llama-3.1-8b-h100").unwrap(), Picoseconds::ZERO);
    let text = EngineScrape::new(Exposition::default(), "a\"b\\c\nd", &engine).render().unwrap();
    assert!(text.contains(r#"vllm:num_requests_running{model_name="a\"b\\c\nd",engine="0"} 0"#), "{text}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_however_often_one_looks() {
    let mut once = fleet_under_load();
    once.advance_to(Picoseconds::from_millis(30_000));
    let mut often = fleet_under_load();
    (0..=30_000).step_by(37).for_each(|at| often.advance_to(Picoseconds::from_millis(at)));
    often.advance_to(Picoseconds::from_millis(30_000));
    assert_eq!(render(&once, Exposition::default()), render(&often, Exposition::default()));

    let mut other = Fleet::default();
    add_replica(&mut other);
    LoadPlan::parse(&PLAN.replace("seed: 7", "seed: 8")).unwrap().prepare().unwrap().apply(&mut other);
    other.advance_to(Picoseconds::from_millis(30_000));
    assert_ne!(render(&once, Exposition::default()), render(&other, Exposition::default()));
}

#[test]
fn a_gateway_exports_what_it_holds_under_the_endpoint_pickers_names() {
    let mut fleet = Fleet::default();
    LoadPlan::parse(PLAN).unwrap().prepare().unwrap().apply(&mut fleet);
    fleet.advance_to(Picoseconds::from_millis(1000));
    let pool = fleet.pool(&key()).unwrap();
    let mut scrape = GatewayScrape::default();
    scrape.add(MODEL, pool);
    let text = scrape.render().unwrap();
    let queued = pool.gateway_queue();
    assert!(queued > 30);
    let queue = format!(
        "llm_d_epp_flow_control_queue_size{{fairness_id=\"default-flow\",priority=\"0\",inference_pool=\"{MODEL}\",\
         model_name=\"{MODEL}\",target_model_name=\"{MODEL}\"}} {queued}"
    );
    assert!(text.contains(&queue), "{text}");
    assert!(text.contains(&format!("llm_d_epp_ready_endpoints{{name=\"{MODEL}\"}} 0")), "{text}");
    assert!(text.contains("llm_d_epp_request_total{"), "{text}");
}

fn live() -> (Arc<SimulatedClock>, Arc<LiveFleet>) {
    let clock = Arc::new(SimulatedClock::new("2026-11-23T00:00:00Z".parse().unwrap()));
    let live = Arc::new(LiveFleet::new(clock.clone(), Exposition::default()));
    live.with(add_replica);
    (clock, live)
}

async fn send(routes: &Router, method: Method, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = routes.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn the_control_api_steers_the_load_and_shows_what_comes_of_it() {
    let (clock, live) = live();
    let routes = fleet_http::control_routes(live);
    let state = async || {
        let (status, body) = send(&routes, Method::GET, "/state", "").await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    assert_eq!(state().await["models"][0]["sloAttainment"], serde_json::Value::Null);

    assert_eq!(send(&routes, Method::POST, "/load", PLAN).await, (StatusCode::NO_CONTENT, String::new()));
    clock.advance(std::time::Duration::from_secs(30));
    let busy = state().await;
    assert_eq!(busy["elapsedSeconds"], 30.0);
    let model = &busy["models"][0];
    assert!(model["requests"]["arrived"].as_u64().unwrap() > 1000);
    assert!(model["sloAttainment"].as_f64().unwrap() < 1.0, "one replica cannot carry this");
    assert!((model["cost"].as_f64().unwrap() - 30.0 / 3600.0).abs() < 1e-9);
    assert_eq!(model["replicas"][0]["state"], "ready");
    assert!(model["replicas"][0]["running"].as_u64().unwrap() > 0);

    let stop = r#"{"models": [{"model": "meta-llama/Llama-3.1-8B-Instruct"}]}"#;
    assert_eq!(send(&routes, Method::POST, "/load", stop).await.0, StatusCode::NO_CONTENT);
    clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(state().await["models"][0]["inFlight"], 0);
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused_and_changes_nothing() {
    let (clock, live) = live();
    let routes = fleet_http::control_routes(live.clone());
    assert_eq!(send(&routes, Method::POST, "/load", PLAN).await.0, StatusCode::NO_CONTENT);
    let bad = PLAN.replace("rate: 60", "rate: -60");
    let (status, message) = send(&routes, Method::POST, "/load", &bad).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message.contains("load step 1: a rate"), "{message}");
    clock.advance(std::time::Duration::from_secs(1));
    assert!(live.report().models[0].requests.arrived > 30, "the load before it goes on");
}

#[tokio::test]
async fn a_replica_answers_on_its_own_listener_until_it_is_gone() {
    let (_clock, live) = live();
    let id = live.with(|fleet| fleet.pool(&key()).unwrap().replicas()[0].id());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let routes = fleet_http::replica_routes(live.clone(), key(), id);
    let server = tokio::spawn(fleet_http::serve(listener, routes, shutdown.clone()));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };

    let answer = get("/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains(&format!("content-type: {CONTENT_TYPE}")), "{answer}");
    assert!(answer.contains("vllm:num_requests_running"), "{answer}");
    assert!(get("/health").await.starts_with("HTTP/1.1 200 OK"));

    live.with(|fleet| fleet.pool_mut(&key()).unwrap().stop(id));
    assert!(get("/metrics").await.starts_with("HTTP/1.1 404 Not Found"));
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
