//! Joins decisions with the objects they are written to.

use std::{
    cell::LazyCell,
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::settling::Settling;
use crate::{
    actuator::StatusSink,
    controller::{
        Annotated, ENGINES_ATTRIBUTED, Fault, Findings, Patience, Publication, StatusWriter, Warning, engine_warnings,
    },
    discovery::{ClusterState, Declaration, DeclaredBy, Problem, Severity, check_hpas},
    interfaces::{Decision, Snapshot, VariantObservation},
};

/// Writes decisions to the `VariantAutoscaling`s of a cluster, and tells them to the autoscalers that are variants
/// themselves.
pub(crate) struct ClusterStatus {
    cluster: ClusterState,
    writer: StatusWriter,
    patience: Mutex<Patience>,
    settling: Settling,
}

impl ClusterStatus {
    pub(crate) fn new(cluster: ClusterState, writer: StatusWriter) -> Self {
        Self { cluster, writer, patience: Mutex::default(), settling: Settling::default() }
    }
}

impl StatusSink for ClusterStatus {
    fn publish(&self, snapshot: &Snapshot, decisions: &[Decision]) {
        // Until everything was listed, a target that is not known is not one that does not exist.
        if !self.cluster.is_synced() {
            return;
        }
        let declarations = self.cluster.declarations(decisions.iter().map(|decision| &decision.variant));
        let places = snapshot.places(decisions.iter().map(|decision| &decision.variant));
        let of_variant = LazyCell::new(|| {
            let declared = decisions.iter().zip(&declarations);
            declared.map(|(decision, declaration)| (&decision.variant, declaration)).collect::<HashMap<_, _>>()
        });
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, grace) = (snapshot.taken_at, snapshot.ages.signal);
        let mut engines = patience.lasting(now, grace, engine_warnings(snapshot), |variant, reason| {
            let declaration = of_variant.get(variant).and_then(|declaration| declaration.as_ref());
            declaration.is_some_and(|declaration| is_told(declaration, reason))
        });
        let told = decisions.iter().zip(declarations).zip(places);
        let told = told.filter(|((decision, _), _)| self.settling.is_worth_telling(now, decision));
        self.writer.publish(told.filter_map(|((decision, declaration), place)| {
            let observation = snapshot.variants.get(place?)?;
            let engines = engines.remove(&decision.variant).unwrap_or_default();
            Some(publication(decision, declaration?, Findings { engines, ..findings(observation) }))
        }));
    }
}

/// Whether the status says so already, perhaps written by a leader before.
fn is_told(declaration: &Declaration, reason: &str) -> bool {
    let conditions = declaration.declared_by.object().status.iter().flat_map(|status| &status.conditions);
    let mut of_engines = conditions.filter(|condition| condition.type_ == ENGINES_ATTRIBUTED);
    of_engines.any(|condition| condition.reason.split(',').any(|told| told == reason))
}

fn publication(decision: &Decision, declaration: Declaration, findings: Findings) -> Publication {
    let Declaration { declared_by, reference, problems } = declaration;
    // A field that breaks a rule is for the status writer to name, field by field.
    let is_usable = problems.iter().all(Problem::concerns_target);
    let annotated = reference.map(|reference| Annotated { reference, fault: fault(&problems) });
    Publication {
        object: declared_by.object().clone(),
        decision: (is_usable || matches!(declared_by, DeclaredBy::Annotations(_))).then(|| decision.clone()),
        autoscalers: findings,
        annotated,
    }
}

/// All that is wrong, under the reason of the first.
fn fault(problems: &[Problem]) -> Option<Fault> {
    let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Some(Fault { reason: problems.first()?.reason(), message: sentences.join("; ") })
}

fn findings(observation: &VariantObservation) -> Findings {
    let warnings = check_hpas(observation).into_iter().filter(|warning| warning.reason.severity() == Severity::Warning);
    Findings {
        readers: observation.autoscalers.iter().filter(|hpa| hpa.reads_our_metric).count(),
        warnings: warnings
            .map(|warning| Warning { reason: warning.reason.as_str().to_owned(), message: warning.message })
            .collect(),
        engines: Vec::new(),
    }
}
