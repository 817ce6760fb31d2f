//! A benchmark (`hack/bench-slow`): reads as the HPA makes them, alone and beside 1,000 connections that dawdle and 32 that
//! flood. Figures and ratios are printed; only what is far off fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{interval, sleep},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{Bed, Scenario, Variant, Wva, report};

const SLOW: usize = 1000;
const FLOODING: usize = 32;
/// Requests under way on each flooding connection.
const DEPTH: usize = 8;
/// Reads of one measurement, and the pause between two.
const READS: usize = 1000;
const PACE: Duration = Duration::from_millis(10);
/// Goals, as multiples of idle.
const LATENCY_GOAL: f64 = 5.0;
const MEMORY_GOAL: f64 = 2.0;
/// How many times the goal is an error: machines differ, and others use this one.
const FAR_OFF: f64 = 4.0;

fn connector(protocol: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&Bed::get().authority).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn handshake(connector: &TlsConnector, port: u16) -> Option<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.ok()
}

/// Holds a connection as long as the server lets it, in one of four ways; then opens the next.
async fn dawdle(number: usize, port: u16, http1: TlsConnector, http2: TlsConnector) {
    let mut nothing = [0; 256];
    loop {
        match number % 4 {
            0 => {
                // No handshake.
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
                    let _ = stream.read(&mut nothing).await;
                }
            }
            1 => {
                // No request.
                if let Some(mut stream) = handshake(&http1, port).await {
                    let _ = stream.read(&mut nothing).await;
                }
            }
            2 => {
                // A head that never ends.
                if let Some(mut stream) = handshake(&http1, port).await {
                    let _ = stream.write_all(b"GET /apis HTTP/1.1\r\nHost: localhost\r\nX-A: ").await;
                    while stream.write_all(b"a").await.is_ok() {
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            _ => {
                // The preface of HTTP/2, settings, and half a frame.
                if let Some(mut stream) = handshake(&http2, port).await {
                    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0").await;
                    while stream.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Asks as fast as it is answered, without a right to.
async fn flood(number: usize, url: String, answered: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    // One connection of HTTP/2.
    let http = Wva::http(None);
    let asks = (0..DEPTH).map(|_| {
        let (http, url, answered, stop) = (http.clone(), url.clone(), answered.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let request = http.get(&url);
                let request = if number.is_multiple_of(2) { request } else { request.bearer_auth("garbage") };
                if request.send().await.is_ok() {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    futures::future::join_all(asks).await;
}

/// Reads at a steady pace; the median and the 99th percentile.
async fn read(http: &reqwest::Client, url: &str) -> (Duration, Duration) {
    let mut ticks = interval(PACE);
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        ticks.tick().await;
        let began = Instant::now();
        let request =
            http.get(url).header("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler");
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.bytes().await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    (times[READS / 2], times[READS * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark; hack/bench-slow runs it"]
async fn slow_and_flooding_connections_leave_the_hpas_reads_alone() {
    let mut scenario = Scenario::start("slow").await;
    scenario.cluster.create(&[Variant::cheap(1, 3)]).await;
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas?labelSelector=variant_name%3Dcheap",
        scenario.cluster.namespace
    );
    let (url, port) = (scenario.wva.url(&path), scenario.wva.port());
    let hpa = Wva::http(Some(&Bed::get().front_proxy));
    read(&hpa, &url).await;
    let (idle_median, idle) = read(&hpa, &url).await;
    let idle_memory = scenario.wva.process().resident_memory();

    let (http1, http2) = (connector(b"http/1.1"), connector(b"h2"));
    let mut others = JoinSet::new();
    for number in 0..SLOW {
        others.spawn(dawdle(number, port, http1.clone(), http2.clone()));
    }
    // Their handshakes are a cost of their own, and over by now.
    sleep(Duration::from_secs(4)).await;
    let (slow_median, slow) = read(&hpa, &url).await;
    let slow_memory = scenario.wva.process().resident_memory();
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let floods: Vec<_> =
        (0..FLOODING).map(|number| tokio::spawn(flood(number, url.clone(), answered.clone(), stop.clone()))).collect();
    sleep(Duration::from_secs(1)).await;
    let (before, began) = (answered.load(Ordering::Relaxed), Instant::now());
    let (loaded_median, loaded) = read(&hpa, &url).await;
    let refusals = (answered.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    let memory = scenario.wva.process().resident_memory();
    stop.store(true, Ordering::Relaxed);
    others.shutdown().await;
    for flood in floods {
        flood.abort();
    }

    let times = |one: Duration, idle: Duration| one.as_secs_f64() / idle.as_secs_f64();
    let line = |what: &str, median: Duration, p99: Duration, memory: u64| {
        let (micros, growth) = (|time: Duration| time.as_micros(), memory as f64 / idle_memory as f64);
        report(
            "slow",
            &format!(
                "{what:<42} p50 {:>6} µs  p99 {:>6} µs ({:.1} × idle)  RSS {:>4} MiB ({growth:.2} × idle)",
                micros(median),
                micros(p99),
                times(p99, idle),
                memory / 1024
            ),
        );
    };
    line("idle", idle_median, idle, idle_memory);
    line(&format!("{SLOW} slow connections"), slow_median, slow, slow_memory);
    line(&format!("… and {FLOODING} flooding ones × {DEPTH}"), loaded_median, loaded, memory);
    report(
        "slow",
        &format!("goals: p99 ≤ {LATENCY_GOAL} × idle, RSS ≤ {MEMORY_GOAL} × idle; refusals answered: {refusals:.0}/s"),
    );
    assert!(
        times(loaded, idle) < LATENCY_GOAL * FAR_OFF && memory as f64 / (idle_memory as f64) < MEMORY_GOAL * FAR_OFF
    );
}
