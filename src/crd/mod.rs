//! The `VariantAutoscaling` resource, `llmd.ai/v1alpha1`.
//!
//! Group, kind, fields and their JSON spelling are upstream's, so that its objects apply unchanged. The schema in
//! `manifests/crd/` is generated from these types by [`yaml`]; nobody writes it by hand.

mod spec;
mod status;

use kube::CustomResourceExt;
use serde_json::Value;
use thiserror::Error;

pub use spec::{InvalidSpec, ScaleTargetRef, VariantAutoscaling, VariantAutoscalingSpec};
pub use status::{ActuationStatus, OptimizedAlloc, VariantAutoscalingStatus};

/// The label that names a variant's accelerator where the pod template does not.
pub const ACCELERATOR_LABEL: &str = "inference.optimization/acceleratorName";

/// The `CustomResourceDefinition` could not be written as YAML.
#[derive(Debug, Error)]
pub enum RenderError {
    /// The definition has no JSON form.
    #[error("the CustomResourceDefinition has no JSON form: {0}; this is a defect of wva, please report it")]
    Json(#[from] serde_json::Error),
    /// The definition has no YAML form.
    #[error("the CustomResourceDefinition has no YAML form: {0}; this is a defect of wva, please report it")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// The `CustomResourceDefinition` as YAML, ready for `kubectl apply --server-side`.
///
/// # Errors
/// When the definition cannot be serialised, which only a defect in the types can cause.
pub fn yaml() -> Result<String, RenderError> {
    let mut definition = serde_json::to_value(VariantAutoscaling::crd())?;
    tidy(&mut definition);
    Ok(serde_saphyr::to_string(&definition)?)
}

/// Writes whole numbers as such (bounds are floats in the schema type, and `1.0` would differ from the stored `1` in
/// every comparison) and unwraps descriptions, whose lines break where the source's do.
fn tidy(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < f64::from(u32::MAX));
            if let (true, Some(float)) = (number.is_f64(), float) {
                *number = (float as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            if let Some(Value::String(description)) = fields.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
