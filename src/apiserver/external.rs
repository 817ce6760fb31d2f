//! External metrics: lists, single values and explanations of variants.

use serde_json::{Map, Value, json};

use super::{
    MetricsProvider, Sample, Series,
    group::{EXTERNAL_ITEM_KIND, EXTERNAL_LIST_KIND, GroupVersion},
    quantity::Quantity,
    status::{ApiError, Subject},
    suggestion::nearest,
    wire::{ExternalMetricValue, List, NoMetadata, ObjectName},
};

/// A list of `series` of `metric`.
pub(super) fn list<'a>(
    version: &GroupVersion,
    metric: &'a str,
    series: &'a [(Series, Sample)],
) -> List<ExternalMetricValue<'a>> {
    List {
        kind: EXTERNAL_LIST_KIND,
        api_version: version.api_version,
        metadata: NoMetadata {},
        items: series.iter().map(|(series, sample)| item(version, metric, series, *sample)).collect(),
    }
}

/// One value of `metric`.
pub(super) fn item<'a>(
    version: &GroupVersion,
    metric: &'a str,
    series: &'a Series,
    sample: Sample,
) -> ExternalMetricValue<'a> {
    ExternalMetricValue {
        kind: EXTERNAL_ITEM_KIND,
        api_version: version.api_version,
        metadata: ObjectName { name: &series.subject, namespace: &series.namespace },
        metric_name: metric,
        metric_labels: &series.labels,
        timestamp: sample.timestamp,
        window: window(sample),
        value: Quantity { milli: sample.milli },
    }
}

/// Seconds over which a value was computed.
pub(super) fn window(sample: Sample) -> Option<i64> {
    sample.window.map(|window| i64::try_from(window.as_secs()).unwrap_or(i64::MAX))
}

/// How the values of the variant `name` came about.
///
/// # Errors
/// When there is no such variant.
pub(super) fn explanation(
    version: &GroupVersion,
    provider: &dyn MetricsProvider,
    namespace: &str,
    name: &str,
    metric: &str,
) -> Result<Value, ApiError> {
    let Some(fields) = provider.explain(namespace, name) else {
        let known = nearest(name, provider.subjects(namespace));
        return Err(ApiError::NotFound {
            message: format!("no variant {name:?} is known in namespace {namespace:?}; known there: {known}"),
            metric: Subject { group: version.group.name().to_owned(), metric: metric.to_owned() },
        });
    };
    let mut document = Map::new();
    document.insert("kind".to_owned(), json!("VariantExplanation"));
    document.insert("apiVersion".to_owned(), json!(version.api_version));
    document.insert("metadata".to_owned(), json!({"name": name, "namespace": namespace}));
    if let Value::Object(fields) = fields {
        document.extend(fields);
    }
    Ok(Value::Object(document))
}
