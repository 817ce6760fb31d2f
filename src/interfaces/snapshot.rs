//! Everything a decision may depend on, at one moment.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AcceleratorLimits, AgeLimits, CapacityCurve, CapacityQuestion, EngineOptions, HpaObservation, Inventory, ModelKey,
    ModelObservation, Override, ReplicaMetrics, SaturationScalingConfig, ScaleObservation, ServiceObjective,
    SourceHealth, Variant, VariantKey, age,
};

/// Version of the snapshot schema; raised when an old snapshot would no longer replay to the same decisions.
pub const SNAPSHOT_VERSION: u32 = 1;

/// The input of [`crate::engines::step`]. It carries its own time: the core reads no clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// [`SNAPSHOT_VERSION`] of the writer.
    pub version: u32,
    /// When it was taken; ages are counted back from here.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub taken_at: Timestamp,
    /// Every variant with what was seen of it.
    pub variants: Vec<VariantObservation>,
    /// Metric sources and their last error, for messages.
    #[serde(default)]
    pub sources: Vec<SourceHealth>,
    /// What metric sources know of models that they have no signals of, for messages: a clause with a remedy.
    #[serde(default, with = "per_model")]
    #[schemars(with = "Vec<OfModel<String>>")]
    pub unavailable: BTreeMap<ModelKey, String>,
    /// What is known of each model beside its replicas.
    #[serde(default)]
    pub models: Vec<ModelObservation>,
    /// Engines whose signals count for no variant: for messages, not for decisions.
    #[serde(default)]
    pub unattributed: Vec<UnattributedEngines>,
    /// Accelerators of the cluster; `None` while it is unknown.
    #[serde(default)]
    pub inventory: Option<Arc<Inventory>>,
    /// Service objective per model, where the configuration has one.
    #[serde(default, with = "per_model")]
    #[schemars(with = "Vec<OfModel<Arc<ServiceObjective>>>")]
    pub objectives: BTreeMap<ModelKey, Arc<ServiceObjective>>,
    /// Models that give up all replicas when no request came for so long.
    #[serde(default, with = "per_model")]
    #[schemars(with = "Vec<OfModel<Duration>>")]
    pub scale_to_zero: BTreeMap<ModelKey, Duration>,
    /// Capacity curves computed so far, among them those that the state asked for.
    #[serde(default, with = "as_list")]
    #[schemars(with = "Vec<(Arc<CapacityQuestion>, Arc<CapacityCurve>)>")]
    pub curves: BTreeMap<Arc<CapacityQuestion>, Arc<CapacityCurve>>,
    /// What the SLO engine makes use of.
    #[serde(default)]
    pub engine: EngineOptions,
    /// How long signals, decisions and pending replicas count.
    #[serde(default)]
    pub ages: AgeLimits,
    /// Saturation thresholds of models without an entry of their own.
    #[serde(default)]
    pub saturation: Arc<SaturationScalingConfig>,
    /// Saturation thresholds per model, already merged over the default.
    #[serde(default, with = "per_model")]
    #[schemars(with = "Vec<OfModel<Arc<SaturationScalingConfig>>>")]
    pub saturation_per_model: BTreeMap<ModelKey, Arc<SaturationScalingConfig>>,
    /// How far decisions are held to the inventory.
    #[serde(default)]
    pub limits: AcceleratorLimits,
    /// Overrides on all variants of a model; a spend cap holds for all of them together.
    #[serde(default, with = "per_model")]
    #[schemars(with = "Vec<OfModel<Vec<Override>>>")]
    pub overrides: BTreeMap<ModelKey, Vec<Override>>,
}

impl Snapshot {
    /// A moment at which nothing was seen, under the default limits.
    pub fn at(taken_at: Timestamp) -> Self {
        Self {
            version: SNAPSHOT_VERSION,
            taken_at,
            variants: Vec::new(),
            sources: Vec::new(),
            unavailable: BTreeMap::new(),
            models: Vec::new(),
            unattributed: Vec::new(),
            inventory: None,
            objectives: BTreeMap::new(),
            scale_to_zero: BTreeMap::new(),
            curves: BTreeMap::new(),
            engine: EngineOptions::default(),
            ages: AgeLimits::default(),
            saturation: Arc::default(),
            saturation_per_model: BTreeMap::new(),
            limits: AcceleratorLimits::default(),
            overrides: BTreeMap::new(),
        }
    }

    /// Where in `variants` each of these is; `None` for one that is not there. Where they stand in the order of `variants`,
    /// as decisions do, nothing is searched for.
    pub fn places<'k>(&self, keys: impl Iterator<Item = &'k VariantKey>) -> Vec<Option<usize>> {
        let searched = LazyCell::new(|| {
            let places = self.variants.iter().enumerate();
            places.map(|(index, observed)| (&observed.variant.key, index)).collect::<HashMap<_, _>>()
        });
        let mut next = 0;
        let place = |key: &VariantKey| {
            let is_next = self.variants.get(next).is_some_and(|observed| observed.variant.key == *key);
            let found = if is_next { Some(next) } else { searched.get(key).copied() };
            next = found.map_or(next, |index| index + 1);
            found
        };
        keys.map(place).collect()
    }

    /// Thresholds that hold for `model`.
    pub fn saturation_of(&self, model: &ModelKey) -> &SaturationScalingConfig {
        self.saturation_per_model.get(model).unwrap_or(&self.saturation)
    }
}

/// Pods that serve one model and count for no variant. A model name that differs a little from what variants declare makes
/// an autoscaler silently inert; so it is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnattributedEngines {
    /// The model that they say they serve.
    pub model: ModelKey,
    /// The variant whose replicas they are, which declares another model; `None` where they are replicas of no variant.
    pub variant: Option<VariantKey>,
    /// How many ready pods.
    pub pods: usize,
    /// One of them: the first by name.
    pub example: Arc<str>,
}

/// One variant and what was seen of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariantObservation {
    /// As declared.
    pub variant: Variant,
    /// Its scale target.
    pub target: TargetObservation,
    /// Signals of its engine instances.
    #[serde(default)]
    pub replicas: Vec<ReplicaMetrics>,
    /// HPAs on its scale target.
    #[serde(default)]
    pub autoscalers: Vec<HpaObservation>,
}

impl VariantObservation {
    /// Pods with a signal sampled within `age_limit` of `now`. The engines of a pod stand side by side.
    pub fn measured_pods(&self, now: Timestamp, age_limit: Duration) -> usize {
        let is_fresh = |replica: &ReplicaMetrics| {
            let sampled_at = replica.queue_length.sampled_at().max(replica.kv_cache_usage.sampled_at());
            sampled_at.is_some_and(|at| age(now, at) <= age_limit)
        };
        let pods = self.replicas.chunk_by(|one, next| one.pod == next.pod);
        pods.filter(|engines| engines.iter().any(is_fresh)).count()
    }
}

/// The scale target, if it could be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum TargetObservation {
    /// Its replica counts.
    Found(ScaleObservation),
    /// Why there are none: a sentence that names the object and the remedy.
    #[serde(rename_all = "camelCase")]
    NotFound {
        /// The sentence.
        message: String,
    },
}

/// A value of one model, as a map by model is written.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of `per_model`, which writes references")]
struct OfModel<V> {
    /// The model.
    model: ModelKey,
    /// Its value.
    value: V,
}

/// JSON objects have string keys: other maps are written as lists of pairs.
pub(crate) mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub(crate) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// JSON objects have string keys: a map by model is written as a list of pairs.
mod per_model {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ModelKey;

    #[derive(Serialize, Deserialize)]
    struct Entry<K, V> {
        model: K,
        value: V,
    }

    pub(super) fn serialize<V: Serialize, S: Serializer>(
        map: &BTreeMap<ModelKey, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(model, value)| Entry { model, value }))
    }

    pub(super) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ModelKey, V>, D::Error> {
        let entries = Vec::<Entry<ModelKey, V>>::deserialize(deserializer)?;
        Ok(entries.into_iter().map(|Entry { model, value }| (model, value)).collect())
    }
}
