//! Health: `/livez`, `/healthz` and `/readyz`.
//!
//! Readiness says whether this server *can answer*, not whether the engine has an opinion: an unready server takes the
//! whole API group down, and with it namespace deletion. Engine trouble is told per variant, in the answers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::response::{IntoResponse as _, Response};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Name of the check that fails from the start of a shutdown.
const SHUTDOWN: &str = "shutdown";
/// Name of the check that always passes: the process answers.
const PING: &str = "ping";

/// Which checks are asked for, by the name of their path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checks {
    /// Whether the process serves.
    Healthz,
    /// The same.
    Livez,
    /// Whether it can answer.
    Readyz,
}

impl Checks {
    pub(super) const ALL: [Self; 3] = [Self::Healthz, Self::Livez, Self::Readyz];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }
}

/// Checks that must pass before requests are sent here; clones share one state. Without checks it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<&'static str, Outcome>>>,
    indicators: Indicators,
}

/// Why a check fails, if it does.
type Outcome = Result<(), String>;

/// What became of checks, under the names of `k8s.io/component-base`.
#[derive(Clone, Debug, Default)]
struct Indicators {
    last: Family<Check, Gauge>,
    total: Family<CheckStatus, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    name: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckStatus {
    name: &'static str,
    status: &'static str,
    r#type: &'static str,
}

/// Sets the outcome of one check.
#[derive(Clone, Debug)]
pub struct ReadinessCheck {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// Adds a check that fails until it is told to pass.
    pub fn add(&self, name: &'static str) -> ReadinessCheck {
        let check = ReadinessCheck { readiness: self.clone(), name };
        check.fail("has not finished yet");
        check
    }

    /// Fails readiness for good, so that no new clients come while those here are still served. Call it a few seconds
    /// before the listener is closed.
    pub fn begin_shutdown(&self) {
        self.checks().insert(SHUTDOWN, Err("the process is shutting down".to_owned()));
    }

    /// Whether all checks pass.
    pub fn is_ready(&self) -> bool {
        self.checks().values().all(Result::is_ok)
    }

    /// What became of checks that somebody asked for, as `OpenMetrics` text.
    pub(super) fn slis(&self) -> String {
        let mut registry = Registry::default();
        let Indicators { last, total } = &self.indicators;
        registry.register("kubernetes_healthcheck", "The last result of a check: 1 is good", last.clone());
        registry.register("kubernetes_healthchecks", "Results of checks", total.clone());
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    /// The checks behind a path, each with its outcome.
    fn outcomes(&self, of: Checks) -> Vec<(&'static str, Outcome)> {
        let mut outcomes = vec![(PING, Ok(()))];
        if of == Checks::Readyz {
            let checks = self.checks();
            outcomes.extend(checks.iter().map(|(name, outcome)| (*name, outcome.clone())));
            if !checks.contains_key(SHUTDOWN) {
                outcomes.push((SHUTDOWN, Ok(())));
            }
        }
        outcomes
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<&'static str, Outcome>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Indicators {
    fn count(&self, of: Checks, name: &'static str, is_good: bool) {
        let status = if is_good { "success" } else { "error" };
        self.last.get_or_create(&Check { name, r#type: of.name() }).set(i64::from(is_good));
        self.total.get_or_create(&CheckStatus { name, status, r#type: of.name() }).inc();
    }
}

impl ReadinessCheck {
    /// The check passes.
    pub fn pass(&self) {
        self.readiness.checks().insert(self.name, Ok(()));
    }

    /// The check fails; `reason` is shown to anyone who asks.
    pub fn fail(&self, reason: impl Into<String>) {
        self.readiness.checks().insert(self.name, Err(reason.into()));
    }
}

/// Answer of `/healthz`, `/livez` and `/readyz`; lists the checks when asked to (`?verbose`) and when one fails. Checks that
/// are `excluded` (`?exclude=NAME`) count as passed.
pub(super) fn all(readiness: &Readiness, of: Checks, verbose: bool, excluded: &[String]) -> Response {
    let is_excluded = |name: &str| excluded.iter().any(|excluded| excluded == name);
    let (mut passes, mut lines) = (true, String::new());
    for (name, outcome) in readiness.outcomes(of) {
        // Writing to a String cannot fail.
        let _ = match outcome {
            _ if is_excluded(name) => {
                let _ = writeln!(lines, "[+]{name} excluded: ok");
                continue;
            }
            Ok(()) => writeln!(lines, "[+]{name} ok"),
            Err(ref reason) => writeln!(lines, "[-]{name} failed: {reason}"),
        };
        readiness.indicators.count(of, name, outcome.is_ok());
        passes &= outcome.is_ok();
    }
    if passes && !verbose {
        return text(StatusCode::OK, "ok".to_owned());
    }
    let _ = writeln!(lines, "{} check {}", of.name(), if passes { "passed" } else { "failed" });
    text(if passes { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, lines)
}

/// Answer of `/readyz/NAME` and its like: that check alone; `None` when there is none of that name.
pub(super) fn one(readiness: &Readiness, of: Checks, name: &str) -> Option<Response> {
    let (name, outcome) = readiness.outcomes(of).into_iter().find(|(check, _)| *check == name)?;
    readiness.indicators.count(of, name, outcome.is_ok());
    Some(match outcome {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{name} failed: {reason}\n")),
    })
}

fn text(status: StatusCode, body: String) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_check_and_ends_with_the_shutdown() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let (trust, decisions) = (readiness.add("trust"), readiness.add("decisions"));
        assert!(!readiness.is_ready());
        trust.pass();
        assert!(!readiness.is_ready());
        decisions.pass();
        assert!(readiness.is_ready());
        decisions.fail("heartbeat stopped");
        assert_eq!(all(&readiness, Checks::Readyz, false, &[]).status(), StatusCode::INTERNAL_SERVER_ERROR);
        decisions.pass();
        readiness.begin_shutdown();
        assert!(!readiness.is_ready());
        assert_eq!(all(&readiness, Checks::Readyz, false, &[]).status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(all(&readiness, Checks::Livez, false, &[]).status(), StatusCode::OK);
    }

    #[test]
    fn every_check_is_behind_its_paths_and_counted_when_it_is_asked_for() {
        let readiness = Readiness::default();
        let trust = readiness.add("trust");
        let is = |of, name: &str| one(&readiness, of, name).map(|answer| answer.status().as_u16());
        for of in Checks::ALL {
            assert_eq!(is(of, "ping"), Some(200), "{of:?}");
            assert_eq!(is(of, "nonsense"), None, "{of:?}");
        }
        assert_eq!((is(Checks::Readyz, "trust"), is(Checks::Livez, "trust")), (Some(500), None));
        assert_eq!(is(Checks::Readyz, "shutdown"), Some(200));
        trust.pass();
        assert_eq!(is(Checks::Readyz, "trust"), Some(200));
        readiness.begin_shutdown();
        all(&readiness, Checks::Readyz, true, &["ping".to_owned()]);
        let text = readiness.slis();
        for line in [
            r#"kubernetes_healthcheck{name="trust",type="readyz"} 1"#,
            r#"kubernetes_healthcheck{name="shutdown",type="readyz"} 0"#,
            r#"kubernetes_healthchecks_total{name="trust",status="error",type="readyz"} 1"#,
            r#"kubernetes_healthchecks_total{name="trust",status="success",type="readyz"} 2"#,
            r#"kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1"#,
            r#"kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 1"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
