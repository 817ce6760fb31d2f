//! The collector against real HTTP on loopback.

use std::sync::atomic::{AtomicBool, Ordering};

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
        Some(PodIdentity { variant: VariantKey::new(namespace, "v"), ready: true })
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
    assert_eq!(error, "1 of 1 pods; pod prod/p: it answered 503 Service Unavailable");
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
