//! Every fault of what `wva` senses with, in one table: what remains of what was known, what is said, and how many looks
//! (scrapes of a pod or an endpoint picker, fetches of Prometheus, requests to kube-apiserver) after its end all is as before.
//!
//! A look is counted and not timed: how long it takes is `collector.scrape.interval`, `collector.fetchInterval` and the
//! backoff of a watch.

mod apiserver;
mod pickers;
mod pods;
mod prometheus;

/// A row.
struct Fault {
    name: &'static str,
    subject: Subject,
    state: State,
    /// Part of what is said; `None` where there is nothing to say.
    message: Option<&'static str>,
    /// Looks after the end of the fault until all is known and nothing is said.
    recovery: usize,
}

/// Whose fault it is.
enum Subject {
    Pod(pods::Answer),
    /// An engine that starts again: its counters begin at zero.
    Restart,
    Prometheus(prometheus::Fault),
    Picker(pickers::Fault),
    ApiServer(apiserver::Fault),
}

/// What becomes of what was known before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It stays, with its age.
    Kept,
    /// There is this value, of now.
    Fresh(f64),
    /// There is no value.
    Missing,
}

/// What was found.
#[derive(Debug)]
struct Episode {
    state: State,
    said: Option<String>,
    recovery: usize,
}

fn faults() -> Vec<Fault> {
    use State::{Fresh, Kept, Missing};
    use pickers::Fault as Picker;
    use pods::Answer;
    use prometheus::Fault as Query;
    let pod = |name, answer, state, message| Fault { name, subject: Subject::Pod(answer), state, message, recovery: 1 };
    let query =
        |name, fault, state, message| Fault { name, subject: Subject::Prometheus(fault), state, message, recovery: 1 };
    let picker =
        |name, fault, state, message| Fault { name, subject: Subject::Picker(fault), state, message, recovery: 1 };
    let server = |name, fault, message, recovery| Fault {
        name,
        subject: Subject::ApiServer(fault),
        state: Kept,
        message,
        recovery,
    };
    let twice = format!("{}{}", pods::page(0.6), pods::page(0.6));
    let (many, too_many) = (pods::foreign_series(50_000), pods::foreign_series(100_000));
    vec![
        pod("a pod hangs up", Answer::HangUp, Kept, Some("pod prod/faulty: ")),
        pod("a pod is slow", Answer::Hang, Kept, Some("pod prod/faulty: ")),
        pod("a pod answers 503", Answer::Status("503 Service Unavailable"), Kept, Some("it answered 503")),
        pod("a pod asks who we are", Answer::Status("401 Unauthorized"), Kept, Some("it answered 401")),
        pod("a pod redirects", Answer::Status("302 Found"), Kept, Some("it answered 302")),
        pod("a pod is gone midway", Answer::EndsMidway(pods::page(0.6)), Kept, Some("pod prod/faulty: ")),
        pod("a pod says NaN", Answer::Text(pods::page(f64::NAN)), Missing, None),
        pod("a pod says infinity", Answer::Text(pods::page(f64::INFINITY)), Missing, None),
        pod("a pod says everything twice", Answer::Text(twice), Fresh(0.6), None),
        pod("a pod has labels of 10 kB with odd characters", Answer::Text(pods::odd_labels(0.7)), Fresh(0.7), None),
        pod("a pod has 50,000 series", Answer::Text(pods::page(0.6) + &many), Fresh(0.6), None),
        pod("a pod has 100,000 series", Answer::Text(pods::page(0.6) + &too_many), Kept, Some("exceeds 4194304 bytes")),
        // What it has instead is told per model, by validate_metrics_availability.
        pod("a pod answers with a page for people", Answer::Text("<html>welcome</html>".to_owned()), Kept, None),
        pod("a pod has another clock", Answer::TextOfYesterday(pods::page(0.6)), Fresh(0.6), None),
        // 10 tokens a second, but for the second of the restart.
        Fault {
            name: "the counters of a pod start again",
            subject: Subject::Restart,
            state: Fresh(8.4),
            message: None,
            recovery: 1,
        },
        query("Prometheus is down", Query::Down, Kept, Some("cannot be reached")),
        query("Prometheus is slow", Query::Slow, Kept, Some("cannot be reached: no answer within 300ms")),
        query("Prometheus answers 503", Query::Status(503), Kept, Some("503 Service Unavailable")),
        query("Prometheus has another authority", Query::WrongAuthority, Kept, Some("certificate")),
        query("the token has expired", Query::ExpiredToken, Kept, Some("refused our credentials (401)")),
        query("the file of the token is gone", Query::NoToken, Kept, Some("check prometheus.bearerTokenPath")),
        query("a query that adds detail fails", Query::Partial("request_success"), Fresh(0.6123), Some("request_rate")),
        query("a query that is needed fails", Query::Partial("kv_cache_usage"), Kept, Some("too many samples")),
        query("an answer ends midway", Query::EndsMidway, Kept, Some("EOF")),
        query("Prometheus says NaN", Query::NotANumber, Missing, None),
        query("Prometheus says each series twice", Query::Twice, Fresh(0.6123), None),
        query(
            "Prometheus answers in part",
            Query::InPart(""),
            Kept,
            Some("no store holds replica=\"a\"; what it leaves out"),
        ),
        query(
            "Prometheus answers one query in part",
            Query::InPart("kv_cache_usage"),
            Kept,
            Some("no store holds replica=\"a\"; what it leaves out"),
        ),
        query("Prometheus has labels of 10 kB with odd characters", Query::OddLabels, Fresh(0.6123), None),
        query("the clock of Prometheus is ahead", Query::Clock(3_600), Fresh(0.6123), None),
        query("the clock of Prometheus is behind", Query::Clock(-3_600), Fresh(0.6123), None),
        query("Prometheus has 100,000 series", Query::Foreign(100_000), Fresh(0.6123), None),
        picker("an endpoint picker is down", Picker::Down, Kept, Some("endpoint picker prod/127.0.0.1: ")),
        picker("an endpoint picker is slow", Picker::Slow, Kept, Some("timed out")),
        picker("an endpoint picker answers 503", Picker::Status(503), Kept, Some("it answered 503")),
        picker("an endpoint picker has another authority", Picker::WrongAuthority, Kept, Some("under collector.epp")),
        picker(
            "the token for endpoint pickers has expired",
            Picker::ExpiredToken,
            Kept,
            Some("collector.epp.bearerToken"),
        ),
        picker("an endpoint picker says NaN", Picker::NotANumber, Missing, None),
        server("kube-apiserver restarts", apiserver::Fault::Restart, Some("check that the API server is reachable"), 1),
        server("a watch has expired", apiserver::Fault::Gap, None, 2),
        server(
            "a right is taken away",
            apiserver::Fault::Forbidden,
            Some("grant the service account get, list and watch"),
            1,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_leaves_what_it_should_is_told_and_is_over_as_soon_as_its_cause() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut wrong = Vec::new();
    for Fault { name, subject, state, message, recovery } in faults() {
        let episode = match subject {
            Subject::Pod(answer) => pods::suffer(name, answer).await,
            Subject::Restart => pods::restart().await,
            Subject::Prometheus(fault) => prometheus::suffer(name, fault).await,
            Subject::Picker(fault) => pickers::suffer(name, fault).await,
            Subject::ApiServer(fault) => apiserver::suffer(name, fault),
        };
        let is_said = match message {
            Some(part) => episode.said.as_ref().is_some_and(|said| said.contains(part)),
            None => episode.said.is_none(),
        };
        if episode.state != state || !is_said || episode.recovery != recovery {
            wrong.push(format!("{name}: {episode:?}, not {state:?}, {message:?} and recovery after {recovery}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
