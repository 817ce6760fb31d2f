//! Bodies of answers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header::CONTENT_TYPE};
use serde::Serialize;

use super::status::ApiError;

/// Media type of everything that is not negotiated otherwise; clients compare it whole, so without a charset.
pub(super) const JSON: &str = "application/json";

/// `document` as JSON, indented for people if `pretty`.
pub(super) fn json(document: &impl Serialize, pretty: bool) -> Response {
    let bytes = if pretty { serde_json::to_vec_pretty(document) } else { serde_json::to_vec(document) };
    match bytes {
        Ok(bytes) => with_type(JSON, bytes),
        Err(error) => ApiError::Internal(error.to_string()).into_response(),
    }
}

/// A body of `media_type`.
pub(super) fn with_type(media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
