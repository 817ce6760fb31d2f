//! Names of the things that are scaled.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model as it is scaled: variants compete only within one model key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
