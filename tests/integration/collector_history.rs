//! A simulated engine read directly and through its exposition text: the simulator may leave the text out.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use wva::{
    clock::SimulatedClock,
    collector::{
        history::{ScrapeHistory, ScrapeTarget, Windows},
        mapping::{EngineCatalog, gateway_readings},
    },
    fleet::{Exposition, LiveFleet, NameGeneration, Profile, VariantSpec},
    interfaces::{EngineKind, EngineReading, HistogramReading, ModelKey, Quantity},
};

#[test]
fn a_simulated_engine_says_the_same_with_and_without_text() {
    let clock = std::sync::Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
    for (names, cache_config_info) in
        [(NameGeneration::Current, true), (NameGeneration::Current, false), (NameGeneration::Older, true)]
    {
        let fleet = LiveFleet::new(clock.clone(), Exposition { names, cache_config_info });
        let model = ModelKey::new("llm", "some/model");
        fleet.with(|fleet| {
            let pool = fleet.pool_or_new(&model);
            let mut spec = VariantSpec::new("v", Profile::built_in("llama-3.1-8b-h100").unwrap());
            spec.cold_start = Duration::ZERO.into();
            pool.add_variant(spec);
            pool.set_replicas("v", 1).unwrap();
        });
        let id = fleet.report().models[0].replicas[0].id;
        let scrape = fleet.scrape(&model, id).unwrap();
        let read = EngineCatalog::default().readings(&scrape.clone().render().unwrap());
        assert_eq!(read, [scrape.reading()], "{names:?}");
        assert!(gateway_readings(&fleet.scrape_gateway("llm").render().unwrap())[0].queue.is_some());
    }
}

/// A day of ten replicas at a period of five seconds. Prints what it costs; run it in a release build for a figure.
#[test]
#[ignore = "a benchmark: cargo test --release --test integration -- --ignored --nocapture a_day_of"]
fn a_day_of_ten_replicas() {
    let targets: Vec<_> = (0..10).map(|n| ScrapeTarget::new("llm", format!("pod-{n}"), "")).collect();
    let bounds: [std::sync::Arc<[f64]>; 5] = [22, 19, 21, 17, 17].map(|n| (1..=n).map(f64::from).collect());
    let model = ModelKey::new("llm", "m");
    let mut history = ScrapeHistory::new(Windows::default());
    let started = Instant::now();
    let mut checked = 0.0;
    for second in (0..86_400).step_by(5) {
        let at = Timestamp::from_second(second).unwrap();
        for target in &targets {
            let mut reading = EngineReading::new(EngineKind::Vllm, model.model_id.clone(), "0");
            for quantity in Quantity::GAUGES.into_iter().chain(Quantity::COUNTERS) {
                reading.set(quantity, second as f64);
            }
            for (quantity, bounds) in Quantity::HISTOGRAMS.into_iter().zip(&bounds) {
                let counts = vec![second as f64; bounds.len() + 1];
                reading
                    .set_histogram(quantity, HistogramReading { bounds: bounds.clone(), counts, sum: second as f64 });
            }
            history.record(at, target, [reading]);
        }
        if second % 15 == 0 {
            let metrics = history.replica_metrics(&model, |_| None);
            checked += metrics[0].request_rate.value().copied().unwrap_or(0.0);
            checked += history.model_metrics(&model).prompt_lengths.map_or(0.0, |lengths| lengths.mean);
        }
    }
    println!("a day of ten replicas every 5 s, signals every 15 s: {:?} ({checked:.0})", started.elapsed());
}
