//! Documents of the API, as they are on the wire: in JSON and YAML by serde, in protobuf by [`protobuf`].

mod custom;
mod external;
pub(super) mod protobuf;
mod status;
mod table;

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use prost::Message;
use serde::{Serialize, Serializer};

pub(super) use self::{
    custom::{DescribedObject, LabelSelector, MetricIdentifier, MetricValueV1Beta1, MetricValueV1Beta2},
    external::ExternalMetricValue,
    status::{Status, StatusCause, StatusDetails},
    table::{Column, PartialObjectMetadata, Row, Table},
};

/// A document that can be written in every encoding.
pub(super) trait Document: Serialize {
    /// Its protobuf message.
    type Message: Message;

    /// Group and version, as in `apiVersion`.
    fn api_version(&self) -> &str;

    /// Its kind.
    fn kind(&self) -> &str;

    /// The document as a message, which holds neither of the two.
    fn message(&self) -> Self::Message;

    /// The JSON that serde would write, where it can be had for less.
    fn json(&self) -> Option<Vec<u8>> {
        None
    }
}

/// `metadata` of a document that has none; always present, as clients expect it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct NoMetadata {}

/// `metadata` of an object: where it is found.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ObjectName<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
}

/// A list of items, all of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<I> {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) metadata: NoMetadata,
    pub(super) items: Vec<I>,
}

/// An item of a [`List`].
pub(super) trait Item: Serialize {
    /// Message of the item.
    type Message: Message + Default;
    /// Message of a list of them.
    type ListMessage: Message;

    /// The item as a message.
    fn message(&self) -> Self::Message;

    /// The message of a list.
    fn list(items: Vec<Self::Message>) -> Self::ListMessage;

    /// The JSON of a list, as [`Document::json`].
    fn json_list(list: &List<Self>) -> Option<Vec<u8>>
    where
        Self: Sized,
    {
        let _ = list;
        None
    }
}

impl<I: Item> Document for List<I> {
    type Message = I::ListMessage;

    fn api_version(&self) -> &str {
        self.api_version
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn message(&self) -> Self::Message {
        I::list(self.items.iter().map(Item::message).collect())
    }

    fn json(&self) -> Option<Vec<u8>> {
        I::json_list(self)
    }
}

/// `metav1.Time`: RFC 3339 in UTC, whole seconds.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

fn to_the_second<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&PRINTER.timestamp_to_string(timestamp))
}
