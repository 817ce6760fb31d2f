//! Joins decisions with the objects they are written to.

use std::collections::BTreeMap;

use crate::{
    actuator::StatusSink,
    controller::{AutoscalerFindings, AutoscalerWarning, Publication, StatusWriter},
    discovery::{ClusterState, Problem, Severity, check_hpas},
    interfaces::{Decision, Snapshot, VariantKey, VariantObservation},
};

/// Writes decisions to the `VariantAutoscaling`s of a cluster.
pub(super) struct ClusterStatus {
    pub(super) cluster: ClusterState,
    pub(super) writer: StatusWriter,
}

impl StatusSink for ClusterStatus {
    fn publish(&self, snapshot: &Snapshot, decisions: &[Decision]) {
        // Until everything was listed, a target that is not known is not one that does not exist.
        if !self.cluster.is_synced() {
            return;
        }
        let mut objects = self.cluster.objects();
        let problems = self.cluster.problems();
        let observed: BTreeMap<&VariantKey, &VariantObservation> =
            snapshot.variants.iter().map(|observation| (&observation.variant.key, observation)).collect();
        self.writer.publish(decisions.iter().filter_map(|decision| {
            let object = objects.remove(&decision.variant)?;
            let observation = observed.get(&decision.variant)?;
            // A field that breaks a rule is for the status writer to name, field by field.
            let is_usable =
                problems.get(&decision.variant).is_none_or(|found| found.iter().all(Problem::concerns_target));
            Some(Publication {
                object,
                decision: is_usable.then(|| decision.clone()),
                autoscalers: findings(observation),
            })
        }));
    }
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
