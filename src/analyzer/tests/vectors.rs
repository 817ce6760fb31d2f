//! `tests/fixtures/analyzer/queue-vectors.json`: an independent implementation of the primitives and of upstream's
//! model in double precision.

use serde::Deserialize;

use crate::analyzer::{
    MM1KModel, MM1StateDependent, QueueError, Target,
    upstream::{Analysis, MeanLengths, Parameters, QueueAnalyzer, Targets},
};

#[derive(Deserialize)]
struct Vectors {
    mm1k: Vec<Mm1k>,
    sd: Vec<StateDependent>,
    qa: Vec<Analyzer>,
    unit: Vec<Unit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(non_snake_case, reason = "the vector's spelling")]
struct Mm1k {
    K: u32,
    #[serde(rename = "lam")]
    lambda: f64,
    #[serde(rename = "mu")]
    mu: f64,
    L: f64,
    T: f64,
    W: f64,
    X: f64,
    #[serde(rename = "pK")]
    full: f64,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the vector's spelling")]
struct StateDependent {
    K: u32,
    mu: Vec<f64>,
    lam: f64,
    rho: f64,
    L: f64,
    ns: f64,
    X: f64,
    T: f64,
    W: f64,
    S: f64,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the vector's spelling")]
struct Analyzer {
    B: u32,
    Q: u32,
    alpha: f64,
    beta: f64,
    gamma: f64,
    I: f64,
    O: f64,
    rate_min: f64,
    rate_max: f64,
    analyze: Vec<At>,
    size: Vec<Size>,
}

#[derive(Deserialize)]
struct At {
    rate: f64,
    throughput: f64,
    resp: f64,
    wait: f64,
    n_serv: f64,
    prefill: f64,
    itl: f64,
    ttft: f64,
    rho: f64,
}

#[derive(Deserialize)]
struct Size {
    ttft: f64,
    itl: f64,
    tps: f64,
    rate_ttft: Option<f64>,
    rate_itl: Option<f64>,
    rate_tps: Option<f64>,
    at: Option<At>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the vector's spelling")]
struct Unit {
    alpha: f64,
    beta: f64,
    gamma: f64,
    I: f64,
    O: f64,
    n: f64,
    T: f64,
    prefill: f64,
    decode: f64,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../tests/fixtures/analyzer/queue-vectors.json")).unwrap()
}

/// Within a millionth, relative or absolute.
#[track_caller]
fn close(actual: f64, expected: f64, what: &str) {
    assert!((actual - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {actual}, expected {expected}");
}

#[test]
fn mm1k_gives_the_vectors() {
    for vector in vectors().mm1k {
        let queue = MM1KModel::new(vector.lambda, vector.mu, vector.K).unwrap().metrics();
        close(queue.in_system, vector.L, "L");
        close(queue.response_time, vector.T, "T");
        close(queue.waiting_time, vector.W, "W");
        close(queue.throughput, vector.X, "X");
        close(queue.blocking_probability, vector.full, "pK");
    }
}

#[test]
fn the_state_dependent_queue_gives_the_vectors() {
    for vector in vectors().sd {
        let queue = MM1StateDependent::new(vector.lam, &vector.mu, vector.K).unwrap().metrics();
        close(queue.utilization, vector.rho, "rho");
        close(queue.in_system, vector.L, "L");
        close(queue.in_service, vector.ns, "ns");
        close(queue.throughput, vector.X, "X");
        close(queue.response_time, vector.T, "T");
        close(queue.waiting_time, vector.W, "W");
        close(queue.service_time, vector.S, "S");
    }
}

#[test]
fn upstreams_iteration_times_are_the_vectors() {
    for vector in vectors().unit {
        let parameters =
            Parameters { alpha: vector.alpha, beta: vector.beta, gamma: vector.gamma, max_batch: 256, max_queue: 100 };
        let analyzer = QueueAnalyzer::new(parameters, MeanLengths { input: vector.I, output: vector.O }).unwrap();
        close(analyzer.iteration_time(vector.n), vector.T, "T");
        close(analyzer.prefill_time(vector.n), vector.prefill, "prefill");
        close(analyzer.decode_time(vector.n), vector.decode, "decode");
    }
}

/// Upstream's own unit tests (wva 0.9, `pkg/analyzer`).
#[test]
fn upstreams_unit_tests_of_prefill_and_decode_hold() {
    let analyzer = |alpha, beta, gamma, input, output| {
        let parameters = Parameters { alpha, beta, gamma, max_batch: 8, max_queue: 16 };
        QueueAnalyzer::new(parameters, MeanLengths { input, output }).unwrap()
    };
    for (input, n, expected) in [(1000.0, 1.0, 32.0), (2000.0, 8.0, 208.0), (500.0, 2.5, 29.25)] {
        close(analyzer(10.0, 0.01, 0.001, input, 0.0).prefill_time(n), expected, "prefill");
    }
    for (n, expected) in [(1.0, 1.23), (2.5, 1.4025), (4.0, 1.575), (8.0, 2.035)] {
        close(analyzer(1.0, 0.1, 0.01, 1.0, 1.0).decode_time(n), expected, "decode");
    }
}

#[test]
fn upstreams_analyze_and_size_give_the_vectors() {
    for vector in vectors().qa {
        let parameters = Parameters {
            alpha: vector.alpha,
            beta: vector.beta,
            gamma: vector.gamma,
            max_batch: vector.B,
            max_queue: vector.Q,
        };
        let analyzer = QueueAnalyzer::new(parameters, MeanLengths { input: vector.I, output: vector.O }).unwrap();
        let (least, most) = analyzer.rate_range();
        close(least, vector.rate_min, "least rate");
        close(most, vector.rate_max, "greatest rate");
        for at in &vector.analyze {
            same(&analyzer.analyze(at.rate).unwrap(), at);
        }
        for size in &vector.size {
            let targets =
                Targets { time_to_first_token: size.ttft, inter_token_latency: size.itl, tokens_per_second: size.tps };
            let sizing = analyzer.size(&targets);
            if size.error.is_some() {
                let error = sizing.unwrap_err();
                assert!(
                    matches!(error, QueueError::Infeasible { target: Target::InterTokenLatency, .. }),
                    "{error}: the time between tokens is what cannot be met"
                );
                continue;
            }
            let sizing = sizing.unwrap();
            close(sizing.rate_time_to_first_token, size.rate_ttft.unwrap(), "rate by first token");
            close(sizing.rate_inter_token_latency, size.rate_itl.unwrap(), "rate by time between tokens");
            close(sizing.rate_tokens_per_second, size.rate_tps.unwrap(), "rate by tokens per second");
            same(&sizing.at, size.at.as_ref().unwrap());
        }
    }
}

#[track_caller]
fn same(analysis: &Analysis, at: &At) {
    close(analysis.rate, at.rate, "rate");
    close(analysis.throughput, at.throughput, "throughput");
    close(analysis.response_time, at.resp, "response time");
    close(analysis.waiting_time, at.wait, "waiting time");
    close(analysis.concurrency, at.n_serv, "concurrency");
    close(analysis.prefill_time, at.prefill, "prefill");
    close(analysis.inter_token_latency, at.itl, "time between tokens");
    close(analysis.time_to_first_token, at.ttft, "time to first token");
    close(analysis.utilization, at.rho, "utilization");
}
