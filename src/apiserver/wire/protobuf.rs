//! The few messages of Kubernetes that are written here, by the field numbers of its `generated.proto` files. Fields that
//! are never set are left out: a reader takes them for empty.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prost::Message;
use serde::Serialize;

use crate::apiserver::quantity::Quantity;

/// First bytes of every Kubernetes protobuf document.
const MAGIC: [u8; 4] = [b'k', b'8', b's', 0];

/// `message` of this version and kind in the envelope that every document travels in.
pub(in crate::apiserver) fn document(api_version: &str, kind: &str, message: &impl Message) -> Vec<u8> {
    let type_meta = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let envelope = Unknown { type_meta: Some(type_meta), raw: message.encode_to_vec() };
    let mut bytes = Vec::with_capacity(MAGIC.len() + envelope.encoded_len());
    bytes.extend(MAGIC);
    // A vector grows: it cannot run out of room.
    let _ = envelope.encode(&mut bytes);
    bytes
}

/// Declares messages: fields of a type and number.
macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })+) => {
        $($(#[$meta])*
        #[allow(clippy::struct_field_names, reason = "the names of the wire")]
        #[derive(Clone, PartialEq, Message)]
        pub(in crate::apiserver) struct $name {
            $($(#[$field_meta])* pub(in crate::apiserver) $field: $type,)*
        })+
    };
}

messages! {
    /// `runtime.Unknown`.
    Unknown {
        #[prost(message, optional, tag = "1")]
        type_meta: Option<TypeMeta>,
        #[prost(bytes = "vec", tag = "2")]
        raw: Vec<u8>,
    }
    /// `runtime.TypeMeta`.
    TypeMeta {
        #[prost(string, tag = "1")]
        api_version: String,
        #[prost(string, tag = "2")]
        kind: String,
    }
    /// `metav1.ListMeta`.
    ListMeta {}
    /// `metav1.Time`.
    Time {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
    /// `resource.Quantity`.
    QuantityMessage {
        #[prost(string, tag = "1")]
        string: String,
    }
    /// `external.metrics.k8s.io/v1beta1`.
    ExternalMetricValueList {
        #[prost(message, optional, tag = "1")]
        metadata: Option<ListMeta>,
        #[prost(message, repeated, tag = "2")]
        items: Vec<ExternalMetricValue>,
    }
    /// `external.metrics.k8s.io/v1beta1`.
    ExternalMetricValue {
        #[prost(string, tag = "1")]
        metric_name: String,
        #[prost(btree_map = "string, string", tag = "2")]
        metric_labels: BTreeMap<String, String>,
        #[prost(message, optional, tag = "3")]
        timestamp: Option<Time>,
        #[prost(int64, optional, tag = "4")]
        window: Option<i64>,
        #[prost(message, optional, tag = "5")]
        value: Option<QuantityMessage>,
    }
    /// `core/v1`, as far as it is used.
    ObjectReference {
        #[prost(string, tag = "1")]
        kind: String,
        #[prost(string, tag = "2")]
        namespace: String,
        #[prost(string, tag = "3")]
        name: String,
        #[prost(string, tag = "5")]
        api_version: String,
    }
    /// `custom.metrics.k8s.io/v1beta1`.
    MetricValueListV1Beta1 {
        #[prost(message, optional, tag = "1")]
        metadata: Option<ListMeta>,
        #[prost(message, repeated, tag = "2")]
        items: Vec<MetricValueV1Beta1>,
    }
    /// `custom.metrics.k8s.io/v1beta1`.
    MetricValueV1Beta1 {
        #[prost(message, optional, tag = "1")]
        described_object: Option<ObjectReference>,
        #[prost(string, tag = "2")]
        metric_name: String,
        #[prost(message, optional, tag = "3")]
        timestamp: Option<Time>,
        #[prost(int64, optional, tag = "4")]
        window: Option<i64>,
        #[prost(message, optional, tag = "5")]
        value: Option<QuantityMessage>,
        #[prost(message, optional, tag = "6")]
        selector: Option<LabelSelector>,
    }
    /// `custom.metrics.k8s.io/v1beta2`.
    MetricValueListV1Beta2 {
        #[prost(message, optional, tag = "1")]
        metadata: Option<ListMeta>,
        #[prost(message, repeated, tag = "2")]
        items: Vec<MetricValueV1Beta2>,
    }
    /// `custom.metrics.k8s.io/v1beta2`.
    MetricValueV1Beta2 {
        #[prost(message, optional, tag = "1")]
        described_object: Option<ObjectReference>,
        #[prost(message, optional, tag = "2")]
        metric: Option<MetricIdentifier>,
        #[prost(message, optional, tag = "3")]
        timestamp: Option<Time>,
        #[prost(int64, optional, tag = "4")]
        window_seconds: Option<i64>,
        #[prost(message, optional, tag = "5")]
        value: Option<QuantityMessage>,
    }
    /// `custom.metrics.k8s.io/v1beta2`.
    MetricIdentifier {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        selector: Option<LabelSelector>,
    }
    /// `metav1.LabelSelector`.
    LabelSelector {
        #[prost(btree_map = "string, string", tag = "1")]
        match_labels: BTreeMap<String, String>,
        #[prost(message, repeated, tag = "2")]
        match_expressions: Vec<LabelSelectorRequirement>,
    }
    /// `metav1.LabelSelectorRequirement`.
    #[derive(Serialize)]
    LabelSelectorRequirement {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(string, tag = "2")]
        operator: String,
        #[prost(string, repeated, tag = "3")]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        values: Vec<String>,
    }
    /// `metav1.Status`.
    Status {
        #[prost(message, optional, tag = "1")]
        metadata: Option<ListMeta>,
        #[prost(string, tag = "2")]
        status: String,
        #[prost(string, tag = "3")]
        message: String,
        #[prost(string, tag = "4")]
        reason: String,
        #[prost(message, optional, tag = "5")]
        details: Option<StatusDetails>,
        #[prost(int32, tag = "6")]
        code: i32,
    }
    /// `metav1.StatusDetails`.
    StatusDetails {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        group: String,
        #[prost(string, tag = "3")]
        kind: String,
        #[prost(message, repeated, tag = "4")]
        causes: Vec<StatusCause>,
    }
    /// `metav1.StatusCause`.
    StatusCause {
        #[prost(string, tag = "1")]
        reason: String,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(string, tag = "3")]
        field: String,
    }
    /// `metav1.APIGroupList`.
    ApiGroupList {
        #[prost(message, repeated, tag = "1")]
        groups: Vec<ApiGroup>,
    }
    /// `metav1.APIGroup`.
    ApiGroup {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        versions: Vec<GroupVersion>,
        #[prost(message, optional, tag = "3")]
        preferred_version: Option<GroupVersion>,
    }
    /// `metav1.GroupVersionForDiscovery`.
    GroupVersion {
        #[prost(string, tag = "1")]
        group_version: String,
        #[prost(string, tag = "2")]
        version: String,
    }
    /// `metav1.APIResourceList`.
    ApiResourceList {
        #[prost(string, tag = "1")]
        group_version: String,
        #[prost(message, repeated, tag = "2")]
        resources: Vec<ApiResource>,
    }
    /// `metav1.APIResource`.
    ApiResource {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(bool, tag = "2")]
        namespaced: bool,
        #[prost(string, tag = "3")]
        kind: String,
        #[prost(message, optional, tag = "4")]
        verbs: Option<Verbs>,
    }
    /// `metav1.Verbs`.
    Verbs {
        #[prost(string, repeated, tag = "1")]
        items: Vec<String>,
    }
}

impl From<Timestamp> for Time {
    /// Whole seconds, as in the other encodings.
    fn from(timestamp: Timestamp) -> Self {
        Self { seconds: timestamp.as_second(), nanos: 0 }
    }
}

impl From<Quantity> for QuantityMessage {
    fn from(quantity: Quantity) -> Self {
        Self { string: quantity.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that `k8s.io/apimachinery` writes for the same list, but for fields it writes empty.
    #[test]
    fn a_document_is_an_envelope_behind_the_magic_bytes() {
        let list = ExternalMetricValueList {
            metadata: Some(ListMeta {}),
            items: vec![ExternalMetricValue {
                metric_name: "m".to_owned(),
                metric_labels: [("k".to_owned(), "v".to_owned())].into(),
                timestamp: Some(Time { seconds: 1, nanos: 0 }),
                window: Some(60),
                value: Some(QuantityMessage { string: "21".to_owned() }),
            }],
        };
        let bytes = document("g/v", "L", &list);
        let expected: &[u8] = &[
            b'k', b'8', b's', 0, // magic
            0x0a, 8, 0x0a, 3, b'g', b'/', b'v', 0x12, 1, b'L', // 1: TypeMeta
            0x12, 27, // 2: raw
            0x0a, 0, // 1: ListMeta
            0x12, 23, 0x0a, 1, b'm', // 2: item, 1: name
            0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v', // 2: labels
            0x1a, 2, 0x08, 1, // 3: Time
            0x20, 60, // 4: window
            0x2a, 4, 0x0a, 2, b'2', b'1', // 5: Quantity
        ];
        assert_eq!(bytes, expected);
        let envelope = Unknown::decode(&bytes[4..]).unwrap();
        assert_eq!(ExternalMetricValueList::decode(envelope.raw.as_slice()).unwrap(), list);
    }
}
