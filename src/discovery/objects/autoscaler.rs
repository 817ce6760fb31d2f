//! The `HorizontalPodAutoscaler`s: their bounds and how they read our metric.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{ExternalMetricSource, HPAScalingRules, HorizontalPodAutoscaler, MetricTarget};
use kube::{
    Api, Client,
    core::{Expression, Selector},
};

use super::{ScaleTarget, Table, Watched, count, scoped};
use crate::{
    constants::{LABEL_VARIANT_NAME, WVA_DESIRED_REPLICAS},
    discovery::{Options, index::Namespace, quantity, sync::WatchedResource},
    interfaces::{HpaTarget, ReplicaBounds},
};

/// What kube-controller-manager assumes where an HPA sets no tolerance: `--horizontal-pod-autoscaler-tolerance`.
const DEFAULT_TOLERANCE: f64 = 0.1;

/// The `HorizontalPodAutoscaler` watch.
#[derive(Debug)]
pub(crate) struct Autoscalers;

/// What is kept of an HPA.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Autoscaler {
    /// What it scales.
    pub target: ScaleTarget,
    /// Its bounds.
    pub bounds: ReplicaBounds,
    /// How it reads `wva_desired_replicas`, if it does.
    pub metric: Option<DesiredReplicasMetric>,
    /// Scale-up tolerance, a fraction.
    pub tolerance_up: f64,
    /// Scale-down tolerance, a fraction.
    pub tolerance_down: f64,
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

impl Watched for Autoscalers {
    type Object = HorizontalPodAutoscaler;
    type Slim = Autoscaler;

    const RESOURCE: WatchedResource = WatchedResource::HorizontalPodAutoscalers;

    fn api(client: Client, options: &Options) -> Api<Self::Object> {
        scoped(client, options)
    }

    fn reduce(object: Self::Object) -> Option<Autoscaler> {
        let spec = object.spec?;
        let reference = spec.scale_target_ref;
        let target = ScaleTarget::parse(&reference.api_version.unwrap_or_default(), &reference.kind, &reference.name)?;
        let metric = spec
            .metrics
            .into_iter()
            .flatten()
            .filter_map(|metric| metric.external)
            .find(|external| external.metric.name == WVA_DESIRED_REPLICAS)
            .map(read);
        let behavior = spec.behavior.unwrap_or_default();
        Some(Autoscaler {
            target,
            bounds: ReplicaBounds { min: count(spec.min_replicas).unwrap_or(1), max: count(Some(spec.max_replicas)) },
            metric,
            tolerance_up: tolerance(behavior.scale_up.as_ref()),
            tolerance_down: tolerance(behavior.scale_down.as_ref()),
        })
    }

    fn table(namespace: &mut Namespace) -> &mut Table<Autoscaler> {
        &mut namespace.autoscalers
    }

    fn matters(namespace: &Namespace, _name: &Arc<str>, autoscaler: &Autoscaler) -> bool {
        namespace.is_scaled(&autoscaler.target)
    }
}

fn read(external: ExternalMetricSource) -> DesiredReplicasMetric {
    let selector = Selector::try_from(external.metric.selector.unwrap_or_default());
    DesiredReplicasMetric {
        selector: selector.ok().map(|selector| selector.into_iter().collect()),
        target: target(&external.target),
    }
}

/// `averageValue` is looked at first, as the HPA does.
fn target(target: &MetricTarget) -> HpaTarget {
    let read = |quantity: &Option<_>| {
        let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = quantity.as_ref()?;
        quantity::milli(&quantity.0)
    };
    match (read(&target.average_value), read(&target.value)) {
        (Some(milli), _) => HpaTarget::AverageValue(milli.ceil() as i64),
        (None, Some(milli)) => HpaTarget::Value(milli.ceil() as i64),
        (None, None) => HpaTarget::Unset,
    }
}

fn tolerance(rules: Option<&HPAScalingRules>) -> f64 {
    let tolerance = rules.and_then(|rules| rules.tolerance.as_ref());
    tolerance.and_then(|tolerance| quantity::milli(&tolerance.0)).map_or(DEFAULT_TOLERANCE, |milli| milli / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
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
        Autoscalers::reduce(serde_json::from_value(object).unwrap())
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

    #[test]
    fn an_hpa_on_another_kind_is_not_kept() {
        let reference =
            json!({"scaleTargetRef": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "r"}});
        assert_eq!(reduced(&reference), None);
    }
}
