//! Names of the things that are scaled.

use std::{cmp::Ordering, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model as it is scaled: variants compete only within one model key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelKey {
    /// Namespace of the variants.
    pub namespace: Arc<str>,
    /// `spec.modelID`; equals the engine's `model_name` label.
    pub model_id: Arc<str>,
}

impl ModelKey {
    /// The key of `model_id` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, model_id: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), model_id: model_id.into() }
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in namespace {}", self.model_id, self.namespace)
    }
}

/// One variant: a `VariantAutoscaling` (or, in annotation mode, an HPA) by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariantKey {
    /// Namespace of the variant and of its scale target.
    pub namespace: Arc<str>,
    /// Name of the `VariantAutoscaling`; the `variant_name` label on the wire.
    pub name: Arc<str>,
}

impl VariantKey {
    /// The key of the variant `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for VariantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Keys are looked up and sorted by the thousand in every cycle, and most share their texts with what they are compared
/// to: those are equal without being read.
fn compare(one: [&Arc<str>; 2], other: [&Arc<str>; 2]) -> Ordering {
    let by = |a: &Arc<str>, b: &Arc<str>| if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) };
    by(one[0], other[0]).then_with(|| by(one[1], other[1]))
}

impl Ord for ModelKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare([&self.namespace, &self.model_id], [&other.namespace, &other.model_id])
    }
}

impl PartialOrd for ModelKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VariantKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare([&self.namespace, &self.name], [&other.namespace, &other.name])
    }
}

impl PartialOrd for VariantKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
