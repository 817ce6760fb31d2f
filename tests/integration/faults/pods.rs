//! Pods that are scraped directly, and fail.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use wva::{
    clock::SimulatedClock,
    collector::scrape::{ScrapeCollector, ScrapeOptions, ScrapeTarget, ScrapeTargets},
    interfaces::{MetricsCollector, ModelKey, PodDirectory, PodIdentity, ReplicaMetrics, Signal, VariantKey},
};

use super::{Episode, State};

/// How a pod answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// With this body.
    Text(String),
    /// With this body, under a `Date` header of long ago.
    TextOfYesterday(String),
    /// With this status line.
    Status(&'static str),
    /// Never.
    Hang,
    /// By closing the connection.
    HangUp,
    /// With half a body.
    EndsMidway(String),
}

pub(super) fn page(kv: f64) -> String {
    format!("vllm:kv_cache_usage_perc{{model_name=\"m\"}} {kv}\nvllm:num_requests_waiting{{model_name=\"m\"}} 2\n")
}

pub(super) fn odd_labels(kv: f64) -> String {
    let long = "x".repeat(10_000);
    format!("vllm:kv_cache_usage_perc{{model_name=\"m\",adapter=\"a\\\"b\\\\c\\n{long}\u{1f600}\"}} {kv}\n")
}

pub(super) fn foreign_series(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "process_of_something_else_total{{shard=\"{number}\"}} 1").unwrap();
        text
    })
}

struct Pod {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

impl Pod {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(Answer::Text(page(0.5))));
        let current = answer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = current.lock().unwrap().clone();
                // A client that gave up is what some faults are about.
                tokio::spawn(async move { drop(give(stream, answer).await) });
            }
        });
        Self { address, answer }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

async fn give(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut request = [0; 4096];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    let (head, body, length) = match answer {
        Answer::Text(body) => ("200 OK".to_owned(), body.clone(), body.len()),
        Answer::TextOfYesterday(body) => {
            ("200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), body.clone(), body.len())
        }
        Answer::Status(status) => (status.to_owned(), String::new(), 0),
        Answer::EndsMidway(body) => ("200 OK".to_owned(), body[..body.len() / 2].to_owned(), body.len()),
        Answer::HangUp => return Ok(()),
        Answer::Hang => return std::future::pending().await,
    };
    let text = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

struct World(Vec<ScrapeTarget>);

impl ScrapeTargets for World {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        self.0.clone()
    }
}

impl PodDirectory for World {
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity> {
        Some(PodIdentity::ready(VariantKey::new(namespace, pod)))
    }
}

/// Of each pod, by its name.
async fn usage(collector: &ScrapeCollector, pod: &str) -> Signal<f64> {
    let replicas = collector.fetch_saturation_metrics(&ModelKey::new("prod", "m")).await.unwrap();
    let of_pod = |replica: &&ReplicaMetrics| replica.variant.as_ref().is_some_and(|variant| &*variant.name == pod);
    replicas.iter().find(of_pod).map_or(Signal::Missing, |replica| replica.kv_cache_usage)
}

/// What a fault of one of two pods does; the other is untouched.
pub(super) async fn suffer(name: &str, answer: Answer) -> Episode {
    let (sound, faulty) = (Pod::start().await, Pod::start().await);
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let clock = Arc::new(SimulatedClock::new(start));
    let target = |name: &str, pod: &Pod| ScrapeTarget::new("prod", name, format!("http://{}/metrics", pod.address));
    let world = Arc::new(World(vec![target("sound", &sound), target("faulty", &faulty)]));
    let options = ScrapeOptions { timeout: Duration::from_secs(1), ..ScrapeOptions::default() };
    let collector = ScrapeCollector::new(options, clock.clone(), world.clone(), world).unwrap();
    collector.refresh().await.unwrap();
    assert_eq!(usage(&collector, "faulty").await, Signal::present(0.5, start), "{name}: before");

    faulty.answers(answer);
    // The peak of before is out of the window.
    clock.advance(Duration::from_secs(61));
    let now = start + Duration::from_secs(61);
    collector.refresh().await.unwrap();
    let state = match usage(&collector, "faulty").await {
        Signal::Present { value, sampled_at } if sampled_at == now => State::Fresh(value),
        found if found == Signal::present(0.5, start) => State::Kept,
        _ => State::Missing,
    };
    assert_eq!(usage(&collector, "sound").await, Signal::present(0.5, now), "{name}: the other pod");
    let said = || collector.sources().into_iter().find_map(|source| source.last_error);
    let said_during = said();

    faulty.answers(Answer::Text(page(0.4)));
    let mut recovery = 0;
    loop {
        recovery += 1;
        clock.advance(Duration::from_secs(61));
        collector.refresh().await.unwrap();
        let recovered = Signal::present(0.4, start + Duration::from_secs(61 * (recovery as u64 + 1)));
        if (usage(&collector, "faulty").await == recovered && said().is_none()) || recovery == 10 {
            return Episode { state, said: said_during, recovery };
        }
    }
}

/// What a restart of an engine does to a rate, to the tenth. That it is over is said by the rate: not negative, and never
/// more than there was.
pub(super) async fn restart() -> Episode {
    let pod = Pod::start().await;
    let clock = Arc::new(SimulatedClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
    let target = ScrapeTarget::new("prod", "p", format!("http://{}/metrics", pod.address));
    let world = Arc::new(World(vec![target]));
    let collector = ScrapeCollector::new(ScrapeOptions::default(), clock.clone(), world.clone(), world).unwrap();
    // 10 tokens a second, but for the restart after 30 s: 5 tokens were made since, in the second before that scrape.
    let counts = [1000, 1100, 1200, 1300, 5, 105, 205];
    let (mut rate, mut looks_off) = (0.0, 0);
    for (look, count) in counts.into_iter().enumerate() {
        let tokens = format!("vllm:generation_tokens_total{{model_name=\"m\"}} {count}\n");
        pod.answers(Answer::Text(page(0.5) + &tokens));
        collector.refresh().await.unwrap();
        clock.advance(Duration::from_secs(10));
        let replicas = collector.fetch_saturation_metrics(&ModelKey::new("prod", "m")).await.unwrap();
        rate = replicas[0].performance.generation_token_rate.value().copied().unwrap_or_default();
        looks_off += usize::from(look >= 4 && !(0.0..=10.0).contains(&rate));
    }
    let said = collector.sources().into_iter().find_map(|source| source.last_error);
    Episode { state: State::Fresh((rate * 10.0).round() / 10.0), said, recovery: 1 + looks_off }
}
