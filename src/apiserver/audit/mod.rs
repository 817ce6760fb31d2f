//! The audit log: who asked for what, and what became of it, as `audit.k8s.io/v1` has it. Off unless configured.
//!
//! ```text
//!  request ─► Auditor::begin ─► policy ─► RequestReceived ─┬─► buffer ─► AuditLog (a task) ─► file, rotated
//!                      … answered, or a panic ─► the end ──┴─► buffer ─► AuditWebhook (a task) ─► whoever collects
//! ```
//!
//! A read never waits for it: events that find a buffer full are dropped and counted.

mod event;
mod log;
mod log_file;
mod policy;
mod webhook;

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::sync::mpsc;

use self::{
    event::{Decision, Event, Outcome, Subject, request_uri, source_ips, user_agent},
    policy::{Level, Stage, Stages},
};
pub use self::{
    log::{AuditFormat, AuditLog, AuditLogError},
    log_file::AuditFile,
    policy::{AuditPolicy, AuditPolicyError},
    webhook::{AuditWebhook, EventCollector, PostError, WebhookLimits},
};
use super::status::Failure;
use crate::{
    auth::{AccessVerdict, Attributes, Identity},
    serving::Peer,
};

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

impl AuditMetrics {
    /// Metrics shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let events = metrics.events.clone();
        registry.register("apiserver_audit_event", "Audit events", events);
        registry.register(
            "apiserver_audit_error",
            "Audit events that are lost: dropped where too many waited (buffered), not written (log), not taken (webhook)",
            metrics.errors.clone(),
        );
        registry.register("apiserver_audit_level", "Requests by the level of the audit policy", metrics.levels.clone());
        metrics
    }

    /// So many events are lost to `plugin`.
    fn lost(&self, plugin: &'static str, count: usize) {
        self.errors.get_or_create(&Plugin { plugin }).inc_by(count as u64);
    }
}

/// Notes requests; clones share their logs.
#[derive(Clone, Debug)]
pub struct Auditor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: AuditPolicy,
    /// One for whoever writes or sends.
    buffers: Vec<mpsc::Sender<Arc<Event>>>,
    metrics: AuditMetrics,
}

/// Where events wait for whoever writes or sends them.
#[derive(Debug)]
pub struct Waiting {
    events: mpsc::Receiver<Arc<Event>>,
    metrics: AuditMetrics,
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
    /// Notes by `policy`, for nobody yet.
    pub fn new(policy: AuditPolicy, metrics: AuditMetrics) -> Self {
        Self(Arc::new(Inner { policy, buffers: Vec::new(), metrics }))
    }

    /// The same for one more, for whom up to `buffer` events may wait.
    #[must_use]
    pub fn with_buffer(self, buffer: usize) -> (Self, Waiting) {
        let (sender, events) = mpsc::channel(buffer.max(1));
        let Inner { policy, buffers, metrics } = &*self.0;
        let waiting = Waiting { events, metrics: metrics.clone() };
        let buffers = buffers.iter().cloned().chain([sender]).collect();
        (Self(Arc::new(Inner { policy: policy.clone(), buffers, metrics: metrics.clone() })), waiting)
    }

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
        let Inner { buffers, metrics, .. } = &*self.auditor.0;
        let at = if stage == Stage::RequestReceived { self.subject.received } else { Timestamp::now() };
        let decision = self.decision.get().cloned();
        let event = Arc::new(Event { subject: Arc::clone(&self.subject), stage, at, outcome, decision });
        metrics.events.inc();
        for buffer in buffers {
            if buffer.try_send(Arc::clone(&event)).is_err() {
                metrics.errors.get_or_create(&BUFFERED).inc();
            }
        }
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
