//! Documents of the API, as they are on the wire.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::quantity::Quantity;

/// `metadata` of a document that has none; always present, as clients expect it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct NoMetadata {}

/// Items of a metric.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExternalMetricValueList {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) metadata: NoMetadata,
    pub(super) items: Vec<ExternalMetricValue>,
}

/// One item of a metric. `kind` and `apiVersion` are not needed by the HPA; kubectl's output formats want them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExternalMetricValue {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) metric_name: Arc<str>,
    pub(super) metric_labels: Arc<BTreeMap<String, String>>,
    #[serde(serialize_with = "to_the_second")]
    pub(super) timestamp: Timestamp,
    /// Seconds. (`windowSeconds` is the key of another API.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<u64>,
    pub(super) value: Quantity,
}

/// `metav1.Time`: RFC 3339 in UTC, whole seconds.
fn to_the_second<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&timestamp.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

/// `metav1.Status` of a failure.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) metadata: NoMetadata,
    pub(super) status: &'static str,
    pub(super) message: String,
    pub(super) reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) details: Option<StatusDetails>,
    pub(super) code: u16,
}

/// What a failure is about. There is no `retryAfterSeconds`: client-go would sleep that long inside an HPA worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct StatusDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) causes: Vec<StatusCause>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct StatusCause {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) field: &'static str,
}
