//! `metav1.Status`.

use serde::Serialize;

use super::{Document, NoMetadata, protobuf};

/// `metav1.Status` of a failure.
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct Status {
    pub(in crate::apiserver) kind: &'static str,
    pub(in crate::apiserver) api_version: &'static str,
    pub(in crate::apiserver) metadata: NoMetadata,
    pub(in crate::apiserver) status: &'static str,
    pub(in crate::apiserver) message: String,
    pub(in crate::apiserver) reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) details: Option<StatusDetails>,
    pub(in crate::apiserver) code: u16,
}

/// What a failure is about. There is no `retryAfterSeconds`: client-go would sleep that long inside an HPA worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::apiserver) struct StatusDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) kind: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::apiserver) causes: Vec<StatusCause>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::apiserver) struct StatusCause {
    pub(in crate::apiserver) reason: &'static str,
    pub(in crate::apiserver) message: String,
    pub(in crate::apiserver) field: &'static str,
}

impl Document for Status {
    type Message = protobuf::Status;

    fn api_version(&self) -> &str {
        self.api_version
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn message(&self) -> Self::Message {
        protobuf::Status {
            metadata: Some(protobuf::ListMeta {}),
            status: self.status.to_owned(),
            message: self.message.clone(),
            reason: self.reason.to_owned(),
            details: self.details.as_ref().map(StatusDetails::message),
            code: i32::from(self.code),
        }
    }
}

impl StatusDetails {
    fn message(&self) -> protobuf::StatusDetails {
        let cause = |cause: &StatusCause| protobuf::StatusCause {
            reason: cause.reason.to_owned(),
            message: cause.message.clone(),
            field: cause.field.to_owned(),
        };
        protobuf::StatusDetails {
            name: self.name.clone().unwrap_or_default(),
            group: self.group.clone().unwrap_or_default(),
            kind: self.kind.clone().unwrap_or_default(),
            causes: self.causes.iter().map(cause).collect(),
        }
    }
}
