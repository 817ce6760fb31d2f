//! All watched objects: by namespace, and those of the cluster.

use std::{
    collections::{BTreeMap, HashSet},
    ops::BitOrAssign,
    sync::{Arc, OnceLock},
};

pub(crate) use super::namespace::Namespace;
use super::{
    assemble::Surroundings,
    inventory::NodeAccelerators,
    objects::{GroupKind, ObjectKind, Slice, Table, Watched},
};
use crate::interfaces::Inventory;

/// All watched objects.
#[derive(Debug, Default)]
pub(crate) struct Index {
    namespaces: BTreeMap<Arc<str>, Namespace>,
    pub(crate) cluster: Cluster,
    /// Kinds of scale targets that are not built in, and how far their watch has come.
    pub(crate) kinds: BTreeMap<Arc<GroupKind>, KindState>,
    /// What was counted since the last change that bears on it.
    pub(crate) inventory: OnceLock<Arc<Inventory>>,
}

/// The watched objects that lie in no namespace.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) nodes: Table<NodeAccelerators>,
    pub(crate) slices: Table<Slice>,
}

impl Cluster {
    /// Whether a driver reports devices of a node.
    pub(crate) fn has_slices(&self, node: &str) -> bool {
        self.slices.values().any(|slice| &*slice.node == node)
    }
}

/// How far the watch of a kind has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KindState {
    /// Its objects are known.
    Listed,
    /// What stands in the way, and the remedy.
    Unavailable(String),
}

/// What a change bears on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// On a decision.
    pub decision: bool,
    /// On the inventory of accelerators.
    pub inventory: bool,
}

impl Effect {
    pub(crate) const NONE: Self = Self { decision: false, inventory: false };
    pub(crate) const DECISION: Self = Self { decision: true, inventory: false };
    pub(crate) const INVENTORY: Self = Self { decision: false, inventory: true };

    /// Whether it bears on anything.
    pub(crate) fn matters(self) -> bool {
        self != Self::NONE
    }
}

impl BitOrAssign for Effect {
    fn bitor_assign(&mut self, other: Self) {
        self.decision |= other.decision;
        self.inventory |= other.inventory;
    }
}

/// Where objects of a kind are kept: in their namespace, or with those of the cluster.
pub(crate) trait Home: Default + 'static {
    /// The home for a namespace, if it holds anything.
    fn find<'a>(index: &'a mut Index, namespace: &str) -> Option<&'a mut Self>;
    /// The home for a namespace.
    fn make<'a>(index: &'a mut Index, namespace: &str) -> &'a mut Self;
    /// Forgets the home for a namespace if it holds nothing.
    fn prune(index: &mut Index, namespace: &str);
    /// All homes with the namespace of each.
    fn all(index: &mut Index) -> impl Iterator<Item = (Arc<str>, &mut Self)>;
}

impl Home for Cluster {
    fn find<'a>(index: &'a mut Index, _namespace: &str) -> Option<&'a mut Self> {
        Some(&mut index.cluster)
    }

    fn make<'a>(index: &'a mut Index, _namespace: &str) -> &'a mut Self {
        &mut index.cluster
    }

    fn prune(_index: &mut Index, _namespace: &str) {}

    fn all(index: &mut Index) -> impl Iterator<Item = (Arc<str>, &mut Self)> {
        std::iter::once(("".into(), &mut index.cluster))
    }
}

impl Home for Namespace {
    fn find<'a>(index: &'a mut Index, namespace: &str) -> Option<&'a mut Self> {
        index.namespaces.get_mut(namespace)
    }

    fn make<'a>(index: &'a mut Index, namespace: &str) -> &'a mut Self {
        index.namespaces.entry(namespace.into()).or_default()
    }

    fn prune(index: &mut Index, namespace: &str) {
        if index.namespaces.get(namespace).is_some_and(Self::is_empty) {
            index.namespaces.remove(namespace);
        }
    }

    fn all(index: &mut Index) -> impl Iterator<Item = (Arc<str>, &mut Self)> {
        index.namespaces.iter_mut().map(|(name, namespace)| (name.clone(), namespace))
    }
}

impl Index {
    /// All namespaces, by name.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &Namespace)> {
        self.namespaces.iter()
    }

    /// One namespace with its name.
    pub(crate) fn namespace(&self, name: &str) -> Option<(&Arc<str>, &Namespace)> {
        self.namespaces.get_key_value(name)
    }

    /// Assembles again what changed since the last time.
    pub(crate) fn refresh(&mut self, controller_instance: Option<&str>) {
        let surroundings = Surroundings { controller_instance, kinds: &self.kinds };
        self.namespaces.retain(|name, namespace| {
            namespace.refresh(name, surroundings);
            !namespace.is_empty()
        });
    }

    /// Stores an object, or removes it (`None`). Tells what that bears on.
    pub(crate) fn store<W: Watched>(
        &mut self,
        watched: &W,
        namespace: &str,
        name: &str,
        slim: Option<W::Slim>,
    ) -> Effect {
        if slim.is_none() && W::Home::find(self, namespace).is_none() {
            return Effect::NONE;
        }
        let effect = store(watched, W::Home::make(self, namespace), name, slim);
        W::Home::prune(self, namespace);
        if effect.inventory {
            self.inventory.take();
        }
        effect
    }

    /// Makes `listed` the only objects of their kind. Tells what that bears on.
    pub(crate) fn replace<W: Watched>(&mut self, watched: &W, listed: Vec<(Arc<str>, Arc<str>, W::Slim)>) -> Effect {
        let present: HashSet<(&str, &str)> =
            listed.iter().map(|(namespace, name, _)| (&**namespace, &**name)).collect();
        let mut gone = Vec::new();
        for (namespace, home) in W::Home::all(self) {
            let known = watched.table(home).keys().map(|name| (namespace.clone(), name.clone()));
            gone.extend(known.filter(|(namespace, name)| !present.contains(&(&**namespace, &**name))));
        }
        let mut effect = Effect::NONE;
        for (namespace, name) in gone {
            effect |= self.store(watched, &namespace, &name, None);
        }
        for (namespace, name, slim) in listed {
            effect |= self.store(watched, &namespace, &name, Some(slim));
        }
        effect
    }

    /// Notes how far the watch of a kind has come; `None` when it is watched no more.
    pub(crate) fn set_kind(&mut self, kind: &Arc<GroupKind>, state: Option<KindState>) -> Effect {
        if self.kinds.get(kind) == state.as_ref() {
            return Effect::NONE;
        }
        match state {
            Some(state) => self.kinds.insert(kind.clone(), state),
            None => self.kinds.remove(kind),
        };
        let mut effect = Effect::NONE;
        for namespace in self.namespaces.values_mut() {
            effect |= namespace.touch_kind(&ObjectKind::Other(kind.clone()));
        }
        effect
    }

    /// Forgets the objects of a kind of scale targets.
    pub(crate) fn forget_workloads(&mut self, kind: &Arc<GroupKind>) -> Effect {
        let mut effect = Effect::NONE;
        for namespace in self.namespaces.values_mut() {
            effect |= namespace.forget_workloads(&ObjectKind::Other(kind.clone()));
        }
        effect
    }

    /// Kinds of scale targets that are not built in, with the API version in which a variant names each.
    pub(crate) fn wanted_kinds(&self) -> BTreeMap<Arc<GroupKind>, Arc<str>> {
        self.namespaces.values().flat_map(Namespace::wanted_kinds).collect()
    }
}

fn store<W: Watched>(watched: &W, home: &mut W::Home, name: &str, slim: Option<W::Slim>) -> Effect {
    let (name, old) = match watched.table(home).remove_entry(name) {
        Some((name, old)) => (name, Some(old)),
        None => (name.into(), None),
    };
    let changed = old != slim;
    let mut effect = Effect::NONE;
    if let Some(old) = old.as_ref().filter(|_| changed) {
        effect |= watched.touch(home, &name, old);
    }
    let is_present = slim.is_some();
    if let Some(slim) = slim {
        watched.table(home).insert(name.clone(), slim);
    }
    if !changed {
        return effect;
    }
    effect |= watched.relink(home, &name, old.as_ref());
    if is_present && let Some((name, slim)) = watched.table(home).remove_entry(&name) {
        effect |= watched.touch(home, &name, &slim);
        watched.table(home).insert(name, slim);
    }
    effect
}
