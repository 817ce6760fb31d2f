//! The cheap handle through which the rest of the product reads the cluster.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Instant,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use tokio::sync::watch;

use super::{
    Options, Problem,
    index::{Effect, Index, KindState},
    inventory::{self, Rules},
    objects::{GroupKind, Watched},
    sent::Sent,
    sync::{SyncState, WatchFailure, WatchedResource},
};
use crate::{
    crd::VariantAutoscaling,
    interfaces::{
        Inventory, PodDirectory, PodEndpoint, PodIdentity, TargetObservation, VariantKey, VariantObservation,
    },
    snapshot::ClusterObserver,
};

/// What declares a variant, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The declaration.
    pub declared_by: DeclaredBy,
    /// The autoscaler that is annotated, if it is one.
    pub reference: Option<ObjectReference>,
    /// Why no replicas can be decided, if so.
    pub problems: Vec<Problem>,
}

/// What declares a variant, as a `VariantAutoscaling`.
#[derive(Clone, Debug)]
pub enum DeclaredBy {
    /// One that exists.
    VariantAutoscaling(Arc<VariantAutoscaling>),
    /// One made up from the annotations of an autoscaler.
    Annotations(Arc<VariantAutoscaling>),
}

impl DeclaredBy {
    /// The object.
    pub fn object(&self) -> &Arc<VariantAutoscaling> {
        match self {
            Self::VariantAutoscaling(object) | Self::Annotations(object) => object,
        }
    }
}

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
    rules: Rules,
}

impl ClusterState {
    pub(crate) fn new(options: &Options) -> Self {
        let shared = Shared {
            index: RwLock::default(),
            sync: Mutex::default(),
            changes: watch::Sender::new(0),
            controller_instance: options.controller_instance.clone(),
            rules: Rules::new(options.inventory.clone()),
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
        let observed = self.refreshed(|index| {
            let observed = index.namespaces().flat_map(|(_, namespace)| namespace.observed().values());
            observed.map(|observed| observed.observation.clone()).collect::<Vec<_>>()
        });
        let Some(message) = unsynced else { return observed };
        let withheld = observed.into_iter().map(|variant| {
            let target = TargetObservation::NotFound { message: message.clone() };
            VariantObservation { target, ..variant }
        });
        withheld.collect()
    }

    /// What is wrong with each variant that cannot be used; nothing while not everything was listed.
    pub fn problems(&self) -> BTreeMap<VariantKey, Vec<Problem>> {
        if !self.is_synced() {
            return BTreeMap::new();
        }
        self.refreshed(|index| {
            let observed = index.namespaces().flat_map(|(_, namespace)| namespace.observed().values());
            let wrong = observed.filter(|observed| !observed.problems.is_empty());
            wrong.map(|observed| (observed.observation.variant.key.clone(), observed.problems.clone())).collect()
        })
    }

    /// What declares each of these variants, as last seen, and what is wrong with it, in their order; `None` where it could
    /// not be read or is gone.
    pub fn declarations<'a>(&self, variants: impl Iterator<Item = &'a VariantKey>) -> Vec<Option<Declaration>> {
        self.refreshed(|index| {
            let declaration = |key: &VariantKey| {
                let (_, namespace) = index.namespace(&key.namespace)?;
                let (_, declared) = namespace.declared(&key.name)?;
                let problems = namespace.observed().get(&key.name).map(|observed| observed.problems.clone());
                let declared_by = match (&declared.object.0, &declared.annotated) {
                    (Some(object), _) => DeclaredBy::VariantAutoscaling(object.clone()),
                    (None, Some(annotated)) => DeclaredBy::Annotations(annotated.as_variant(declared)),
                    (None, None) => return None,
                };
                let reference = declared.annotated.as_ref().map(|annotated| annotated.reference());
                Some(Declaration { declared_by, reference, problems: problems.unwrap_or_default() })
            };
            variants.map(declaration).collect()
        })
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

    /// What counts as an accelerator here.
    pub(crate) fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    /// Takes over an object that was added or changed.
    pub(crate) fn applied<W: Watched>(&self, watched: &W, object: W::Object) {
        let Some((namespace, name)) = watched.identity(object.meta()) else { return };
        self.store(watched, &namespace, &name, watched.reduce(object));
    }

    /// Takes over an object that was deleted.
    pub(crate) fn deleted<W: Watched>(&self, watched: &W, object: &Sent) {
        let Some((namespace, name)) = watched.identity(object.meta()) else { return };
        self.store(watched, &namespace, &name, None);
    }

    /// Takes over a complete list of one kind.
    pub(crate) fn listed<W: Watched>(&self, watched: &W, objects: Vec<(Arc<str>, Arc<str>, W::Slim)>) {
        self.deliver(watched, |index| index.replace(watched, objects));
    }

    /// Notes how far the watch of a kind of scale targets has come; `None` when it is watched no more.
    pub(crate) fn set_kind(&self, kind: &Arc<GroupKind>, state: Option<KindState>) {
        if self.index_mut(|index| index.set_kind(kind, state)).matters() {
            self.announce();
        }
    }

    /// Whether the objects of a kind of scale targets are known.
    pub(crate) fn is_known(&self, kind: &Arc<GroupKind>) -> bool {
        self.index().kinds.get(kind) == Some(&KindState::Listed)
    }

    /// Forgets a kind that no variant scales any more.
    pub(crate) fn forget_kind(&self, kind: &Arc<GroupKind>) {
        let effect = self.index_mut(|index| {
            let mut effect = index.forget_workloads(kind);
            effect |= index.set_kind(kind, None);
            effect
        });
        if effect.matters() {
            self.announce();
        }
    }

    /// Kinds of scale targets that are not built in, with the API version in which a variant names each.
    pub(crate) fn wanted_kinds(&self) -> BTreeMap<Arc<GroupKind>, Arc<str>> {
        self.index().wanted_kinds()
    }

    /// Takes note of a failed watch. Returns whether the failure is news.
    ///
    /// Where the kind is not installed, or no longer, there are no objects of it.
    pub(crate) fn failed<W: Watched>(&self, watched: &W, failure: WatchFailure) -> bool {
        let gone = matches!(failure, WatchFailure::NotInstalled(_));
        let mut matters = false;
        watched.failed(self, &failure);
        let news = self.with_sync(&mut matters, |sync| sync.failed(&watched.resource(), failure, Instant::now()));
        if news && gone {
            matters |= self.index_mut(|index| index.replace(watched, Vec::new())).matters();
        }
        if matters {
            self.announce();
        }
        news
    }

    /// Stores an object of a kind, or removes it.
    pub(crate) fn store<W: Watched>(&self, watched: &W, namespace: &str, name: &str, slim: Option<W::Slim>) {
        self.deliver(watched, |index| index.store(watched, namespace, name, slim));
    }

    /// Changes the index by what a watch delivered; `change` tells what it bears on.
    fn deliver<W: Watched>(&self, watched: &W, change: impl FnOnce(&mut Index) -> Effect) {
        let mut matters = self.index_mut(change).matters();
        let resource = watched.resource();
        if let Some(failure) = self.with_sync(&mut matters, |sync| sync.delivered(&resource)) {
            tracing::info!(%resource, after = %failure, "watch works again");
        }
        watched.delivered(self);
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

    /// Reads the index with everything that changed assembled again.
    fn refreshed<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        self.index_mut(|index| {
            index.refresh(self.shared.controller_instance.as_deref());
            read(index)
        })
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

    /// Unknown until nodes and pods were listed, and for good where they may not be.
    fn inventory(&self) -> Option<Arc<Inventory>> {
        let (nodes, pods) = (WatchedResource::Nodes, WatchedResource::Pods);
        {
            let sync = self.sync();
            if !(sync.is_listed(&nodes) && sync.is_listed(&pods) && sync.is_synced()) {
                return None;
            }
        }
        let index = self.index();
        Some(index.inventory.get_or_init(|| Arc::new(inventory::assemble(&index, &self.shared.rules))).clone())
    }
}

impl PodDirectory for ClusterState {
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity> {
        let index = self.index();
        let (name, namespace) = index.namespace(namespace)?;
        let pod = namespace.pods.get(pod)?;
        let variant = namespace.variant_of(pod);
        Some(PodIdentity {
            variant: variant.map(|variant| VariantKey { namespace: name.clone(), name: variant.clone() }),
            ready: pod.ready,
            kv_cache_tokens: pod.kv_cache_tokens.map(NonZeroU64::get),
        })
    }

    fn declared_model(&self, namespace: &str, pod: &str) -> Option<Arc<str>> {
        let index = self.index();
        let (_, namespace) = index.namespace(namespace)?;
        let variant = namespace.variant_of(namespace.pods.get(pod)?)?;
        Some(namespace.declared(variant)?.1.model_id.clone())
    }

    fn endpoints(&self) -> Vec<PodEndpoint> {
        let of = |index: &Index| index.namespaces().flat_map(|(name, namespace)| namespace.endpoints(name)).collect();
        self.refreshed(of)
    }

    /// Everything that endpoints are made of matters to decisions too.
    fn revision(&self) -> Option<u64> {
        Some(*self.shared.changes.borrow())
    }
}
