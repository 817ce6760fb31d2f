//! Custom metrics: the same values as properties of the object that a variant scales, and of the variant itself.

use super::{
    Sample, Selector, Series,
    external::window,
    group::{CUSTOM_LIST_KIND, GroupVersion, OBJECT_KINDS, ObjectKind},
    quantity::Quantity,
    status::{ApiError, Subject},
    wire::{
        DescribedObject, LabelSelector, List, MetricIdentifier, MetricValueV1Beta1, MetricValueV1Beta2, NoMetadata,
    },
};

/// A list of `series` of `metric` in version `v1beta1`; `selector` is the request's.
pub(super) fn list_v1beta1<'a>(
    version: &GroupVersion,
    metric: &'a str,
    selector: &'a Selector,
    series: &'a [(Series, Sample)],
) -> List<MetricValueV1Beta1<'a>> {
    let item = |(described_object, sample): (DescribedObject<'a>, &Sample)| MetricValueV1Beta1 {
        described_object,
        metric_name: metric,
        timestamp: sample.timestamp,
        window: window(*sample),
        value: Quantity { milli: sample.milli },
        selector: LabelSelector(selector),
    };
    list(version, described(series).map(item).collect())
}

/// The same in version `v1beta2`.
pub(super) fn list_v1beta2<'a>(
    version: &GroupVersion,
    metric: &'a str,
    selector: &'a Selector,
    series: &'a [(Series, Sample)],
) -> List<MetricValueV1Beta2<'a>> {
    let item = |(described_object, sample): (DescribedObject<'a>, &Sample)| MetricValueV1Beta2 {
        described_object,
        metric: MetricIdentifier { name: metric, selector: LabelSelector(selector) },
        timestamp: sample.timestamp,
        window_seconds: window(*sample),
        value: Quantity { milli: sample.milli },
    };
    list(version, described(series).map(item).collect())
}

/// The answer to a read of `metric` of an object that has none here, in the library's words and what to ask instead.
pub(super) fn no_such_object(version: &GroupVersion, resource: &str, name: &str, metric: &str) -> ApiError {
    let instead = if let Some(kind) = ObjectKind::from_resource(resource) {
        format!("ask for it below its namespace, /namespaces/NAMESPACE/{}/{name}/{metric}", kind.resource())
    } else {
        let resources: Vec<_> = OBJECT_KINDS.iter().map(ObjectKind::resource).collect();
        format!("metrics here are those of {}", resources.join(", "))
    };
    ApiError::NotFound {
        message: format!("the server could not find the metric {metric} for {resource} {name}: {instead}"),
        metric: Subject { group: version.group.name().to_owned(), metric: metric.to_owned() },
    }
}

fn list<I>(version: &GroupVersion, items: Vec<I>) -> List<I> {
    List { kind: CUSTOM_LIST_KIND, api_version: version.api_version, metadata: NoMetadata {}, items }
}

/// Series that name an object; a provider names one whenever it is asked by objects.
fn described(series: &[(Series, Sample)]) -> impl Iterator<Item = (DescribedObject<'_>, &Sample)> {
    series.iter().filter_map(|(series, sample)| {
        let object = series.object.as_ref()?;
        Some((DescribedObject::new(&series.namespace, object), sample))
    })
}
