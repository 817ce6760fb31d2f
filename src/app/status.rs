//! Joins decisions with the objects they are written to.

use std::collections::HashMap;

use crate::{
    actuator::StatusSink,
    controller::{Annotated, AutoscalerFindings, AutoscalerWarning, Fault, Publication, StatusWriter},
    discovery::{ClusterState, Declaration, DeclaredBy, Problem, Severity, check_hpas},
    interfaces::{Decision, Snapshot, VariantKey, VariantObservation},
};

/// Writes decisions to the `VariantAutoscaling`s of a cluster, and tells them to the autoscalers that are variants
/// themselves.
pub(crate) struct ClusterStatus {
    pub(crate) cluster: ClusterState,
    pub(crate) writer: StatusWriter,
}

impl StatusSink for ClusterStatus {
    fn publish(&self, snapshot: &Snapshot, decisions: &[Decision]) {
        // Until everything was listed, a target that is not known is not one that does not exist.
        if !self.cluster.is_synced() {
            return;
        }
        let declarations = self.cluster.declarations(decisions.iter().map(|decision| &decision.variant));
        let observed: HashMap<&VariantKey, &VariantObservation> =
            snapshot.variants.iter().map(|observation| (&observation.variant.key, observation)).collect();
        self.writer.publish(decisions.iter().zip(declarations).filter_map(|(decision, declaration)| {
            let observation = observed.get(&decision.variant)?;
            Some(publication(decision, declaration?, observation))
        }));
    }
}

fn publication(decision: &Decision, declaration: Declaration, observation: &VariantObservation) -> Publication {
    let Declaration { declared_by, reference, problems } = declaration;
    // A field that breaks a rule is for the status writer to name, field by field.
    let is_usable = problems.iter().all(Problem::concerns_target);
    let annotated = reference.map(|reference| Annotated { reference, fault: fault(&problems) });
    Publication {
        object: declared_by.object().clone(),
        decision: (is_usable || matches!(declared_by, DeclaredBy::Annotations(_))).then(|| decision.clone()),
        autoscalers: findings(observation),
        annotated,
    }
}

/// All that is wrong, under the reason of the first.
fn fault(problems: &[Problem]) -> Option<Fault> {
    let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Some(Fault { reason: problems.first()?.reason(), message: sentences.join("; ") })
}

fn findings(observation: &VariantObservation) -> AutoscalerFindings {
    let warnings = check_hpas(observation).into_iter().filter(|warning| warning.reason.severity() == Severity::Warning);
    AutoscalerFindings {
        readers: observation.autoscalers.iter().filter(|hpa| hpa.reads_our_metric).count(),
        warnings: warnings
            .map(|warning| AutoscalerWarning { reason: warning.reason.as_str().to_owned(), message: warning.message })
            .collect(),
    }
}
