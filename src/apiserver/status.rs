//! Errors of the API, and the one place that maps them to HTTP.

use std::{fmt, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use thiserror::Error;

use super::wire::{NoMetadata, Status, StatusCause, StatusDetails};
use crate::auth::{Attributes, Identity, ResourceAttributes};

/// Why a request is not answered. The message of a value read ends up in `kubectl describe hpa` word for word.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum ApiError {
    /// The request cannot be understood or must not be answered.
    #[error("{0}")]
    BadRequest(String),
    /// Credentials are not valid. The text is what clients know; the reasons are logged.
    #[error("Unauthorized")]
    Unauthorized,
    /// The caller may not do it.
    #[error("{0}")]
    Forbidden(Box<Forbidden>),
    /// No such path.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// No such metric, or no series of it.
    #[error("{message}")]
    NotFound {
        /// A sentence.
        message: String,
        /// The metric.
        metric: Subject,
    },
    /// The path is not for this method.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// Watching is not offered.
    #[error("watch is not supported on resources of kind \"*.{group}\"")]
    WatchNotSupported {
        /// API group.
        group: String,
    },
    /// No offered media type is acceptable.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(String),
    /// A parameter contradicts another.
    #[error("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {message}")]
    Invalid {
        /// The parameter.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The values are withheld.
    #[error("{0}")]
    Unavailable(String),
    /// Too much is under way. Without `Retry-After`: a client that obeyed it would block an HPA worker.
    #[error("too many requests are under way; the next attempt may succeed")]
    TooManyRequests,
    /// A fault of ours.
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// The request took too long.
    #[error("Timeout: request did not complete within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
}

/// The metric an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) group: String,
    pub(super) metric: String,
}

/// Who may not do what, in the words clients recognise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forbidden {
    pub(super) user: String,
    pub(super) attributes: Attributes,
    pub(super) reason: String,
}

impl Forbidden {
    pub(super) fn new(identity: &Identity, attributes: &Attributes, reason: String) -> Self {
        Self { user: identity.user.clone(), attributes: attributes.clone(), reason }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = &self.user;
        match &self.attributes {
            Attributes::NonResource { path, verb } => {
                write!(f, "forbidden: User {user:?} cannot {verb} path {path:?}")?;
            }
            Attributes::Resource(ResourceAttributes {
                verb, group, namespace, resource, subresource, name, ..
            }) => {
                write!(f, "{resource}.{group}")?;
                if let Some(name) = name {
                    write!(f, " {name:?}")?;
                }
                let subresource = subresource.as_ref().map_or_else(String::new, |name| format!("/{name}"));
                let resource = format!("{resource}{subresource}");
                write!(f, " is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {group:?}")?;
                match namespace {
                    Some(namespace) => write!(f, " in the namespace {namespace:?}")?,
                    None => f.write_str(" at the cluster scope")?,
                }
            }
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl ApiError {
    fn code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NoSuchPath | Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed | Self::WatchNotSupported { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// `metav1.StatusReason`.
    fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden(_) => "Forbidden",
            Self::NoSuchPath | Self::NotFound { .. } => "NotFound",
            Self::MethodNotAllowed | Self::WatchNotSupported { .. } => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::Invalid { .. } => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::Internal(_) => "InternalError",
            Self::Unavailable(_) => "ServiceUnavailable",
            Self::Timeout { .. } => "Timeout",
        }
    }

    fn details(&self) -> Option<StatusDetails> {
        let of = |name: Option<&str>, group: &str, kind: &str| StatusDetails {
            name: name.map(str::to_owned),
            group: Some(group.to_owned()),
            kind: Some(kind.to_owned()),
            causes: Vec::new(),
        };
        match self {
            Self::NotFound { metric: Subject { group, metric }, .. } => Some(of(Some(metric), group, metric)),
            Self::Forbidden(forbidden) => match &forbidden.attributes {
                Attributes::Resource(ResourceAttributes { name, group, resource, .. }) => {
                    Some(of(name.as_deref(), group, resource))
                }
                Attributes::NonResource { .. } => None,
            },
            // Empty, as the reference has it.
            Self::NoSuchPath | Self::MethodNotAllowed => Some(StatusDetails::default()),
            Self::WatchNotSupported { group } => Some(of(None, group, "*")),
            Self::Invalid { field, message } => Some(StatusDetails {
                causes: vec![StatusCause {
                    reason: "FieldValueForbidden",
                    message: format!("Forbidden: {message}"),
                    field,
                }],
                ..of(None, "meta.k8s.io", "ListOptions")
            }),
            _ => None,
        }
    }
}

impl From<&ApiError> for Status {
    fn from(error: &ApiError) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: NoMetadata {},
            status: "Failure",
            message: error.to_string(),
            reason: error.reason(),
            details: error.details(),
            code: error.code().as_u16(),
        }
    }
}

/// A failure on its way out: written at the rim, where it is known what the client accepts.
#[derive(Clone, Debug)]
pub(super) struct Failure(pub(super) Arc<Status>);

impl IntoResponse for ApiError {
    /// Without a body yet: see [`Failure`].
    fn into_response(self) -> Response {
        let mut response = self.code().into_response();
        response.extensions_mut().insert(Failure(Arc::new(Status::from(&self))));
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(error: &ApiError) -> Value {
        serde_json::to_value(Status::from(error)).unwrap()
    }

    fn forbidden(attributes: &Attributes, reason: &str) -> ApiError {
        let alice = Identity::new("alice", ["dev"]);
        ApiError::Forbidden(Box::new(Forbidden::new(&alice, attributes, reason.to_owned())))
    }

    fn read(namespace: Option<&str>) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: "list".into(),
            group: "external.metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: "wva_x".to_owned(),
            ..ResourceAttributes::default()
        })
    }

    #[test]
    fn a_missing_path_is_a_status_without_particulars() {
        assert_eq!(
            status(&ApiError::NoSuchPath),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                   "message": "the server could not find the requested resource", "reason": "NotFound", "details": {},
                   "code": 404})
        );
    }

    #[test]
    fn a_missing_metric_is_named_in_the_details() {
        let metric = Subject { group: "external.metrics.k8s.io".to_owned(), metric: "wva_x".to_owned() };
        let error = ApiError::NotFound { message: "no variant matches".to_owned(), metric };
        let status = status(&error);
        assert_eq!(status["message"], "no variant matches");
        assert_eq!(status["details"], json!({"name": "wva_x", "group": "external.metrics.k8s.io", "kind": "wva_x"}));
    }

    #[test]
    fn a_refusal_to_a_user_is_worded_as_clients_know_it() {
        for (error, message) in [
            (
                forbidden(&read(Some("default")), ""),
                r#"wva_x.external.metrics.k8s.io is forbidden: User "alice" cannot list resource "wva_x" in API group "external.metrics.k8s.io" in the namespace "default""#,
            ),
            (
                forbidden(&read(None), "no RBAC policy matched"),
                r#"wva_x.external.metrics.k8s.io is forbidden: User "alice" cannot list resource "wva_x" in API group "external.metrics.k8s.io" at the cluster scope: no RBAC policy matched"#,
            ),
            (
                forbidden(&Attributes::NonResource { path: "/metrics".to_owned(), verb: "get".into() }, ""),
                r#"forbidden: User "alice" cannot get path "/metrics""#,
            ),
        ] {
            assert_eq!(status(&error)["message"], message);
            assert_eq!(status(&error)["code"], 403);
        }
    }

    #[test]
    fn withheld_values_never_ask_the_client_to_retry_later() {
        let response = ApiError::Unavailable("variant a: metrics are 130 s old".to_owned()).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!response.headers().contains_key(http::header::RETRY_AFTER));
        let status = status(&ApiError::Unavailable("variant a: metrics are 130 s old".to_owned()));
        assert_eq!(status["reason"], "ServiceUnavailable");
        assert!(status.get("details").is_none());
    }

    #[test]
    fn a_refused_watch_names_the_group() {
        let error = ApiError::WatchNotSupported { group: "external.metrics.k8s.io".to_owned() };
        assert_eq!(
            status(&error)["message"],
            r#"watch is not supported on resources of kind "*.external.metrics.k8s.io""#
        );
        assert_eq!(status(&error)["details"], json!({"group": "external.metrics.k8s.io", "kind": "*"}));
    }
}
