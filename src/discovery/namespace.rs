//! The watched objects of one namespace, and which variant each belongs to: nothing that matters to a variant's counts lies
//! outside its namespace.
//!
//! ```text
//! Pod ─► ReplicaSet ─► Deployment, Rollout ◄─ VariantAutoscaling, annotated autoscaler
//! Pod ─► StatefulSet ─► LeaderWorkerSet ◄───────────┘        HPA ─► any of them
//! ```
//!
//! Objects may arrive in any order. Links are kept both ways, so that a change costs what it touches: up from an object to
//! the variants it bears on, down from a scale target to its pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU64,
    sync::Arc,
};

use super::{
    assemble::{self, Observed, Surroundings},
    index::Effect,
    inventory::Usage,
    objects::{
        Autoscaler, Claim, ClaimedDevices, DeclaredVariant, GroupKind, ObjectKey, ObjectKind, OptOut, Pod, Quota,
        Source, Table, Workload,
    },
};
use crate::interfaces::PodEndpoint;

/// Most objects that are looked through for the pods of one scale target.
const MAX_OBJECTS: usize = 10_000;
/// Longest chain of owners that is followed.
const MAX_HOPS: usize = 8;

/// The watched objects of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) variants: Table<DeclaredVariant>,
    pub(crate) scaled_objects: Table<DeclaredVariant>,
    pub(crate) autoscalers: Table<Autoscaler>,
    workloads: HashMap<ObjectKind, Table<Workload>>,
    /// Controller of each `ReplicaSet`.
    pub(crate) replica_sets: Table<ObjectKey>,
    pub(crate) pods: Table<Pod>,
    pub(crate) quotas: Table<Quota>,
    pub(crate) claims: Table<Claim>,
    pub(crate) claim_templates: Table<ClaimedDevices>,
    #[expect(clippy::zero_sized_map_values, reason = "objects of every kind are kept in a table")]
    pub(crate) opt_out: Table<OptOut>,
    /// What declares a variant of each scale target.
    declarers: HashMap<ObjectKey, BTreeSet<(Source, Arc<str>)>>,
    /// HPAs on each scale target.
    autoscalers_on: HashMap<ObjectKey, BTreeSet<Arc<str>>>,
    /// Objects that each object controls.
    children: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Pods that each object controls.
    pods_of: HashMap<ObjectKey, BTreeSet<Arc<str>>>,
    /// HPAs whose selector may match several variants: what they select hangs on all of them.
    loose_selectors: usize,
    /// Accelerators that its pods hold.
    pub(crate) usage: Usage,
    /// Variants to assemble again.
    stale: BTreeSet<Arc<str>>,
    observed: BTreeMap<Arc<str>, Observed>,
}

impl Namespace {
    /// The variants as last assembled, by name.
    pub(crate) fn observed(&self) -> &BTreeMap<Arc<str>, Observed> {
        &self.observed
    }

    /// Assembles again what changed: cost grows with that.
    pub(crate) fn refresh(&mut self, name: &Arc<str>, surroundings: Surroundings<'_>) {
        let stale = std::mem::take(&mut self.stale);
        let assembled = assemble::observe(name, self, surroundings, stale);
        for (variant, observed) in assembled {
            match observed {
                Some(observed) => self.observed.insert(variant, observed),
                None => self.observed.remove(&variant),
            };
        }
    }

    /// The variant of that name, and what declares it; `None` where something else has its scale target or its name.
    pub(crate) fn declared(&self, name: &str) -> Option<(Source, &DeclaredVariant)> {
        if !self.opt_out.is_empty() {
            return None;
        }
        let annotated = || {
            let of_keda = self.scaled_objects.get(name).map(|declared| (Source::ScaledObject, declared));
            let of_hpa = self.autoscalers.get(name).and_then(|hpa| hpa.declared.as_ref());
            let of_hpa = of_hpa.map(|declared| (Source::HorizontalPodAutoscaler, declared));
            [of_keda, of_hpa].into_iter().flatten().find(|(source, declared)| {
                let first = declared.target.as_ref().and_then(|target| self.declarers.get(target)?.first());
                first.is_some_and(|(first, _)| first == source)
            })
        };
        let variant = self.variants.get(name).map(|declared| (Source::VariantAutoscaling, declared));
        variant.or_else(annotated)
    }

    /// All variants, in no order.
    pub(crate) fn all_declared(&self) -> impl Iterator<Item = (&Arc<str>, &DeclaredVariant)> {
        let names = self.variants.keys().chain(self.scaled_objects.keys()).chain(self.autoscalers.keys());
        let names: BTreeSet<&Arc<str>> = names.collect();
        names.into_iter().filter_map(|name| Some((name, self.declared(name)?.1)))
    }

    /// Whether a variant scales `target`.
    pub(crate) fn is_scaled(&self, target: &ObjectKey) -> bool {
        self.declarers.contains_key(target)
    }

    /// Names of the variants that scale `target`, in order.
    pub(crate) fn variants_of(&self, target: &ObjectKey) -> impl Iterator<Item = &Arc<str>> {
        let declarers = self.declarers.get(target);
        let first = declarers.and_then(BTreeSet::first).map(|(source, _)| *source);
        let of_first = declarers.into_iter().flatten().filter(move |(source, _)| Some(*source) == first);
        of_first.map(|(_, name)| name).filter(|_| self.opt_out.is_empty())
    }

    /// The variant whose replica `pod` is; `None` too where two variants scale one target: whose it is cannot be said.
    pub(crate) fn variant_of(&self, pod: &Pod) -> Option<&Arc<str>> {
        let target = self.target_of(pod)?;
        let mut variants = self.variants_of(&target);
        let first = variants.next()?;
        let is_only = variants.next().is_none();
        is_only.then_some(first)
    }

    /// Where the ready pods of variants expose their metrics; beside variants also those of none that hold accelerators and
    /// ask to be scraped, as they may serve a variant's model.
    pub(crate) fn endpoints<'a>(&'a self, name: &'a Arc<str>) -> impl Iterator<Item = PodEndpoint> + 'a {
        let has_variants = !self.observed().is_empty();
        self.pods.iter().filter(|(_, pod)| pod.ready).filter_map(move |(pod_name, pod)| {
            let exposed = pod.exposed.as_deref()?;
            let model_id = match self.variant_of(pod) {
                Some(variant) => Some(self.observed().get(variant)?.observation.variant.model.model_id.clone()),
                None if has_variants && exposed.asks && !pod.requests.is_empty() => None,
                None => return None,
            };
            Some(PodEndpoint {
                namespace: name.clone(),
                pod: pod_name.clone(),
                model_id,
                address: exposed.address,
                ports: exposed.ports.clone(),
                path: exposed.path.clone(),
                kv_cache_tokens: pod.kv_cache_tokens.map(NonZeroU64::get),
            })
        })
    }

    /// The scaled object that owns a pod in the end, the nearest where there are several; `None` while a link is unknown.
    pub(crate) fn target_of(&self, pod: &Pod) -> Option<ObjectKey> {
        self.owners(pod.owner.as_ref()?).find(|owner| self.is_scaled(owner)).cloned()
    }

    /// An object and its owners.
    fn owners<'a>(&'a self, object: &'a ObjectKey) -> impl Iterator<Item = &'a ObjectKey> {
        std::iter::successors(Some(object), |object| self.owner_of(object)).take(MAX_HOPS)
    }

    fn owner_of(&self, object: &ObjectKey) -> Option<&ObjectKey> {
        match &object.kind {
            ObjectKind::ReplicaSet => self.replica_sets.get(&object.name),
            _ => self.workload(object)?.owner.as_ref(),
        }
    }

    /// The pods that `target` owns in the end, without those of objects below it that are scaled on their own.
    pub(crate) fn pods_under<'a>(&'a self, target: &'a ObjectKey) -> impl Iterator<Item = &'a Pod> {
        let (mut objects, mut next) = (vec![target], 0);
        while next < objects.len().min(MAX_OBJECTS) {
            let children = self.children.get(objects[next]).into_iter().flatten();
            objects.extend(children.filter(|child| !self.is_scaled(child)));
            next += 1;
        }
        let names = objects.into_iter().filter_map(|object| self.pods_of.get(object)).flatten();
        names.filter_map(|name| self.pods.get(name))
    }

    /// The workload that `target` names.
    pub(crate) fn workload(&self, target: &ObjectKey) -> Option<&Workload> {
        self.workloads.get(&target.kind)?.get(&target.name)
    }

    /// Workloads of one kind.
    pub(crate) fn workloads_of(&mut self, kind: &ObjectKind) -> &mut Table<Workload> {
        self.workloads.entry(kind.clone()).or_default()
    }

    /// HPAs on a scale target, by name.
    pub(crate) fn autoscalers_on(&self, target: &ObjectKey) -> impl Iterator<Item = (&Arc<str>, &Autoscaler)> {
        let names = self.autoscalers_on.get(target).into_iter().flatten();
        names.filter_map(|name| Some((name, self.autoscalers.get(name)?)))
    }

    /// Kinds of scale targets that are not built in, with the API version in which a variant names each.
    pub(crate) fn wanted_kinds(&self) -> BTreeMap<Arc<GroupKind>, Arc<str>> {
        let mut wanted = BTreeMap::new();
        for (target, declarers) in &self.declarers {
            if let (ObjectKind::Other(kind), Some((_, name))) = (&target.kind, declarers.first())
                && let Some((_, declared)) = self.declared(name)
            {
                wanted.insert(kind.clone(), declared.reference.api_version.clone());
            }
        }
        wanted
    }

    /// Whether nothing is known of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.variants.is_empty()
            && self.scaled_objects.is_empty()
            && self.autoscalers.is_empty()
            && self.workloads.values().all(HashMap::is_empty)
            && self.replica_sets.is_empty()
            && self.pods.is_empty()
            && self.quotas.is_empty()
            && self.claims.is_empty()
            && self.claim_templates.is_empty()
            && self.opt_out.is_empty()
            && self.observed.is_empty()
            && self.stale.is_empty()
    }
}

/// What a change bears on.
impl Namespace {
    /// A change in `object`, or in something that it controls.
    pub(crate) fn touch_object(&mut self, object: &ObjectKey) -> Effect {
        let names: Vec<Arc<str>> = self
            .owners(object)
            .filter_map(|owner| self.declarers.get(owner))
            .flatten()
            .map(|(_, name)| name.clone())
            .collect();
        let effect = if names.is_empty() { Effect::NONE } else { Effect::DECISION };
        self.stale.extend(names);
        effect
    }

    /// A change in a workload. Its accelerator is a label that loose selectors look at.
    pub(crate) fn touch_workload(&mut self, kind: ObjectKind, name: &Arc<str>, workload: &Workload) -> Effect {
        let mut effect = self.touch_object(&ObjectKey { kind, name: name.clone() });
        if let Some(owner) = &workload.owner {
            effect |= self.touch_object(owner);
        }
        if effect.decision && self.loose_selectors > 0 {
            effect |= self.touch_all();
        }
        effect
    }

    /// A change in the declaration of a variant.
    pub(crate) fn touch_declared(&mut self, name: &Arc<str>, declared: &DeclaredVariant) -> Effect {
        self.stale.insert(name.clone());
        if let Some(target) = &declared.target {
            self.touch_object(target);
        }
        if self.loose_selectors > 0 {
            self.touch_all();
        }
        Effect { decision: true, inventory: !self.quotas.is_empty() }
    }

    /// A change in what can be known of a kind.
    pub(crate) fn touch_kind(&mut self, kind: &ObjectKind) -> Effect {
        let of_kind = self.declarers.iter().filter(|(target, _)| target.kind == *kind);
        let names: Vec<Arc<str>> = of_kind.flat_map(|(_, names)| names).map(|(_, name)| name.clone()).collect();
        let effect = if names.is_empty() { Effect::NONE } else { Effect::DECISION };
        self.stale.extend(names);
        effect
    }

    /// A change that may bear on every variant.
    pub(crate) fn touch_all(&mut self) -> Effect {
        self.stale.extend(self.variants.keys().cloned());
        self.stale.extend(self.scaled_objects.keys().cloned());
        let declaring = self.autoscalers.iter().filter(|(_, autoscaler)| autoscaler.declared.is_some());
        self.stale.extend(declaring.map(|(name, _)| name.clone()));
        if self.stale.is_empty() { Effect::NONE } else { Effect::DECISION }
    }
}

/// Links, which follow the objects.
impl Namespace {
    /// What `name` declares moved from one scale target to another.
    pub(crate) fn relink_declarer(
        &mut self,
        source: Source,
        name: &Arc<str>,
        old: Option<ObjectKey>,
        new: Option<ObjectKey>,
    ) -> Effect {
        relink(&mut self.declarers, (source, name.clone()), old, new);
        Effect::NONE
    }

    /// An HPA changed, which was `old`.
    pub(crate) fn relink_autoscaler(&mut self, name: &Arc<str>, old: Option<&Autoscaler>) -> Effect {
        let new = self.autoscalers.get(name);
        let target = |hpa: &Autoscaler| hpa.target.clone();
        relink(&mut self.autoscalers_on, name.clone(), old.map(target), new.map(target));
        let declared = |hpa: &Autoscaler| hpa.declared.as_ref().and_then(|declared| declared.target.clone());
        let (before, after) = (old.and_then(declared), new.and_then(declared));
        relink(&mut self.declarers, (Source::HorizontalPodAutoscaler, name.clone()), before, after);
        let is_loose = |hpa: &Autoscaler| hpa.metric.as_ref().is_some_and(|metric| !metric.pins_variant());
        self.loose_selectors += usize::from(new.is_some_and(is_loose));
        self.loose_selectors -= usize::from(old.is_some_and(is_loose));
        Effect::NONE
    }

    /// A workload changed, which was `old`.
    pub(crate) fn relink_workload(&mut self, kind: ObjectKind, name: &Arc<str>, old: Option<&Workload>) -> Effect {
        let key = ObjectKey { kind, name: name.clone() };
        let new = self.workload(&key).and_then(|workload| workload.owner.clone());
        self.relink_child(&key, old.and_then(|old| old.owner.clone()), new);
        Effect::NONE
    }

    /// A kind of workloads is not watched any more.
    pub(crate) fn forget_workloads(&mut self, kind: &ObjectKind) -> Effect {
        let mut effect = Effect::NONE;
        for (name, workload) in self.workloads.remove(kind).unwrap_or_default() {
            effect |= self.touch_workload(kind.clone(), &name, &workload);
            effect |= self.relink_workload(kind.clone(), &name, Some(&workload));
        }
        effect
    }

    /// An object moved from one controller to another.
    pub(crate) fn relink_child(&mut self, child: &ObjectKey, old: Option<ObjectKey>, new: Option<ObjectKey>) {
        relink(&mut self.children, child.clone(), old, new);
    }

    /// A pod changed, which was `old`.
    pub(crate) fn relink_pod(&mut self, name: &Arc<str>, old: Option<&Pod>) -> Effect {
        let new = self.pods.get(name);
        let owner = |pod: &Pod| pod.owner.clone();
        relink(&mut self.pods_of, name.clone(), old.and_then(owner), new.and_then(owner));
        let holds = |pod: &Pod| (pod.node.clone(), pod.requests.clone());
        if old.map(holds) == new.map(holds) {
            return Effect::NONE;
        }
        let is_nothing = |pod: Option<&Pod>| pod.is_none_or(|pod| pod.requests.is_empty());
        if is_nothing(old) && is_nothing(new) {
            return Effect::NONE;
        }
        if let Some(pod) = old {
            change_usage(&mut self.usage, pod, u32::saturating_sub);
        }
        if let Some(pod) = new {
            change_usage(&mut self.usage, pod, |held, units| held + units);
        }
        Effect::INVENTORY
    }
}

/// Moves `item` from the set of one key to that of another.
fn relink<K: Eq + std::hash::Hash, T: Ord>(
    sets: &mut HashMap<K, BTreeSet<T>>,
    item: T,
    old: Option<K>,
    new: Option<K>,
) {
    if old == new {
        return;
    }
    if let Some(old) = old
        && let Some(set) = sets.get_mut(&old)
    {
        set.remove(&item);
        if set.is_empty() {
            sets.remove(&old);
        }
    }
    if let Some(new) = new {
        sets.entry(new).or_default().insert(item);
    }
}

/// A pod that is bound to no node holds nothing yet.
fn change_usage(usage: &mut Usage, pod: &Pod, change: impl Fn(u32, u32) -> u32) {
    let Some(node) = pod.node.as_ref().filter(|_| !pod.requests.is_empty()) else { return };
    let held = usage.entry(node.clone()).or_default();
    for (resource, units) in &pod.requests {
        let entry = held.entry(resource.clone()).or_default();
        *entry = change(*entry, *units);
    }
    held.retain(|_, units| *units > 0);
    if held.is_empty() {
        usage.remove(node);
    }
}
