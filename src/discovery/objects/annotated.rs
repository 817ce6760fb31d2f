//! Variants without a `VariantAutoscaling`: the annotations of an autoscaler, as upstream's release 0.9 has them.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::ObjectMeta;

use super::{
    DeclaredVariant, LatestObject, ObjectKey, Source,
    declared::cost,
    variant::{CONTROLLER_INSTANCE_LABEL, accelerator_label},
};
use crate::{
    crd::{ScaleTargetRef, VariantAutoscaling, VariantAutoscalingSpec},
    discovery::Problem,
    interfaces::{ReplicaBounds, TargetReference, VariantKey},
};

/// `"true"` makes an autoscaler a variant.
const MANAGED: &str = "llm-d.ai/managed";
/// The model served.
const MODEL_ID: &str = "llm-d.ai/model-id";
/// Cost of one replica.
const VARIANT_COST: &str = "llm-d.ai/variant-cost";
/// Cost where none is given, as in the CRD.
const DEFAULT_COST: f64 = 10.0;

/// The object that carries the annotations: where events about the variant go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnnotatedObject {
    /// Kind of the object.
    pub source: Source,
    /// API version.
    pub api_version: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Tells a namesake created later.
    pub uid: Option<String>,
}

impl AnnotatedObject {
    /// As events refer to it.
    pub(crate) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version.to_owned()),
            kind: Some(self.source.to_string()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }

    /// The `VariantAutoscaling` that would say the same.
    pub(crate) fn as_variant(&self, declared: &DeclaredVariant) -> Arc<VariantAutoscaling> {
        let TargetReference { api_version, kind, name } = &declared.reference;
        let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
        let spec = VariantAutoscalingSpec {
            scale_target_ref: ScaleTargetRef {
                api_version: api_version.to_string(),
                kind: kind.to_string(),
                name: name.to_string(),
            },
            model_id: declared.model_id.to_string(),
            variant_cost: declared.cost.to_string(),
            min_replicas: Some(count(declared.bounds.min)),
            max_replicas: declared.bounds.max.map(count),
            overrides: declared.overrides.to_vec(),
            shadow: declared.shadow,
        };
        let mut object = VariantAutoscaling::new(&self.name, spec);
        object.metadata.namespace = Some(self.namespace.clone());
        object.metadata.uid.clone_from(&self.uid);
        Arc::new(object)
    }
}

/// What the autoscaler itself says.
pub(super) struct Autoscaling {
    pub source: Source,
    pub api_version: &'static str,
    pub target: TargetReference,
    pub bounds: ReplicaBounds,
}

/// The variant that the annotations of an autoscaler declare; `None` where they do not, or for another installation.
pub(super) fn declared(
    metadata: &ObjectMeta,
    autoscaling: Autoscaling,
    controller_instance: Option<&str>,
) -> Option<DeclaredVariant> {
    let none = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&none);
    let labels = metadata.labels.as_ref().unwrap_or(&none);
    if annotations.get(MANAGED).map(String::as_str) != Some("true") {
        return None;
    }
    if controller_instance.is_some() && labels.get(CONTROLLER_INSTANCE_LABEL).map(String::as_str) != controller_instance
    {
        return None;
    }
    let Autoscaling { source, api_version, target, bounds } = autoscaling;
    let key = VariantKey::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?);
    let mut problems = Vec::new();
    let mut wrong = |annotation: &'static str, value: &str, rule: &'static str| {
        let (declared_by, value) = (source.to_string(), value.to_owned());
        problems.push(Problem::InvalidAnnotation { variant: key.clone(), declared_by, annotation, value, rule });
    };
    let model_id = annotations.get(MODEL_ID).map_or("", |model| model.trim());
    if model_id.is_empty() {
        wrong(MODEL_ID, model_id, "it must equal the model_name label of the engine's metrics");
    }
    let variant_cost = match annotations.get(VARIANT_COST) {
        None => DEFAULT_COST,
        Some(text) => cost(text).unwrap_or_else(|| {
            wrong(VARIANT_COST, text, "it must be a decimal number of at least 0, such as 10.0");
            DEFAULT_COST
        }),
    };
    let annotated = AnnotatedObject {
        source,
        api_version,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: metadata.uid.clone(),
    };
    Some(DeclaredVariant {
        model_id: model_id.into(),
        cost: variant_cost,
        bounds,
        overrides: Arc::default(),
        shadow: false,
        accelerator: accelerator_label(labels),
        target: Some(ObjectKey::new(&target.api_version, &target.kind, &target.name)),
        reference: target,
        problems,
        object: LatestObject::default(),
        annotated: Some(Arc::new(annotated)),
    })
}
