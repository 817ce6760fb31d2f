//! A value of an external metric.

use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::{Document, Item, List, NoMetadata, ObjectName, PRINTER, protobuf, to_the_second};
use crate::apiserver::{Labels, quantity::Quantity};

/// Bytes of a list without items, and of one usual item, with some to spare.
const SIZE_OF_LIST: usize = 128;
const SIZE_OF_ITEM: usize = 448;

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

    fn json_list(list: &List<Self>) -> Option<Vec<u8>> {
        let mut json = Json(Vec::with_capacity(SIZE_OF_LIST + SIZE_OF_ITEM * list.items.len()));
        let List { kind, api_version, metadata: NoMetadata {}, items } = list;
        json.raw("{\"kind\":").name(kind).raw(",\"apiVersion\":").name(api_version);
        json.raw(",\"metadata\":{},\"items\":[");
        for (index, item) in items.iter().enumerate() {
            json.raw(if index == 0 { "" } else { "," });
            item.write(&mut json)?;
        }
        json.raw("]}");
        Some(json.0)
    }
}

impl ExternalMetricValue<'_> {
    fn write(&self, json: &mut Json) -> Option<()> {
        let Self { kind, api_version, metadata, metric_name, metric_labels, timestamp, window, value } = self;
        let ObjectName { name, namespace } = metadata;
        json.raw("{\"kind\":").name(kind).raw(",\"apiVersion\":").name(api_version);
        json.raw(",\"metadata\":{\"name\":").string(name)?.raw(",\"namespace\":").string(namespace)?;
        json.raw("},\"metricName\":").string(metric_name)?.raw(",\"metricLabels\":{");
        for (index, (label, value)) in metric_labels.iter().enumerate() {
            json.raw(if index == 0 { "" } else { "," }).name(label).raw(":").string(value)?;
        }
        json.raw("},\"timestamp\":\"");
        PRINTER.print_timestamp(timestamp, &mut json.0).ok()?;
        json.raw("\"");
        if let Some(window) = window {
            write!(json.0, ",\"window\":{window}").ok()?;
        }
        write!(json.0, ",\"value\":\"{value}\"}}").ok()
    }
}

/// Bytes that stand for themselves in a JSON string. A table, because it is asked for every byte of every name.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < b' ' {
        plain[control as usize] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// JSON while it is written. Serde looks at every byte of every key; here only what others have named is looked at.
struct Json(Vec<u8>);

impl Json {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A name of ours, which holds nothing to escape.
    fn name(&mut self, text: &'static str) -> &mut Self {
        self.quoted(text)
    }

    fn quoted(&mut self, text: &str) -> &mut Self {
        self.0.reserve(text.len() + 2);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
        self
    }

    fn string(&mut self, text: &str) -> Option<&mut Self> {
        if text.bytes().all(|byte| PLAIN[usize::from(byte)]) {
            return Some(self.quoted(text));
        }
        serde_json::to_writer(&mut self.0, text).ok()?;
        Some(self)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::apiserver::wire::List;

    proptest! {
        #[test]
        fn json_of_a_list_is_what_serde_writes(
            items in prop::collection::vec((".{0,20}", "\\PC{0,20}", any::<u64>(), any::<u32>(), any::<Option<i64>>()), 0..4),
        ) {
            let labels: Vec<Labels> = items
                .iter()
                .map(|(name, model, ..)| [("variant_name", name.as_str()), ("model_name", model)].into_iter().collect())
                .collect();
            let items = items.iter().zip(&labels).map(|((name, namespace, milli, second, window), metric_labels)| {
                ExternalMetricValue {
                    kind: "ExternalMetricValue",
                    api_version: "external.metrics.k8s.io/v1beta1",
                    metadata: ObjectName { name, namespace },
                    metric_name: "wva_desired_replicas",
                    metric_labels,
                    timestamp: Timestamp::from_second(i64::from(*second)).unwrap(),
                    window: *window,
                    value: Quantity { milli: *milli },
                }
            });
            let items = items.collect();
            let list = List { kind: "L", api_version: "g/v", metadata: NoMetadata {}, items };
            let written = String::from_utf8(list.json().unwrap()).unwrap();
            prop_assert_eq!(written, serde_json::to_string(&list).unwrap());
        }
    }
}
