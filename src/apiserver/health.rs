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

/// Name of the check that fails from the start of a shutdown.
const SHUTDOWN: &str = "shutdown";

/// Checks that must pass before requests are sent here; clones share one state. Without checks it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

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

    fn checks(&self) -> MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Answer of `/livez` and `/healthz`: the process serves. `name` is that of the path, for whoever asks in more words
/// (`?verbose`).
pub(super) fn live(name: &str, verbose: bool) -> Response {
    text(StatusCode::OK, if verbose { format!("[+]ping ok\n{name} check passed\n") } else { "ok".to_owned() })
}

/// Answer of `/readyz`; lists the checks when asked to (`?verbose`) and when one fails. Checks that are `excluded`
/// (`?exclude=NAME`) count as passed.
pub(super) fn ready(readiness: &Readiness, verbose: bool, excluded: &[String]) -> Response {
    let checks = readiness.checks();
    let is_excluded = |name: &str| excluded.iter().any(|excluded| excluded == name);
    let passes = checks.iter().all(|(name, outcome)| outcome.is_ok() || is_excluded(name));
    if passes && !verbose {
        return text(StatusCode::OK, "ok".to_owned());
    }
    let mut lines = String::from("[+]ping ok\n");
    for (name, outcome) in checks.iter() {
        // Writing to a String cannot fail.
        let _ = match outcome {
            _ if is_excluded(name) => writeln!(lines, "[+]{name} excluded: ok"),
            Ok(()) => writeln!(lines, "[+]{name} ok"),
            Err(reason) => writeln!(lines, "[-]{name} failed: {reason}"),
        };
    }
    lines.push_str(if passes { "readyz check passed\n" } else { "readyz check failed\n" });
    text(if passes { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, lines)
}

/// Answer of `/readyz/NAME`: that check alone; `None` when there is none of that name.
pub(super) fn check(readiness: &Readiness, name: &str) -> Option<Response> {
    match readiness.checks().get(name)? {
        Ok(()) => Some(live(name, false)),
        Err(reason) => Some(text(StatusCode::INTERNAL_SERVER_ERROR, format!("{name} failed: {reason}\n"))),
    }
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
        assert_eq!(ready(&readiness, false, &[]).status(), StatusCode::INTERNAL_SERVER_ERROR);
        decisions.pass();
        readiness.begin_shutdown();
        assert!(!readiness.is_ready());
        assert_eq!(ready(&readiness, false, &[]).status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(live("livez", false).status(), StatusCode::OK);
    }
}
