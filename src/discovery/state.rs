//! The cheap handle through which the rest of the product reads the cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Instant,
};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::watch;

use super::{
    Problem, assemble,
    index::{Index, Namespace},
    objects::Watched,
    sync::{SyncState, WatchFailure},
};
use crate::{
    crd::VariantAutoscaling,
    interfaces::{PodDirectory, PodIdentity, TargetObservation, VariantKey, VariantObservation},
    snapshot::ClusterObserver,
};

/// The cluster as last seen by the watches. Clones share it.
#[derive(Clone, Debug)]
pub struct ClusterState {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    index: RwLock<Index>,
    sync: Mutex<SyncState>,
    /// Counts the changes that matter to a decision.
    changes: watch::Sender<u64>,
    controller_instance: Option<String>,
}

impl ClusterState {
    pub(crate) fn new(controller_instance: Option<String>) -> Self {
        let shared = Shared {
            index: RwLock::default(),
            sync: Mutex::default(),
            changes: watch::Sender::new(0),
            controller_instance,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Every variant without the signals of its replicas, ordered by key.
    ///
    /// A variant that cannot be used has [`TargetObservation::NotFound`] with the reason and the remedy, and so have
    /// all while the watches have not listed everything: what is not known to exist must not be taken for absent.
    pub fn observe(&self) -> Vec<VariantObservation> {
        // Asked before the index is read: what was listed then is there now.
        let unsynced = (!self.is_synced()).then(|| self.sync_problem().unwrap_or_default());
        let instance = self.shared.controller_instance.as_deref();
        let index = self.index();
        let observe = |(name, namespace): (_, &Namespace)| -> Vec<VariantObservation> {
            namespace.observations(|namespace| assemble::observe(name, namespace, instance)).to_vec()
        };
        let mut variants: Vec<VariantObservation> = index.namespaces().flat_map(observe).collect();
        drop(index);
        // Each namespace is in order already: a stable sort only merges.
        variants.sort_by(|a, b| a.variant.key.cmp(&b.variant.key));
        if let Some(message) = unsynced {
            for variant in &mut variants {
                variant.target = TargetObservation::NotFound { message: message.clone() };
            }
        }
        variants
    }

    /// What is wrong with each `VariantAutoscaling` that cannot be used; nothing while not everything was listed.
    pub fn problems(&self) -> BTreeMap<VariantKey, Vec<Problem>> {
        let mut problems = BTreeMap::new();
        if !self.is_synced() {
            return problems;
        }
        let index = self.index();
        for (name, namespace) in index.namespaces() {
            for (variant, declared) in &namespace.variants {
                let found = assemble::problems(name, namespace, variant, declared);
                if !found.is_empty() {
                    problems.insert(VariantKey { namespace: name.clone(), name: variant.clone() }, found);
                }
            }
        }
        problems
    }

    /// The `VariantAutoscaling`s as last seen. One that could not be read is left out.
    pub fn objects(&self) -> BTreeMap<VariantKey, Arc<VariantAutoscaling>> {
        let index = self.index();
        let variants = index.namespaces().flat_map(|(namespace, objects)| {
            objects
                .variants
                .iter()
                .map(move |(name, variant)| (VariantKey::new(namespace.clone(), name.clone()), variant))
        });
        variants.filter_map(|(key, variant)| Some((key, variant.object.0.clone()?))).collect()
    }

    /// Whether every kind was listed once. A `VariantAutoscaling` kind that is not installed counts as listed: there
    /// are none.
    pub fn is_synced(&self) -> bool {
        self.sync().is_synced()
    }

    /// What keeps the view from being complete and current, with the remedy; `None` when nothing does.
    pub fn sync_problem(&self) -> Option<String> {
        self.sync().problem(Instant::now())
    }

    /// Told of changes that matter to a decision, several at once as one: a variant's declaration, replica counts and
    /// readiness of what variants scale, HPAs on it, and the end of the first listing. Not told of metadata, of our
    /// own status updates, nor of objects that belong to no variant.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Takes over an object that was added or changed.
    pub(crate) fn applied<W: Watched>(&self, object: W::Object) {
        let Some((namespace, name)) = identity(&object) else { return };
        self.store::<W>(&namespace, &name, W::reduce(object));
    }

    /// Takes over an object that was deleted.
    pub(crate) fn deleted<W: Watched>(&self, object: &W::Object) {
        let Some((namespace, name)) = identity(object) else { return };
        self.store::<W>(&namespace, &name, None);
    }

    /// Takes over a complete list of one kind.
    pub(crate) fn listed<W: Watched>(&self, objects: Vec<(Arc<str>, Arc<str>, W::Slim)>) {
        self.deliver::<W>(|index| index.replace::<W>(objects));
    }

    /// Takes note of a failed watch. Returns whether the failure is news.
    ///
    /// Where the kind is not installed, or no longer, there are no objects of it.
    pub(crate) fn failed<W: Watched>(&self, failure: WatchFailure) -> bool {
        let gone = matches!(failure, WatchFailure::NotInstalled(_));
        let mut matters = false;
        let news = self.with_sync(&mut matters, |sync| sync.failed(W::RESOURCE, failure, Instant::now()));
        if news && gone {
            matters |= self.index_mut(|index| index.replace::<W>(Vec::new()));
        }
        if matters {
            self.announce();
        }
        news
    }

    fn store<W: Watched>(&self, namespace: &str, name: &str, slim: Option<W::Slim>) {
        self.deliver::<W>(|index| index.store::<W>(namespace, name, slim));
    }

    /// Changes the index by what a watch delivered; `change` tells whether it bears on a decision.
    fn deliver<W: Watched>(&self, change: impl FnOnce(&mut Index) -> bool) {
        let mut matters = self.index_mut(change);
        if let Some(failure) = self.with_sync(&mut matters, |sync| sync.delivered(W::RESOURCE)) {
            tracing::info!(resource = %W::RESOURCE, after = %failure, "watch works again");
        }
        if matters {
            self.announce();
        }
    }

    /// Changes the progress of the watches; the end of the first listing `matters`.
    fn with_sync<T>(&self, matters: &mut bool, change: impl FnOnce(&mut SyncState) -> T) -> T {
        let mut sync = self.sync();
        let before = sync.is_synced();
        let result = change(&mut sync);
        *matters |= !before && sync.is_synced();
        result
    }

    fn announce(&self) {
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.shared.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn sync(&self) -> MutexGuard<'_, SyncState> {
        self.shared.sync.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterObserver for ClusterState {
    /// Ages are judged by the reader: what is known of the cluster does not depend on `_now`.
    fn observe(&self, _now: Timestamp) -> Vec<VariantObservation> {
        self.observe()
    }
}

impl PodDirectory for ClusterState {
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity> {
        let index = self.index();
        let (name, namespace) = index.namespace(namespace)?;
        let pod = namespace.pods.get(pod)?;
        let target = namespace.target_of(pod)?;
        let mut variants = namespace.variants_of(&target);
        // Two variants on one target are a problem: whose pod this is cannot be said.
        match (variants.next(), variants.next()) {
            (Some(variant), None) => Some(PodIdentity {
                variant: VariantKey { namespace: name.clone(), name: variant.clone() },
                ready: pod.ready,
            }),
            _ => None,
        }
    }
}

/// Namespace and name of an object.
pub(crate) fn identity<K: ResourceExt>(object: &K) -> Option<(Arc<str>, Arc<str>)> {
    let metadata = object.meta();
    Some((metadata.namespace.as_deref()?.into(), metadata.name.as_deref()?.into()))
}
