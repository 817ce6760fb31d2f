//! All watched objects by namespace, and which variant each belongs to.
//!
//! ```text
//! Pod ─► ReplicaSet ─► Deployment ◄─ VariantAutoscaling
//! Pod ─► StatefulSet ◄───────────────┘     HPA ─► Deployment, StatefulSet
//! ```
//!
//! Links are followed when they are asked for, so objects may arrive in any order.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use super::objects::{Autoscaler, DeclaredVariant, Owner, Pod, ScaleTarget, Table, TargetKind, Watched, Workload};
use crate::interfaces::VariantObservation;

/// All watched objects.
#[derive(Debug, Default)]
pub(crate) struct Index {
    namespaces: HashMap<Arc<str>, Namespace>,
}

/// The watched objects of one namespace: nothing that matters to a variant lies outside its namespace.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) variants: Table<DeclaredVariant>,
    pub(crate) deployments: Table<Workload>,
    pub(crate) stateful_sets: Table<Workload>,
    /// Name of the Deployment of each `ReplicaSet`.
    pub(crate) replica_sets: Table<Arc<str>>,
    pub(crate) pods: Table<Pod>,
    pub(crate) autoscalers: Table<Autoscaler>,
    /// Names of the variants that scale a target; follows `variants`.
    scaled_by: HashMap<ScaleTarget, BTreeSet<Arc<str>>>,
    /// What was assembled since the last change that matters: cost grows with what changed.
    observations: OnceLock<Vec<VariantObservation>>,
}

impl Index {
    /// All namespaces, in no order.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &Namespace)> {
        self.namespaces.iter()
    }

    /// One namespace with its name.
    pub(crate) fn namespace(&self, name: &str) -> Option<(&Arc<str>, &Namespace)> {
        self.namespaces.get_key_value(name)
    }

    /// Stores an object, or removes it (`None`). Returns whether the change bears on a decision.
    pub(crate) fn store<W: Watched>(&mut self, namespace: &str, name: &str, slim: Option<W::Slim>) -> bool {
        let Some(known) = self.namespaces.get_mut(namespace) else {
            let Some(slim) = slim else { return false };
            return self.namespaces.entry(namespace.into()).or_default().store::<W>(name, Some(slim));
        };
        let matters = known.store::<W>(name, slim);
        if known.is_empty() {
            self.namespaces.remove(namespace);
        }
        matters
    }

    /// Makes `listed` the only objects of their kind. Returns whether the change bears on a decision.
    pub(crate) fn replace<W: Watched>(&mut self, listed: Vec<(Arc<str>, Arc<str>, W::Slim)>) -> bool {
        let present: HashSet<(Arc<str>, Arc<str>)> =
            listed.iter().map(|(namespace, name, _)| (namespace.clone(), name.clone())).collect();
        let mut gone = Vec::new();
        for (namespace, objects) in &mut self.namespaces {
            let known = W::table(objects).keys().map(|name| (namespace.clone(), name.clone()));
            gone.extend(known.filter(|key| !present.contains(key)));
        }
        let mut matters = false;
        for (namespace, name) in gone {
            matters |= self.store::<W>(&namespace, &name, None);
        }
        for (namespace, name, slim) in listed {
            matters |= self.store::<W>(&namespace, &name, Some(slim));
        }
        matters
    }
}

impl Namespace {
    /// The variants as `assemble` makes them of this namespace, which it is asked for only after a change.
    pub(crate) fn observations(
        &self,
        assemble: impl FnOnce(&Self) -> Vec<VariantObservation>,
    ) -> &[VariantObservation] {
        self.observations.get_or_init(|| assemble(self))
    }

    /// Whether a variant scales `target`.
    pub(crate) fn is_scaled(&self, target: &ScaleTarget) -> bool {
        self.scaled_by.contains_key(target)
    }

    /// Names of the variants that scale `target`, in order.
    pub(crate) fn variants_of(&self, target: &ScaleTarget) -> impl Iterator<Item = &Arc<str>> {
        self.scaled_by.get(target).into_iter().flatten()
    }

    /// What owns a pod in the end; `None` while its `ReplicaSet` is unknown or has no Deployment.
    pub(crate) fn target_of(&self, pod: &Pod) -> Option<ScaleTarget> {
        match &pod.owner {
            Owner::StatefulSet(name) => Some(ScaleTarget { kind: TargetKind::StatefulSet, name: name.clone() }),
            Owner::ReplicaSet(name) => {
                let deployment = self.replica_sets.get(name)?;
                Some(ScaleTarget { kind: TargetKind::Deployment, name: deployment.clone() })
            }
        }
    }

    /// The workload that `target` names.
    pub(crate) fn workload(&self, target: &ScaleTarget) -> Option<&Workload> {
        match target.kind {
            TargetKind::Deployment => self.deployments.get(&target.name),
            TargetKind::StatefulSet => self.stateful_sets.get(&target.name),
        }
    }

    fn store<W: Watched>(&mut self, name: &str, slim: Option<W::Slim>) -> bool {
        let old = W::table(self).remove_entry(name);
        let name = match &old {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        let old = old.map(|(_, slim)| slim);
        let changed = old != slim;
        let mut matters = changed && old.as_ref().is_some_and(|old| W::matters(self, &name, old));
        if let Some(slim) = slim {
            matters |= changed && W::matters(self, &name, &slim);
            W::table(self).insert(name.clone(), slim);
        }
        if changed {
            W::relink(self, &name, old.as_ref());
        }
        if matters {
            self.observations.take();
        }
        matters
    }

    /// Follows a change of the variant `name`, which was `old`, in `scaled_by`.
    pub(crate) fn relink_variant(&mut self, name: &Arc<str>, old: Option<&DeclaredVariant>) {
        if let Some(target) = old.and_then(|old| old.target.as_ref())
            && let Some(names) = self.scaled_by.get_mut(target)
        {
            names.remove(name);
            if names.is_empty() {
                self.scaled_by.remove(target);
            }
        }
        if let Some(target) = self.variants.get(name).and_then(|new| new.target.clone()) {
            self.scaled_by.entry(target).or_default().insert(name.clone());
        }
    }

    fn is_empty(&self) -> bool {
        self.variants.is_empty()
            && self.deployments.is_empty()
            && self.stateful_sets.is_empty()
            && self.replica_sets.is_empty()
            && self.pods.is_empty()
            && self.autoscalers.is_empty()
    }
}
