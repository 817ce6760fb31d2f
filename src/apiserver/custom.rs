//! Custom metrics: the same values as properties of the object that a variant scales, and of the variant itself.

use super::{
    Sample, Selector, Series,
    external::window,
    group::{CUSTOM_LIST_KIND, GroupVersion},
    quantity::Quantity,
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
