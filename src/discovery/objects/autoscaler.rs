//! The `HorizontalPodAutoscaler`s: their bounds and how they read our metric.

use std::sync::Arc;

use k8s_openapi::{
    api::autoscaling::v2::HorizontalPodAutoscaler,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kube::core::{Expression, Object, Selector};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Address, DeclaredVariant, ObjectKey, Source, Table, Watched,
    annotated::{self, Autoscaling},
    built_in, count, scoped,
};
use crate::{
    constants::{LABEL_VARIANT_NAME, WVA_DESIRED_REPLICAS},
    discovery::{
        Options,
        index::{Effect, Namespace},
        quantity,
        sync::WatchedResource,
    },
    interfaces::{HpaTarget, ReplicaBounds, TargetReference},
};

/// What kube-controller-manager assumes where an HPA sets no tolerance: `--horizontal-pod-autoscaler-tolerance`.
const DEFAULT_TOLERANCE: f64 = 0.1;

/// KEDA puts it on the HPA of a `ScaledObject`, which then speaks for both.
const KEDA_OWNED_LABEL: &str = "scaledobject.keda.sh/name";

/// The `HorizontalPodAutoscaler` watch. Annotated HPAs are variants, if they belong to this installation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Autoscalers {
    /// The installation, where several share the cluster.
    pub controller_instance: Option<String>,
}

/// What is kept of an HPA.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Autoscaler {
    /// What it scales.
    pub target: ObjectKey,
    /// Its bounds.
    pub bounds: ReplicaBounds,
    /// How it reads `wva_desired_replicas`, if it does.
    pub metric: Option<DesiredReplicasMetric>,
    /// Scale-up tolerance, a fraction.
    pub tolerance_up: f64,
    /// Scale-down tolerance, a fraction.
    pub tolerance_down: f64,
    /// The variant that its annotations declare.
    pub declared: Option<DeclaredVariant>,
}

/// How an HPA reads `wva_desired_replicas`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DesiredReplicasMetric {
    /// All have to match; `None` for a selector that is not valid, which matches nothing.
    selector: Option<Vec<Expression>>,
    /// How the value is compared.
    pub target: HpaTarget,
}

impl DesiredReplicasMetric {
    /// Whether its selector matches a series whose labels `label` tells.
    pub(crate) fn selects<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let matches = |expression: &Expression| match expression {
            Expression::Equal(key, value) => label(key) == Some(value),
            Expression::NotEqual(key, value) => label(key) != Some(value),
            Expression::In(key, values) => label(key).is_some_and(|value| values.contains(value)),
            Expression::NotIn(key, values) => label(key).is_none_or(|value| !values.contains(value)),
            Expression::Exists(key) => label(key).is_some(),
            Expression::DoesNotExist(key) => label(key).is_none(),
        };
        self.selector.as_ref().is_some_and(|selector| selector.iter().all(matches))
    }

    /// Whether its selector names one variant, so that it can match no other.
    pub(crate) fn pins_variant(&self) -> bool {
        self.selector.iter().flatten().any(|expression| match expression {
            Expression::Equal(key, _) => key == LABEL_VARIANT_NAME,
            Expression::In(key, values) => key == LABEL_VARIANT_NAME && values.len() == 1,
            _ => false,
        })
    }
}

/// The part of `spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AutoscalerSpec {
    scale_target_ref: ScaleTarget,
    min_replicas: Option<i32>,
    max_replicas: i32,
    metrics: Vec<Metric>,
    behavior: Behavior,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScaleTarget {
    api_version: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Metric {
    external: Option<ExternalMetric>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ExternalMetric {
    metric: MetricName,
    target: MetricTarget,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct MetricName {
    name: String,
    selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetricTarget {
    average_value: Option<Quantity>,
    value: Option<Quantity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Behavior {
    scale_up: ScalingRules,
    scale_down: ScalingRules,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ScalingRules {
    tolerance: Option<Quantity>,
}

impl Watched for Autoscalers {
    /// Conditions and current metrics, which change with every sync, are skipped.
    type Object = Object<AutoscalerSpec, IgnoredAny>;
    type Slim = Autoscaler;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::HorizontalPodAutoscalers
    }

    fn address(&self, options: &Options) -> Address {
        scoped(built_in::<HorizontalPodAutoscaler>(), options)
    }

    fn reduce(&self, object: Self::Object) -> Option<Autoscaler> {
        let Object { metadata, spec, .. } = object;
        let AutoscalerSpec { scale_target_ref, min_replicas, max_replicas, metrics, behavior } = spec;
        let ScaleTarget { api_version, kind, name } = scale_target_ref;
        let reference = TargetReference { api_version, kind, name };
        let mut external = metrics.into_iter().filter_map(|metric| metric.external);
        let metric = external.find(|external| external.metric.name == WVA_DESIRED_REPLICAS).map(desired);
        let bounds = ReplicaBounds { min: count(min_replicas).unwrap_or(1), max: count(Some(max_replicas)) };
        let target = ObjectKey::new(&reference.api_version, &reference.kind, &reference.name);
        let is_of_keda = metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(KEDA_OWNED_LABEL));
        let autoscaling = Autoscaling {
            source: Source::HorizontalPodAutoscaler,
            api_version: "autoscaling/v2",
            target: reference,
            bounds,
        };
        let declared = (!is_of_keda)
            .then(|| annotated::declared(&metadata, autoscaling, self.controller_instance.as_deref()))
            .flatten();
        Some(Autoscaler {
            target,
            bounds,
            metric,
            tolerance_up: tolerance(&behavior.scale_up),
            tolerance_down: tolerance(&behavior.scale_down),
            declared,
        })
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Autoscaler> {
        &mut namespace.autoscalers
    }

    fn touch(&self, namespace: &mut Namespace, name: &Arc<str>, autoscaler: &Autoscaler) -> Effect {
        let reading = namespace.touch_object(&autoscaler.target);
        match &autoscaler.declared {
            Some(declared) => namespace.touch_declared(name, declared),
            None => reading,
        }
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&Autoscaler>) -> Effect {
        namespace.relink_autoscaler(name, old)
    }
}

fn desired(external: ExternalMetric) -> DesiredReplicasMetric {
    let selector = Selector::try_from(external.metric.selector.unwrap_or_default());
    DesiredReplicasMetric {
        selector: selector.ok().map(|selector| selector.into_iter().collect()),
        target: target(&external.target),
    }
}

/// `averageValue` is looked at first, as the HPA does.
fn target(target: &MetricTarget) -> HpaTarget {
    let read = |quantity: &Option<Quantity>| quantity::milli(&quantity.as_ref()?.0);
    match (read(&target.average_value), read(&target.value)) {
        (Some(milli), _) => HpaTarget::AverageValue(milli.ceil() as i64),
        (None, Some(milli)) => HpaTarget::Value(milli.ceil() as i64),
        (None, None) => HpaTarget::Unset,
    }
}

fn tolerance(rules: &ScalingRules) -> f64 {
    let milli = rules.tolerance.as_ref().and_then(|tolerance| quantity::milli(&tolerance.0));
    milli.map_or(DEFAULT_TOLERANCE, |milli| milli / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt;
    use serde_json::{Value, json};

    use super::*;

    fn reduced(changes: &Value) -> Option<Autoscaler> {
        let mut spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"},
            "maxReplicas": 20});
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let object = json!({"metadata": {"name": "h", "namespace": "n"}, "spec": spec});
        Autoscalers::default().reduce(serde_json::from_value(object).unwrap())
    }

    fn external(name: &str, target: &Value, selector: &Value) -> Value {
        json!({"metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}}},
            {"type": "External", "external": {"metric": {"name": name, "selector": selector}, "target": target}}]})
    }

    fn metric(target: &Value, selector: &Value) -> DesiredReplicasMetric {
        reduced(&external("wva_desired_replicas", target, selector)).unwrap().metric.unwrap()
    }

    #[test]
    fn bounds_and_tolerances_have_the_defaults_of_the_hpa() {
        let plain = reduced(&json!({})).unwrap();
        assert_eq!(plain.bounds, ReplicaBounds { min: 1, max: Some(20) });
        assert_eq!((plain.tolerance_up, plain.tolerance_down, plain.metric), (0.1, 0.1, None));
        let set = reduced(&json!({"minReplicas": 0,
            "behavior": {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "50m"}}}));
        let set = set.unwrap();
        assert_eq!((set.bounds.min, set.tolerance_up, set.tolerance_down), (0, 0.0, 0.05));
    }

    #[test]
    fn targets_are_read_in_thousandths() {
        for (target, expected) in [
            (json!({"type": "AverageValue", "averageValue": "1"}), HpaTarget::AverageValue(1000)),
            (json!({"type": "AverageValue", "averageValue": "500m"}), HpaTarget::AverageValue(500)),
            (json!({"type": "Value", "value": "2"}), HpaTarget::Value(2000)),
            (json!({"type": "AverageValue"}), HpaTarget::Unset),
        ] {
            assert_eq!(metric(&target, &Value::Null).target, expected, "{target}");
        }
    }

    #[test]
    fn only_the_desired_replicas_metric_is_ours() {
        let average = json!({"type": "AverageValue", "averageValue": "1"});
        assert_eq!(reduced(&external("queue_length", &average, &Value::Null)).unwrap().metric, None);
    }

    fn one_with_selector(selector: &Value) -> DesiredReplicasMetric {
        metric(&json!({"type": "AverageValue", "averageValue": "1"}), selector)
    }

    fn by_name(operator: &str, values: &Value) -> Value {
        json!({"matchExpressions": [{"key": "variant_name", "operator": operator, "values": values}]})
    }

    #[test]
    fn a_selector_that_pins_a_variant_is_recognised() {
        for (selector, expected) in [
            (json!({"matchLabels": {"variant_name": "a", "namespace": "n"}}), true),
            (by_name("In", &json!(["a"])), true),
            (by_name("In", &json!(["a", "b"])), false),
            (by_name("NotIn", &json!(["a"])), false),
            (json!({"matchLabels": {"namespace": "n"}}), false),
            (Value::Null, false),
        ] {
            assert_eq!(one_with_selector(&selector).pins_variant(), expected, "{selector}");
        }
    }

    #[test]
    fn selectors_match_as_those_of_kubernetes() {
        let labels = BTreeMap::from([("variant_name".to_owned(), "a".to_owned())]);
        let key = |operator: &str, key: &str| json!({"matchExpressions": [{"key": key, "operator": operator}]});
        for selector in [
            json!({}),
            json!({"matchLabels": {"variant_name": "a"}}),
            json!({"matchLabels": {"variant_name": "b"}}),
            json!({"matchLabels": {"variant_name": "a", "namespace": "n"}}),
            by_name("In", &json!(["a", "b"])),
            by_name("In", &json!(["b"])),
            by_name("NotIn", &json!(["a"])),
            by_name("NotIn", &json!(["b"])),
            key("Exists", "variant_name"),
            key("Exists", "namespace"),
            key("DoesNotExist", "variant_name"),
            key("DoesNotExist", "namespace"),
        ] {
            let reference: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            let expected = Selector::try_from(reference).unwrap().matches(&labels);
            let selects = one_with_selector(&selector).selects(|key| labels.get(key).map(String::as_str));
            assert_eq!(selects, expected, "{selector}");
        }
    }

    #[test]
    fn an_invalid_selector_selects_nothing() {
        assert!(!one_with_selector(&by_name("Near", &json!(["a"]))).selects(|_| Some("a")));
    }

    fn annotated(annotations: &Value, labels: &Value, instance: Option<&str>) -> Option<DeclaredVariant> {
        let object = json!({"metadata": {"name": "llama", "namespace": "chat", "uid": "7", "annotations": annotations,
            "labels": labels}, "spec": {"maxReplicas": 9, "scaleTargetRef": {
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "llama-r"}}});
        let autoscalers = Autoscalers { controller_instance: instance.map(ToOwned::to_owned) };
        autoscalers.reduce(serde_json::from_value(object).unwrap()).unwrap().declared
    }

    fn managed(extra: &Value) -> Value {
        let mut annotations = json!({"llm-d.ai/managed": "true", "llm-d.ai/model-id": "meta/llama"});
        for (key, value) in extra.as_object().unwrap() {
            annotations[key] = value.clone();
        }
        annotations
    }

    #[test]
    fn an_annotated_hpa_is_a_variant_with_its_own_bounds_and_target() {
        let labels = json!({"inference.optimization/acceleratorName": "nvidia-h100-80gb"});
        let variant = annotated(&managed(&json!({"llm-d.ai/variant-cost": "40"})), &labels, None).unwrap();
        assert_eq!(
            (&*variant.model_id, variant.cost, variant.accelerator.as_deref()),
            ("meta/llama", 40.0, Some("H100"))
        );
        assert_eq!(variant.bounds, ReplicaBounds { min: 1, max: Some(9) });
        assert_eq!(variant.reference.to_string(), "Rollout llama-r");
        assert!(variant.problems.is_empty());
        assert_eq!(variant.annotated.unwrap().uid.as_deref(), Some("7"));
        assert_eq!(annotated(&managed(&json!({})), &json!({}), None).unwrap().cost, 10.0, "upstream's default");
    }

    #[test]
    fn bad_annotations_are_named_with_the_remedy() {
        for (annotation, value, rule) in [
            ("llm-d.ai/variant-cost", "-1", "a decimal number of at least 0"),
            ("llm-d.ai/variant-cost", "cheap", "a decimal number of at least 0"),
            ("llm-d.ai/model-id", " ", "the model_name label"),
        ] {
            let variant = annotated(&managed(&json!({annotation: value})), &json!({}), None).unwrap();
            let text = variant.problems.iter().map(ToString::to_string).collect::<String>();
            assert!(text.contains(annotation) && text.contains(rule), "{text}");
            assert!(text.contains("HorizontalPodAutoscaler chat/llama"), "{text}");
        }
    }

    #[test]
    fn only_the_exact_opt_in_of_this_installation_counts() {
        let of_blue = json!({"wva.llmd.ai/controller-instance": "blue"});
        for (annotations, labels, instance, expected, why) in [
            (json!({}), json!({}), None, false, "no annotation"),
            (managed(&json!({"llm-d.ai/managed": "yes"})), json!({}), None, false, "not exactly true"),
            (managed(&json!({})), json!({}), Some("blue"), false, "of no installation"),
            (managed(&json!({})), of_blue.clone(), Some("blue"), true, "of this installation"),
            (managed(&json!({})), of_blue, Some("green"), false, "of another installation"),
            (managed(&json!({})), json!({"scaledobject.keda.sh/name": "llama"}), None, false, "made by KEDA"),
        ] {
            assert_eq!(annotated(&annotations, &labels, instance).is_some(), expected, "{why}");
        }
    }
}
