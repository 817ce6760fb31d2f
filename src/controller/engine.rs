//! Reconciles one `VariantAutoscaling`: validate, delegate, compare, write the status, tell the events.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, Recorder, Reporter},
};
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;

use super::{
    Change, Findings, events::event_of_fault, events_for, status::status_of_unusable, status_for, status_of_invalid,
};
use crate::{
    clock::Clock,
    crd::{VariantAutoscaling, VariantAutoscalingStatus},
    interfaces::{Decision, VariantKey},
};

/// Owner of the status fields in `metadata.managedFields`, and reporter of the events.
pub const FIELD_MANAGER: &str = "wva";

/// A write that takes longer is given up and tried again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One cycle's result for one object.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The object as the watch last showed it.
    pub object: Arc<VariantAutoscaling>,
    /// The decision on it; `None` when none was made, because the object breaks a rule or is too new.
    pub decision: Option<Decision>,
    /// What the check of its HPAs found.
    pub autoscalers: Findings,
    /// Where events go, of a variant that an annotated autoscaler declares. `object` is then made up from the annotations:
    /// it has no status that could be written, so that what was told last is remembered by this process only.
    pub annotated: Option<Annotated>,
}

/// An annotated autoscaler that declares a variant.
#[derive(Clone, Debug)]
pub struct Annotated {
    /// The autoscaler.
    pub reference: ObjectReference,
    /// Why its variant cannot be used, if so.
    pub fault: Option<Fault>,
}

/// Why a variant cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In camel case with a capital, as a reason of conditions and events.
    pub reason: &'static str,
    /// A sentence that names the object and the remedy.
    pub message: String,
}

impl Publication {
    /// Namespace and name of the object.
    pub fn key(&self) -> VariantKey {
        VariantKey::new(self.object.namespace().unwrap_or_default(), self.object.name_any())
    }
}

/// Why a status could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The object was deleted.
    #[error("VariantAutoscaling {0} is gone")]
    Gone(VariantKey),
    /// The API server refused or could not be reached.
    #[error("the status of VariantAutoscaling {key} cannot be written: {source}; {}", remedy(source))]
    Write {
        /// The object.
        key: VariantKey,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error(
        "the status of VariantAutoscaling {0} cannot be written: no answer from the API server in {WRITE_TIMEOUT:?}"
    )]
    Timeout(VariantKey),
}

fn remedy(source: &kube::Error) -> &'static str {
    match source {
        kube::Error::Api(status) if status.code == 403 => {
            "let the service account patch variantautoscalings/status (manifests/rbac/wva.yaml)"
        }
        kube::Error::Api(status) if status.code < 500 => "check that the CustomResourceDefinition is wva's",
        _ => "check that the API server is reachable",
    }
}

/// What a reconciliation is going to do.
struct Plan {
    change: Change,
    status: VariantAutoscalingStatus,
    events: Vec<Event>,
}

/// Computes the status of `publication` from the `previous` one. Pure. `None` while there is nothing to say.
fn plan(publication: &Publication, previous: &VariantAutoscalingStatus, now: Timestamp) -> Option<Plan> {
    let Publication { object, decision, autoscalers, annotated } = publication;
    let generation = object.meta().generation;
    if let Some(fault) = annotated.as_ref().and_then(|annotated| annotated.fault.as_ref()) {
        let status = status_of_unusable(previous, generation, fault.reason, &fault.message, now);
        let events = event_of_fault(previous, fault);
        return Some(Plan { change: Change::between(previous, &status), status, events: events.into_iter().collect() });
    }
    let validated = if annotated.is_some() { Ok(()) } else { object.spec.validate() };
    let (status, events) = match (validated, decision) {
        (Err(invalid), _) => (status_of_invalid(previous, generation, &invalid, now), Vec::new()),
        (Ok(()), Some(decision)) => {
            (status_for(previous, generation, decision, autoscalers, now), events_for(previous, decision, autoscalers))
        }
        (Ok(()), None) => return None,
    };
    Some(Plan { change: Change::between(previous, &status), status, events })
}

/// Reconciles one variant at a time, and records its events (`VariantAutoscalingsEngine` of the package reference).
#[derive(Clone)]
pub struct VariantAutoscalingsEngine {
    client: Client,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for VariantAutoscalingsEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariantAutoscalingsEngine").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl VariantAutoscalingsEngine {
    /// An engine that writes through `client`; `instance` (the pod's name) tells replicas of wva apart in events.
    pub fn new(client: Client, clock: Arc<dyn Clock>, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance };
        Self { recorder: Recorder::new(client.clone(), reporter), client, clock }
    }

    /// The recorder of events on `VariantAutoscaling` objects.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Writes the status of `publication` if it differs from `previous` by at least `threshold`, then records what
    /// changed. Returns what was written, if anything.
    ///
    /// # Errors
    /// When the status was not written. An event that could not be recorded is only logged: the status says the same.
    pub async fn reconcile(
        &self,
        publication: &Publication,
        previous: &VariantAutoscalingStatus,
        threshold: Change,
    ) -> Result<Option<Written>, ReconcileError> {
        let Some(Plan { change, status, events }) = plan(publication, previous, self.clock.now()) else {
            return Ok(None);
        };
        if change == Change::None || change < threshold {
            return Ok(None);
        }
        if let Some(Annotated { reference, .. }) = &publication.annotated {
            self.record(reference, &events).await;
            return Ok(Some(Written::remembered(status, &publication.object)));
        }
        let object = self.write(publication, &status).await?;
        self.record(&object.object_ref(&()), &events).await;
        Ok(Some(Written::new(status, &object)))
    }

    /// Server-side apply to the status subresource, without a version to hold to: the fields are ours alone. A namesake
    /// created since gets a status too old for it, which the next publication of that object mends.
    async fn write(
        &self,
        publication: &Publication,
        status: &VariantAutoscalingStatus,
    ) -> Result<VariantAutoscaling, ReconcileError> {
        let key = publication.key();
        let patch = json!({
            "apiVersion": VariantAutoscaling::api_version(&()),
            "kind": VariantAutoscaling::kind(&()),
            "status": status,
        });
        let api = Api::<VariantAutoscaling>::namespaced(self.client.clone(), &key.namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match timeout(WRITE_TIMEOUT, api.patch_status(&key.name, &params, &Patch::Apply(&patch))).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(ReconcileError::Gone(key)),
            Ok(Err(source)) => Err(ReconcileError::Write { key, source: Box::new(source) }),
            Err(_) => Err(ReconcileError::Timeout(key)),
        }
    }

    async fn record(&self, reference: &ObjectReference, events: &[Event]) {
        for event in events {
            let error = match timeout(WRITE_TIMEOUT, self.recorder.publish(event, reference)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) if is_terminating(&error) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer from the API server".to_owned(),
            };
            warn!(
                kind = reference.kind,
                name = reference.name,
                namespace = reference.namespace,
                reason = event.reason,
                error,
                "event not recorded; check that the service account may create and patch events.events.k8s.io"
            );
        }
    }
}

/// Whether the namespace is being deleted, in which nothing can be created any more: nobody is left to read the event.
fn is_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// A status that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The status.
    pub status: VariantAutoscalingStatus,
    uid: Option<String>,
    version: Option<u64>,
}

impl Written {
    /// `status`, which made the object what the API server answered with.
    pub(super) fn new(status: VariantAutoscalingStatus, answer: &VariantAutoscaling) -> Self {
        Self { status, uid: answer.uid(), version: version(answer) }
    }

    /// `status`, which is kept by nobody else.
    pub(super) fn remembered(status: VariantAutoscalingStatus, object: &VariantAutoscaling) -> Self {
        Self { status, uid: object.uid(), version: Some(0) }
    }

    /// Whether the watch, which showed `object`, lags behind this write.
    pub fn is_newer_than(&self, object: &VariantAutoscaling) -> bool {
        self.uid == object.uid() && version(object) < self.version
    }
}

/// Versions of one resource type are numbers that grow (KEP-5504).
fn version(object: &VariantAutoscaling) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(cause: &str) -> kube::Error {
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": 403, "reason": "Forbidden", "message": "forbidden",
            "details": { "causes": [{ "reason": cause, "message": "", "field": "metadata.namespace" }] },
        }))
        .unwrap();
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn the_remedy_follows_the_cause() {
        let failed = |source| ReconcileError::Write { key: VariantKey::new("prod", "a"), source: Box::new(source) };
        let away = kube::Error::Service(std::io::Error::other("connection refused").into());
        for (source, expected) in [(refused("Forbidden"), "let the service account patch"), (away, "is reachable")] {
            let told = failed(source).to_string();
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn only_a_namespace_that_is_being_deleted_excuses_an_event_that_was_refused() {
        assert!(is_terminating(&refused("NamespaceTerminating")));
        assert!(!is_terminating(&refused("FieldValueInvalid")));
    }
}
