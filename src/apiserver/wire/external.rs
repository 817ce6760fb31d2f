//! A value of an external metric.

use jiff::Timestamp;
use serde::Serialize;

use super::{Document, Item, ObjectName, protobuf, to_the_second};
use crate::apiserver::{Labels, quantity::Quantity};

/// One item of a metric. `kind`, `apiVersion` and `metadata` are not needed by the HPA; kubectl's output formats want them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct ExternalMetricValue<'a> {
    pub(in crate::apiserver) kind: &'static str,
    pub(in crate::apiserver) api_version: &'static str,
    pub(in crate::apiserver) metadata: ObjectName<'a>,
    pub(in crate::apiserver) metric_name: &'a str,
    pub(in crate::apiserver) metric_labels: &'a Labels,
    #[serde(serialize_with = "to_the_second")]
    pub(in crate::apiserver) timestamp: Timestamp,
    /// Seconds. (`windowSeconds` is the key of another API.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) window: Option<i64>,
    pub(in crate::apiserver) value: Quantity,
}

impl Item for ExternalMetricValue<'_> {
    type Message = protobuf::ExternalMetricValue;
    type ListMessage = protobuf::ExternalMetricValueList;

    fn message(&self) -> Self::Message {
        protobuf::ExternalMetricValue {
            metric_name: self.metric_name.to_owned(),
            metric_labels: self.metric_labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            timestamp: Some(self.timestamp.into()),
            window: self.window,
            value: Some(self.value.into()),
        }
    }

    fn list(items: Vec<Self::Message>) -> Self::ListMessage {
        protobuf::ExternalMetricValueList { metadata: Some(protobuf::ListMeta {}), items }
    }
}

/// A single one, asked for by name.
impl Document for ExternalMetricValue<'_> {
    type Message = protobuf::ExternalMetricValue;

    fn api_version(&self) -> &str {
        self.api_version
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn message(&self) -> Self::Message {
        Item::message(self)
    }
}
