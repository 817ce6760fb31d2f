//! The `VariantAutoscaling`s: what their owners declared, checked field by field.

use std::sync::Arc;

use kube::{Resource, core::DeserializeGuard, runtime::watcher};

use super::{
    Address, DeclaredVariant, LatestObject, ObjectKey, Source, Table, Watched, built_in, count, declared::cost, scoped,
};
use crate::{
    crd::{ACCELERATOR_LABEL, VariantAutoscaling},
    discovery::{
        Options, Problem, accelerator,
        index::{Effect, Namespace},
        inventory::Labels,
        sync::WatchedResource,
    },
    interfaces::{ReplicaBounds, TargetReference, VariantKey},
};

/// The label that says which installation a `VariantAutoscaling` belongs to, where several share a cluster.
pub(super) const CONTROLLER_INSTANCE_LABEL: &str = "wva.llmd.ai/controller-instance";

/// The `VariantAutoscaling` watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variants;

impl Watched for Variants {
    /// One object that cannot be read must not blind us to the others.
    type Object = DeserializeGuard<VariantAutoscaling>;
    type Slim = DeclaredVariant;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::VariantAutoscalings
    }

    fn address(&self, options: &Options) -> Address {
        scoped(built_in::<VariantAutoscaling>(), options)
    }

    fn selection(&self, options: &Options) -> watcher::Config {
        let config = watcher::Config::default();
        match &options.controller_instance {
            Some(instance) => config.labels(&format!("{CONTROLLER_INSTANCE_LABEL}={instance}")),
            None => config,
        }
    }

    fn reduce(&self, object: Self::Object) -> Option<DeclaredVariant> {
        let metadata = object.meta();
        let key = VariantKey::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?);
        let accelerator = metadata.labels.as_ref().and_then(accelerator_label);
        let declared = match object.0 {
            Ok(object) => declared(&key, object),
            Err(invalid) => unreadable(key, invalid.error),
        };
        Some(DeclaredVariant { accelerator, ..declared })
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<DeclaredVariant> {
        &mut namespace.variants
    }

    fn touch(&self, namespace: &mut Namespace, name: &Arc<str>, variant: &DeclaredVariant) -> Effect {
        namespace.touch_declared(name, variant)
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&DeclaredVariant>) -> Effect {
        let old = old.and_then(|old| old.target.clone());
        let new = namespace.variants.get(name).and_then(|new| new.target.clone());
        namespace.relink_declarer(Source::VariantAutoscaling, name, old, new)
    }
}

/// The accelerator that a label names.
pub(super) fn accelerator_label(labels: &Labels) -> Option<Arc<str>> {
    let name = accelerator::short_name(labels.get(ACCELERATOR_LABEL)?.trim());
    (!name.is_empty()).then(|| name.into())
}

fn declared(key: &VariantKey, mut object: VariantAutoscaling) -> DeclaredVariant {
    object.metadata.managed_fields = None;
    let spec = object.spec.clone();
    let mut problems = Vec::new();
    let model_id = spec.model_id.trim();
    if model_id.is_empty() {
        problems.push(Problem::EmptyModel { variant: key.clone() });
    }
    let cost = cost(&spec.variant_cost).unwrap_or_else(|| {
        problems.push(Problem::InvalidCost { variant: key.clone(), cost: spec.variant_cost.clone() });
        0.0
    });
    let bounds = bounds(spec.min_replicas, spec.max_replicas).unwrap_or_else(|(min, max)| {
        problems.push(Problem::InvalidBounds { variant: key.clone(), min, max });
        ReplicaBounds::default()
    });
    for order in &spec.overrides {
        if let Err(rule) = order.validate() {
            let order = order.to_string();
            problems.push(Problem::InvalidOverride { variant: key.clone(), order, rule });
        }
    }
    let reference = spec.scale_target_ref;
    let target = ObjectKey::new(&reference.api_version, &reference.kind, &reference.name);
    let reference = TargetReference {
        api_version: reference.api_version.into(),
        kind: reference.kind.into(),
        name: reference.name.into(),
    };
    DeclaredVariant {
        model_id: model_id.into(),
        cost,
        bounds,
        overrides: spec.overrides.into(),
        shadow: spec.shadow,
        accelerator: None,
        reference,
        target: Some(target),
        problems,
        object: LatestObject(Some(Arc::new(object))),
        annotated: None,
    }
}

fn unreadable(key: VariantKey, error: String) -> DeclaredVariant {
    let unknown: Arc<str> = "".into();
    DeclaredVariant {
        model_id: unknown.clone(),
        cost: 0.0,
        bounds: ReplicaBounds::default(),
        overrides: Arc::default(),
        shadow: false,
        accelerator: None,
        reference: TargetReference { api_version: unknown.clone(), kind: unknown.clone(), name: unknown },
        target: None,
        problems: vec![Problem::Unreadable { variant: key, error }],
        object: LatestObject::default(),
        annotated: None,
    }
}

fn bounds(min: Option<i32>, max: Option<i32>) -> Result<ReplicaBounds, (i32, i32)> {
    let least = min.unwrap_or(1);
    match max {
        _ if least < 0 => Err((least, max.unwrap_or(i32::MAX))),
        Some(most) if most < 1 || most < least => Err((least, most)),
        _ => Ok(ReplicaBounds { min: count(min).unwrap_or(1), max: count(max) }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reduced(spec: &Value, labels: &Value) -> DeclaredVariant {
        let object = json!({"apiVersion": "llmd.ai/v1alpha1", "kind": "VariantAutoscaling",
            "metadata": {"name": "llama-a100", "namespace": "chat", "labels": labels}, "spec": spec});
        Variants.reduce(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn with(field: &str, value: Value) -> DeclaredVariant {
        let mut spec = json!({"modelID": "meta/llama", "scaleTargetRef": {"name": "llama"}});
        spec[field] = value;
        reduced(&spec, &json!({}))
    }

    fn reasons(variant: &DeclaredVariant) -> Vec<&'static str> {
        variant.problems.iter().map(Problem::reason).collect()
    }

    #[test]
    fn a_sound_variant_is_kept_with_its_defaults() {
        let variant = with("variantCost", json!("12.5"));
        assert_eq!(reasons(&variant), [""; 0]);
        assert_eq!((&*variant.model_id, variant.cost), ("meta/llama", 12.5));
        assert_eq!(variant.bounds, ReplicaBounds { min: 1, max: None });
        assert_eq!(variant.target, Some(ObjectKey::new("apps/v1", "Deployment", "llama")));
        assert_eq!(variant.accelerator, None);
    }

    #[test]
    fn the_accelerator_label_is_read_under_its_short_name() {
        let spec = json!({"modelID": "m", "scaleTargetRef": {"name": "t"}});
        for (label, expected) in [("NVIDIA-A100-PCIE-80GB", Some("A100")), ("A100", Some("A100")), (" ", None)] {
            let variant = reduced(&spec, &json!({"inference.optimization/acceleratorName": label}));
            assert_eq!(variant.accelerator.as_deref(), expected, "{label}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        for (field, value, expected) in [
            ("variantCost", json!("-1"), "InvalidCost"),
            ("variantCost", json!("abc"), "InvalidCost"),
            ("variantCost", json!("NaN"), "InvalidCost"),
            ("variantCost", json!("inf"), "InvalidCost"),
            ("variantCost", json!("1e3"), "InvalidCost"),
            ("variantCost", json!(""), "InvalidCost"),
            ("modelID", json!(""), "EmptyModel"),
            ("modelID", json!(" "), "EmptyModel"),
            ("maxReplicas", json!(0), "InvalidBounds"),
            ("minReplicas", json!(-1), "InvalidBounds"),
            ("overrides", json!([{"kind": "Pin", "until": "2027-01-01T00:00:00Z"}]), "InvalidOverride"),
            ("overrides", json!([{"kind": "Pause"}]), "Unreadable"),
            ("scaleTargetRef", json!({}), "Unreadable"),
            ("variantCost", json!(3), "Unreadable"),
        ] {
            assert_eq!(reasons(&with(field, value.clone())), [expected], "{field}: {value}");
        }
    }

    #[test]
    fn several_wrong_fields_are_all_named() {
        let spec = json!({"modelID": "", "variantCost": "free", "minReplicas": 5, "maxReplicas": 2,
            "scaleTargetRef": {"name": "big"}});
        let variant = reduced(&spec, &json!({}));
        assert_eq!(reasons(&variant), ["EmptyModel", "InvalidCost", "InvalidBounds"]);
        assert_eq!(
            variant.problems[2].to_string(),
            "VariantAutoscaling chat/llama-a100 has spec.minReplicas 5 and spec.maxReplicas 2; \
             set 0 <= minReplicas <= maxReplicas and maxReplicas >= 1"
        );
    }

    #[test]
    fn zero_to_any_number_of_replicas_may_be_asked_for() {
        for (min, max, expected) in [
            (None, None, Ok(ReplicaBounds { min: 1, max: None })),
            (Some(0), None, Ok(ReplicaBounds { min: 0, max: None })),
            (Some(2), Some(2), Ok(ReplicaBounds { min: 2, max: Some(2) })),
            (None, Some(1), Ok(ReplicaBounds { min: 1, max: Some(1) })),
            (None, Some(0), Err((1, 0))),
            (Some(3), Some(2), Err((3, 2))),
        ] {
            assert_eq!(bounds(min, max), expected, "{min:?} {max:?}");
        }
    }

    #[test]
    fn a_status_update_is_no_change() {
        let spec = json!({"modelID": "m", "scaleTargetRef": {"name": "t"}});
        let object = |status: Value| {
            let object = json!({"apiVersion": "llmd.ai/v1alpha1", "kind": "VariantAutoscaling",
                "metadata": {"name": "v", "namespace": "n", "generation": 1}, "spec": spec, "status": status});
            Variants.reduce(serde_json::from_value(object).unwrap())
        };
        assert_eq!(
            object(json!({})),
            object(json!({"desiredOptimizedAlloc": {"accelerator": "A100", "numReplicas": 4}}))
        );
    }
}
