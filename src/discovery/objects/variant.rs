//! The `VariantAutoscaling`s: what their owners declared, checked field by field.

use std::sync::Arc;

use kube::{Api, Client, Resource, core::DeserializeGuard, runtime::watcher};

use super::{ScaleTarget, Table, Watched, count, scoped};
use crate::{
    crd::{ACCELERATOR_LABEL, VariantAutoscaling},
    discovery::{Options, Problem, accelerator, index::Namespace, sync::WatchedResource},
    interfaces::{Override, ReplicaBounds, TargetReference, VariantKey},
};

/// The label that says which installation a `VariantAutoscaling` belongs to, where several share a cluster.
const CONTROLLER_INSTANCE_LABEL: &str = "wva.llmd.ai/controller-instance";

/// The `VariantAutoscaling` watch.
#[derive(Debug)]
pub(crate) struct Variants;

/// What is kept of a `VariantAutoscaling`. A field that is wrong has its default here and a problem.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeclaredVariant {
    /// Its model.
    pub model_id: Arc<str>,
    /// Cost of one replica.
    pub cost: f64,
    /// Bounds of its replicas.
    pub bounds: ReplicaBounds,
    /// Overrides of its decisions.
    pub overrides: Arc<[Override]>,
    /// Whether it is in shadow mode.
    pub shadow: bool,
    /// Accelerator that its label names.
    pub accelerator: Option<Arc<str>>,
    /// What it says it scales.
    pub reference: TargetReference,
    /// What that is, if its kind is watched.
    pub target: Option<ScaleTarget>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// The object itself.
    pub object: LatestObject,
}

/// A `VariantAutoscaling` as the watch last showed it, for the status writer; `None` when it could not be read. Any two
/// are equal: a status that we wrote must not look like a change that bears on a decision.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatestObject(pub Option<Arc<VariantAutoscaling>>);

impl PartialEq for LatestObject {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Watched for Variants {
    /// One object that cannot be read must not blind us to the others.
    type Object = DeserializeGuard<VariantAutoscaling>;
    type Slim = DeclaredVariant;

    const RESOURCE: WatchedResource = WatchedResource::VariantAutoscalings;

    fn api(client: Client, options: &Options) -> Api<Self::Object> {
        scoped(client, options)
    }

    fn selection(options: &Options) -> watcher::Config {
        let config = watcher::Config::default();
        match &options.controller_instance {
            Some(instance) => config.labels(&format!("{CONTROLLER_INSTANCE_LABEL}={instance}")),
            None => config,
        }
    }

    fn reduce(object: Self::Object) -> Option<DeclaredVariant> {
        let metadata = object.meta();
        let key = VariantKey::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?);
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(ACCELERATOR_LABEL));
        let accelerator = label.map(|name| accelerator::short_name(name.trim())).filter(|name| !name.is_empty());
        let declared = match object.0 {
            Ok(object) => declared(key, object),
            Err(invalid) => unreadable(key, invalid.error),
        };
        Some(DeclaredVariant { accelerator: accelerator.map(Into::into), ..declared })
    }

    fn table(namespace: &mut Namespace) -> &mut Table<DeclaredVariant> {
        &mut namespace.variants
    }

    fn matters(_namespace: &Namespace, _name: &Arc<str>, _variant: &DeclaredVariant) -> bool {
        true
    }

    fn relink(namespace: &mut Namespace, name: &Arc<str>, old: Option<&DeclaredVariant>) {
        namespace.relink_variant(name, old);
    }
}

fn declared(key: VariantKey, mut object: VariantAutoscaling) -> DeclaredVariant {
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
    let target = ScaleTarget::parse(&reference.api_version, &reference.kind, &reference.name);
    let reference = TargetReference {
        api_version: reference.api_version.into(),
        kind: reference.kind.into(),
        name: reference.name.into(),
    };
    if target.is_none() {
        problems.push(Problem::UnsupportedTarget { variant: key, target: reference.clone() });
    }
    DeclaredVariant {
        model_id: model_id.into(),
        cost,
        bounds,
        overrides: spec.overrides.into(),
        shadow: spec.shadow,
        accelerator: None,
        reference,
        target,
        problems,
        object: LatestObject(Some(Arc::new(object))),
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
    }
}

/// A decimal number of at least 0, as the CRD's pattern has it; the CRD of another release may not check it.
fn cost(text: &str) -> Option<f64> {
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|cost: &f64| decimal && cost.is_finite())
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
        Variants::reduce(serde_json::from_value(object).unwrap()).unwrap()
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
        assert_eq!(variant.target, ScaleTarget::parse("apps/v1", "Deployment", "llama"));
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
            ("scaleTargetRef", json!({"kind": "Job", "apiVersion": "batch/v1", "name": "j"}), "UnsupportedTarget"),
            ("scaleTargetRef", json!({}), "Unreadable"),
            ("variantCost", json!(3), "Unreadable"),
        ] {
            assert_eq!(reasons(&with(field, value.clone())), [expected], "{field}: {value}");
        }
    }

    #[test]
    fn several_wrong_fields_are_all_named() {
        let spec = json!({"modelID": "", "variantCost": "free", "minReplicas": 5, "maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "big"}});
        let variant = reduced(&spec, &json!({}));
        assert_eq!(reasons(&variant), ["EmptyModel", "InvalidCost", "InvalidBounds", "UnsupportedTarget"]);
        assert_eq!(
            variant.problems[2].to_string(),
            "VariantAutoscaling chat/llama-a100 has spec.minReplicas 5 and spec.maxReplicas 2; \
             set 0 <= minReplicas <= maxReplicas and maxReplicas >= 1"
        );
        assert_eq!(
            variant.problems[3].to_string(),
            "VariantAutoscaling chat/llama-a100 scales the LeaderWorkerSet big of leaderworkerset.x-k8s.io/v1, \
             a kind that is not supported; point spec.scaleTargetRef at a Deployment or StatefulSet of apps/v1"
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
            Variants::reduce(serde_json::from_value(object).unwrap())
        };
        assert_eq!(
            object(json!({})),
            object(json!({"desiredOptimizedAlloc": {"accelerator": "A100", "numReplicas": 4}}))
        );
    }
}
