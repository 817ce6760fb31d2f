//! The collector against real HTTP on loopback.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::{Router, http::StatusCode, routing::get};

use super::*;
use crate::{
    clock::SimulatedClock,
    interfaces::{PodIdentity, Signal, VariantKey},
};

struct World {
    targets: Vec<ScrapeTarget>,
}

impl ScrapeTargets for World {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        self.targets.clone()
    }
}

impl PodDirectory for World {
    fn identify(&self, namespace: &str, _: &str) -> Option<PodIdentity> {
        Some(PodIdentity::ready(VariantKey::new(namespace, "v")))
    }
}

/// A pod whose KV-cache usage is `kv` until `broken` is set.
async fn pod(kv: Arc<Mutex<f64>>, broken: Arc<AtomicBool>) -> ScrapeTarget {
    let answer = move || async move {
        if broken.load(Ordering::SeqCst) {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        let kv = *kv.lock().unwrap();
        let text = format!(
            "vllm:kv_cache_usage_perc{{model_name=\"m\"}} {kv}\nvllm:num_requests_waiting{{model_name=\"m\"}} 2\n"
        );
        (StatusCode::OK, text)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(answer))).await });
    ScrapeTarget::new("prod", "p", format!("http://{address}/metrics"))
}

fn collector(clock: Arc<SimulatedClock>, targets: Vec<ScrapeTarget>) -> ScrapeCollector {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let world = Arc::new(World { targets });
    ScrapeCollector::new(ScrapeOptions::default(), clock, world.clone(), world).unwrap()
}

fn start() -> (Arc<SimulatedClock>, Timestamp) {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    (Arc::new(SimulatedClock::new(now)), now)
}

#[tokio::test]
async fn peaks_last_one_window_and_samples_keep_the_time_they_were_taken() {
    let (clock, now) = start();
    let kv = Arc::new(Mutex::new(0.9));
    let collector = collector(clock.clone(), vec![pod(kv.clone(), Arc::default()).await]);
    let model = ModelKey::new("prod", "m");
    let usage = async || collector.fetch_saturation_metrics(&model).await.unwrap()[0].kv_cache_usage;

    collector.refresh().await.unwrap();
    assert_eq!(usage().await, Signal::present(0.9, now));

    *kv.lock().unwrap() = 0.2;
    clock.advance(Duration::from_secs(60));
    collector.refresh().await.unwrap();
    assert_eq!(usage().await, Signal::present(0.9, now + Duration::from_secs(60)), "still within the window");

    clock.advance(Duration::from_secs(1));
    collector.refresh().await.unwrap();
    assert_eq!(usage().await, Signal::present(0.2, now + Duration::from_secs(61)));
}

#[tokio::test]
async fn a_pod_that_fails_keeps_its_last_sample_with_its_age_and_is_named() {
    let (clock, now) = start();
    let broken = Arc::new(AtomicBool::new(false));
    let collector = collector(clock.clone(), vec![pod(Arc::new(Mutex::new(0.5)), broken.clone()).await]);
    collector.refresh().await.unwrap();
    broken.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(30));
    assert!(collector.refresh().await.is_err());
    let metrics = collector.fetch_saturation_metrics(&ModelKey::new("prod", "m")).await.unwrap();
    assert_eq!(metrics[0].kv_cache_usage, Signal::present(0.5, now));
    let error = collector.health().last_error.unwrap();
    assert_eq!(error, "1 of 1 fail; pod prod/p: it answered 503 Service Unavailable");
}

#[tokio::test]
async fn a_model_nobody_serves_is_answered_with_the_models_that_are_served() {
    let (clock, _) = start();
    let collector = collector(clock, vec![pod(Arc::new(Mutex::new(0.5)), Arc::default()).await]);
    let wrong = ModelKey::new("prod", "M");
    assert_eq!(
        collector.fetch_saturation_metrics(&wrong).await.unwrap_err(),
        CollectorError::NotReadYet { source_name: "pod scraping".to_owned() }
    );
    collector.refresh().await.unwrap();
    assert!(collector.validate_metrics_availability(&ModelKey::new("prod", "m")).await.is_ok());
    let error = collector.validate_metrics_availability(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("pods there serve m; set spec.modelID"), "{error}");
}

/// Waits until `reached`.
async fn until(reached: impl Fn() -> bool) {
    while !reached() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A pod that counts how often it is asked, and answers as `answer` has it.
async fn counting<F: Future<Output = StatusCode> + Send>(
    name: &str,
    asked: &Arc<AtomicUsize>,
    answer: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> ScrapeTarget {
    let asked = asked.clone();
    let handler = move || {
        asked.fetch_add(1, Ordering::SeqCst);
        let status = answer();
        async move { (status.await, "vllm:num_requests_waiting{model_name=\"m\"} 0\n") }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(handler))).await });
    ScrapeTarget::new("prod", name, format!("http://{address}/metrics"))
}

/// The collector at work, until the token is cancelled.
fn running(
    targets: Vec<ScrapeTarget>,
    options: ScrapeOptions,
    period: Duration,
) -> (Arc<ScrapeCollector>, CancellationToken) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let world = Arc::new(World { targets });
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
    let collector = Arc::new(ScrapeCollector::new(options, clock, world.clone(), world).unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(collector.clone().run(period, stop.clone(), watch::Sender::new(0)));
    (collector, stop)
}

#[tokio::test]
async fn a_pod_that_never_answers_holds_up_no_other() {
    let (slow, sound) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let targets = vec![
        counting("slow", &slow, std::future::pending).await,
        counting("sound", &sound, async || StatusCode::OK).await,
    ];
    let options = ScrapeOptions { timeout: Duration::from_hours(1), concurrency: 2, ..ScrapeOptions::default() };
    let (collector, stop) = running(targets, options, Duration::from_millis(20));
    until(|| sound.load(Ordering::SeqCst) >= 10).await;
    assert_eq!(slow.load(Ordering::SeqCst), 1, "it is not asked again while it has not answered");
    assert!(collector.recorded() >= 9);
    stop.cancel();
}

#[tokio::test]
async fn a_pod_that_fails_is_asked_ever_less_often_and_as_often_as_before_once_it_answers() {
    let (failing, sound) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let answer = move || {
        let broken = state.load(Ordering::SeqCst);
        async move { if broken { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK } }
    };
    let targets =
        vec![counting("failing", &failing, answer).await, counting("sound", &sound, async || StatusCode::OK).await];
    let (collector, stop) = running(targets, ScrapeOptions::default(), Duration::from_millis(20));
    until(|| sound.load(Ordering::SeqCst) >= 60).await;
    let asked = failing.load(Ordering::SeqCst);
    assert!((2..=30).contains(&asked), "{asked} of 60");
    assert!(collector.health().last_error.is_some_and(|error| error.contains("503")));

    broken.store(false, Ordering::SeqCst);
    until(|| collector.health().last_error.is_none()).await;
    let (failing_before, sound_before) = (failing.load(Ordering::SeqCst), sound.load(Ordering::SeqCst));
    until(|| failing.load(Ordering::SeqCst) >= failing_before + 20).await;
    let sound = sound.load(Ordering::SeqCst) - sound_before;
    assert!(sound <= 40, "20 of one in the time of {sound} of the other");
    stop.cancel();
}

/// Targets that count how often they are listed.
struct Revised {
    targets: Vec<ScrapeTarget>,
    revision: AtomicUsize,
    listed: AtomicUsize,
}

impl ScrapeTargets for Revised {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        self.listed.fetch_add(1, Ordering::SeqCst);
        self.targets[..self.revision.load(Ordering::SeqCst)].to_vec()
    }

    fn revision(&self) -> Option<u64> {
        Some(self.revision.load(Ordering::SeqCst) as u64)
    }
}

#[tokio::test]
async fn targets_are_listed_again_only_when_they_may_have_changed() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let asked: [Arc<AtomicUsize>; 2] = Default::default();
    let targets = vec![
        counting("first", &asked[0], async || StatusCode::OK).await,
        counting("second", &asked[1], async || StatusCode::OK).await,
    ];
    let world = Arc::new(Revised { targets, revision: AtomicUsize::new(1), listed: AtomicUsize::new(0) });
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
    let pods = Arc::new(World { targets: Vec::new() });
    let collector = Arc::new(ScrapeCollector::new(ScrapeOptions::default(), clock, world.clone(), pods).unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(collector.clone().run(Duration::from_millis(20), stop.clone(), watch::Sender::new(0)));
    until(|| asked[0].load(Ordering::SeqCst) >= 5).await;
    assert_eq!(world.listed.load(Ordering::SeqCst), 1);
    world.revision.store(2, Ordering::SeqCst);
    until(|| asked[1].load(Ordering::SeqCst) >= 5).await;
    assert_eq!(world.listed.load(Ordering::SeqCst), 2);
    world.revision.store(0, Ordering::SeqCst);
    until(|| collector.served_models(&|_| true).is_empty()).await;
    stop.cancel();
}

#[tokio::test]
async fn a_gateway_is_asked_with_a_token_that_rotates_and_a_refusal_names_the_key() {
    let (clock, _) = start();
    let accepted = |headers: http::HeaderMap| async move {
        let granted = headers.get(AUTHORIZATION).is_some_and(|value| value == "Bearer second");
        let text = "llm_d_epp_flow_control_queue_size{model_name=\"m\",target_model_name=\"m\"} 4\n";
        if granted { (StatusCode::OK, text) } else { (StatusCode::UNAUTHORIZED, "") }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(accepted))).await });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "first").unwrap();
    let target = ScrapeTarget::new("prod", "epp", format!("http://{address}/metrics"));
    let collector = collector(clock, vec![target])
        .reading(ScrapedKind::Gateways)
        .authorized_by(Some(BearerToken::File(token.path().to_owned())));
    let error = collector.refresh().await.unwrap_err().to_string();
    let expected = "endpoint picker prod/epp: it answered 401 Unauthorized; set collector.epp.bearerTokenPath";
    assert!(error.contains(expected), "{error}");

    std::fs::write(token.path(), "second").unwrap();
    collector.refresh().await.unwrap();
    let metrics = collector.fetch_model_metrics(&ModelKey::new("prod", "m")).await;
    assert_eq!(metrics.gateway_queue.value(), Some(&4.0));
    assert_eq!(collector.health().last_error, None);
}
