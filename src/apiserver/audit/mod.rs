//! The audit log: who asked for what, and what became of it, as `audit.k8s.io/v1` has it. Off unless configured.
//!
//! ```text
//!  request ─► Auditor::begin ─► policy ─► RequestReceived ─┐
//!                      … answered, or a panic ─► the end ──┴─► buffer ─► AuditLog (a task) ─► file, rotated
//! ```
//!
//! A read never waits for it: events that find the buffer full are dropped and counted.

mod event;
mod log_file;
mod policy;

use std::{
    io,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use thiserror::Error;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use self::{
    event::{Decision, Event, Outcome, Subject, request_uri, source_ips, user_agent},
    log_file::LogFile,
    policy::{Level, Stage, Stages},
};
pub use self::{
    log_file::AuditFile,
    policy::{AuditPolicy, AuditPolicyError},
};
use super::status::Failure;
use crate::{
    auth::{AccessVerdict, Attributes, Identity},
    serving::Peer,
};

/// Events written at a time.
const BATCH: usize = 400;

/// Form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditFormat {
    /// An `Event`.
    Json,
    /// Short text.
    Legacy,
}

/// Why there can be no audit log.
#[derive(Debug, Error)]
#[error("cannot write audit log {path}: {source}")]
pub struct AuditLogError {
    path: String,
    source: io::Error,
}

/// Counts events, under the names of `k8s.io/apiserver`; clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct AuditMetrics {
    events: Counter,
    errors: Family<Plugin, Counter>,
    levels: Family<LevelLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    level: &'static str,
}

/// Events that found no place to wait.
const BUFFERED: Plugin = Plugin { plugin: "buffered" };
/// Events that could not be written.
const LOG: Plugin = Plugin { plugin: "log" };

impl AuditMetrics {
    /// Metrics shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let events = metrics.events.clone();
        registry.register("apiserver_audit_event", "Audit events that were written or are about to be", events);
        registry.register(
            "apiserver_audit_error",
            "Audit events that are lost: dropped where too many waited (buffered) or not written (log)",
            metrics.errors.clone(),
        );
        registry.register("apiserver_audit_level", "Requests by the level of the audit policy", metrics.levels.clone());
        metrics
    }
}

/// Notes requests; clones share one log.
#[derive(Clone, Debug)]
pub struct Auditor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: AuditPolicy,
    events: mpsc::Sender<Event>,
    metrics: AuditMetrics,
}

/// Writes what an [`Auditor`] notes.
#[derive(Debug)]
pub struct AuditLog {
    events: mpsc::Receiver<Event>,
    file: LogFile,
    format: AuditFormat,
    metrics: AuditMetrics,
}

/// An auditor by `policy`, and its log in `file`, for which up to `buffer` events may wait.
///
/// # Errors
/// When the file cannot be written.
pub fn audit_log(
    policy: AuditPolicy,
    file: AuditFile,
    format: AuditFormat,
    buffer: usize,
    metrics: AuditMetrics,
) -> Result<(Auditor, AuditLog), AuditLogError> {
    let path = file.path.display().to_string();
    let file = LogFile::open(file).map_err(|source| AuditLogError { path, source })?;
    let (sender, events) = mpsc::channel(buffer.max(1));
    let log = AuditLog { events, file, format, metrics: metrics.clone() };
    Ok((Auditor(Arc::new(Inner { policy, events: sender, metrics })), log))
}

/// A request, as far as it is noted before anything is known of its author.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) id: &'a HeaderValue,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) peer: Option<&'a Peer>,
    pub(super) received: Timestamp,
}

impl Auditor {
    /// Notes that `request` of `identity` came; `None` where the policy leaves it out.
    pub(super) fn begin(
        &self,
        request: Seen<'_>,
        identity: &Arc<Identity>,
        attributes: &Arc<Attributes>,
    ) -> Option<AuditedRequest> {
        let audited = self.look_at(request, identity, attributes)?;
        audited.note(Stage::RequestReceived, None);
        Some(audited)
    }

    /// Notes that `request` came with credentials that are not valid; `tried` names them.
    pub(super) fn unauthenticated(&self, request: Seen<'_>, tried: &str, attributes: &Arc<Attributes>) {
        let nobody = Arc::new(Identity::default());
        let Some(mut audited) = self.look_at(request, &nobody, attributes) else { return };
        let message = format!("Authentication failed, attempted: {tried}");
        let outcome = Outcome::Said { code: StatusCode::UNAUTHORIZED.as_u16(), status: "", message };
        audited.is_open = false;
        audited.note(Stage::ResponseStarted, Some(outcome));
    }

    fn look_at(
        &self,
        request: Seen<'_>,
        identity: &Arc<Identity>,
        attributes: &Arc<Attributes>,
    ) -> Option<AuditedRequest> {
        let (level, omitted) = self.0.policy.judge(identity, attributes);
        self.0.metrics.levels.get_or_create(&LevelLabel { level: level.name() }).inc();
        if level == Level::None {
            return None;
        }
        let Seen { id, uri, headers, peer, received } = request;
        let subject = Arc::new(Subject {
            level,
            id: id.clone(),
            uri: request_uri(uri),
            identity: Arc::clone(identity),
            attributes: Arc::clone(attributes),
            source_ips: source_ips(peer, headers),
            user_agent: user_agent(headers),
            received,
        });
        Some(AuditedRequest { auditor: self.clone(), subject, omitted, decision: OnceLock::new(), is_open: true })
    }
}

/// A request that is being answered and written down.
#[derive(Debug)]
pub(super) struct AuditedRequest {
    auditor: Auditor,
    subject: Arc<Subject>,
    omitted: Stages,
    decision: OnceLock<Decision>,
    /// Whether its end is not noted yet.
    is_open: bool,
}

impl AuditedRequest {
    /// Its author may, or may not.
    pub(super) fn authorized(&self, verdict: &AccessVerdict) {
        let (allowed, reason) = match verdict {
            AccessVerdict::Allowed => (true, String::new()),
            AccessVerdict::Denied { reason } => (false, reason.clone()),
        };
        // It is judged once.
        let _ = self.decision.set(Decision { allowed, reason });
    }

    /// It was answered.
    pub(super) fn answered(mut self, code: StatusCode, failure: Option<&Failure>) {
        let outcome =
            failure.map_or(Outcome::Code(code.as_u16()), |Failure(status)| Outcome::Failure(Arc::clone(status)));
        self.end(Stage::ResponseComplete, outcome);
    }

    /// What answers it panicked.
    pub(super) fn panicked(mut self, message: &str) {
        let message = format!("APIServer panic'd: {message}");
        let code = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
        self.end(Stage::Panic, Outcome::Said { code, status: "Failure", message });
    }

    fn end(&mut self, stage: Stage, outcome: Outcome) {
        self.is_open = false;
        self.note(stage, Some(outcome));
    }

    fn note(&self, stage: Stage, outcome: Option<Outcome>) {
        if self.omitted.contains(stage) {
            return;
        }
        let Inner { events, metrics, .. } = &*self.auditor.0;
        let at = if stage == Stage::RequestReceived { self.subject.received } else { Timestamp::now() };
        let decision = self.decision.get().cloned();
        match events.try_send(Event { subject: Arc::clone(&self.subject), stage, at, outcome, decision }) {
            Ok(()) => metrics.events.inc(),
            Err(_) => metrics.errors.get_or_create(&BUFFERED).inc(),
        };
    }
}

impl Drop for AuditedRequest {
    /// Its client went away before there was an answer: in the words of `k8s.io/apiserver`.
    fn drop(&mut self) {
        if self.is_open {
            let message = "Connection closed early".to_owned();
            let code = StatusCode::OK.as_u16();
            self.end(Stage::ResponseComplete, Outcome::Said { code, status: "Success", message });
        }
    }
}

impl AuditLog {
    /// Writes until `stop`, then what waits still.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = stop.run_until_cancelled(self.events.recv_many(&mut batch, BATCH)).await;
            match received {
                // Nobody is left who could note anything.
                Some(0) => return stop.cancelled().await,
                Some(_) => self = self.write(&mut batch).await,
                None => break,
            }
        }
        self.events.close();
        while self.events.recv_many(&mut batch, BATCH).await > 0 {
            self = self.write(&mut batch).await;
        }
    }

    /// Writes `batch` where waiting for a disk holds nobody up.
    async fn write(self, batch: &mut Vec<Event>) -> Self {
        let Self { events, mut file, format, metrics } = self;
        let taken = std::mem::take(batch);
        let count = taken.len() as u64;
        let written = spawn_blocking(move || {
            let mut lines = Vec::new();
            let outcome = taken.iter().try_for_each(|event| event.write(format, &mut lines));
            let outcome = outcome.and_then(|()| file.write(&lines, Timestamp::now()));
            (file, outcome)
        });
        let (file, outcome) = match written.await {
            Ok((file, outcome)) => (file, outcome),
            // A panic of what writes, which has none: the log goes on where people look.
            Err(error) => (LogFile::Stdout, Err(io::Error::other(error))),
        };
        if let Err(error) = outcome {
            metrics.errors.get_or_create(&LOG).inc_by(count);
            tracing::error!(%error, count, "audit events cannot be written; check audit.logPath and its disk");
        }
        Self { events, file, format, metrics }
    }
}

impl Event {
    fn write(&self, format: AuditFormat, lines: &mut Vec<u8>) -> io::Result<()> {
        match format {
            AuditFormat::Json => self.write_json(lines)?,
            AuditFormat::Legacy => self.write_legacy(lines),
        }
        Ok(())
    }
}
