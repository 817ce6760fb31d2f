//! A value of a metric that is a property of an object, in the two versions of `custom.metrics.k8s.io`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Item, protobuf, to_the_second};
use crate::apiserver::{ObjectReference, Selector, quantity::Quantity};

/// One item of version `v1beta1`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct MetricValueV1Beta1<'a> {
    pub(in crate::apiserver) described_object: DescribedObject<'a>,
    pub(in crate::apiserver) metric_name: &'a str,
    #[serde(serialize_with = "to_the_second")]
    pub(in crate::apiserver) timestamp: Timestamp,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) window: Option<i64>,
    pub(in crate::apiserver) value: Quantity,
    pub(in crate::apiserver) selector: LabelSelector<'a>,
}

/// One item of version `v1beta2`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct MetricValueV1Beta2<'a> {
    pub(in crate::apiserver) described_object: DescribedObject<'a>,
    pub(in crate::apiserver) metric: MetricIdentifier<'a>,
    #[serde(serialize_with = "to_the_second")]
    pub(in crate::apiserver) timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) window_seconds: Option<i64>,
    pub(in crate::apiserver) value: Quantity,
}

/// The object that a value is a property of.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct DescribedObject<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    api_version: &'a str,
}

/// A metric, and which of its series.
#[derive(Clone, Copy, Debug, Serialize)]
pub(in crate::apiserver) struct MetricIdentifier<'a> {
    pub(in crate::apiserver) name: &'a str,
    pub(in crate::apiserver) selector: LabelSelector<'a>,
}

/// The selector of a request as `metav1.LabelSelector`; `null` where there was none.
#[derive(Clone, Copy, Debug)]
pub(in crate::apiserver) struct LabelSelector<'a>(pub(in crate::apiserver) &'a Selector);

impl<'a> DescribedObject<'a> {
    pub(in crate::apiserver) fn new(namespace: &'a str, object: &'a ObjectReference) -> Self {
        Self { kind: &object.kind, namespace, name: &object.name, api_version: &object.api_version }
    }

    fn message(&self) -> protobuf::ObjectReference {
        protobuf::ObjectReference {
            kind: self.kind.to_owned(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            api_version: self.api_version.to_owned(),
        }
    }
}

impl LabelSelector<'_> {
    fn message(self) -> Option<protobuf::LabelSelector> {
        let mut message = protobuf::LabelSelector::default();
        for (key, operator, values) in self.0.expressions()? {
            let owned = |text: &str| text.to_owned();
            match (operator, values.as_slice()) {
                ("In", [value]) => drop(message.match_labels.insert(owned(key), owned(value))),
                _ => message.match_expressions.push(protobuf::LabelSelectorRequirement {
                    key: owned(key),
                    operator: owned(operator),
                    values: values.into_iter().map(owned).collect(),
                }),
            }
        }
        Some(message)
    }
}

impl Serialize for LabelSelector<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            match_labels: &'a BTreeMap<String, String>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            match_expressions: &'a [protobuf::LabelSelectorRequirement],
        }
        let message = self.message();
        let written = message.as_ref().map(|protobuf::LabelSelector { match_labels, match_expressions }| Written {
            match_labels,
            match_expressions,
        });
        written.serialize(serializer)
    }
}

impl Item for MetricValueV1Beta1<'_> {
    type Message = protobuf::MetricValueV1Beta1;
    type ListMessage = protobuf::MetricValueListV1Beta1;

    fn message(&self) -> Self::Message {
        protobuf::MetricValueV1Beta1 {
            described_object: Some(self.described_object.message()),
            metric_name: self.metric_name.to_owned(),
            timestamp: Some(self.timestamp.into()),
            window: self.window,
            value: Some(self.value.into()),
            selector: self.selector.message(),
        }
    }

    fn list(items: Vec<Self::Message>) -> Self::ListMessage {
        protobuf::MetricValueListV1Beta1 { metadata: Some(protobuf::ListMeta {}), items }
    }
}

impl Item for MetricValueV1Beta2<'_> {
    type Message = protobuf::MetricValueV1Beta2;
    type ListMessage = protobuf::MetricValueListV1Beta2;

    fn message(&self) -> Self::Message {
        protobuf::MetricValueV1Beta2 {
            described_object: Some(self.described_object.message()),
            metric: Some(protobuf::MetricIdentifier {
                name: self.metric.name.to_owned(),
                selector: self.metric.selector.message(),
            }),
            timestamp: Some(self.timestamp.into()),
            window_seconds: self.window_seconds,
            value: Some(self.value.into()),
        }
    }

    fn list(items: Vec<Self::Message>) -> Self::ListMessage {
        protobuf::MetricValueListV1Beta2 { metadata: Some(protobuf::ListMeta {}), items }
    }
}
