//! Bodies of answers.

use std::{
    fmt::Display,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use serde::Serialize;

use super::{
    accept::{Encoding, JSON, Offer},
    status::ApiError,
    wire::{Document, protobuf},
};

/// Bytes of a list of one value, and some more.
const USUAL_SIZE: usize = 512;

/// `document` as `offer` wants it; JSON is indented for people if `pretty`.
///
/// # Errors
/// When it cannot be written, which is a fault of ours.
pub(super) fn document(document: &impl Document, offer: &Offer, pretty: bool) -> Result<Response, ApiError> {
    let body = match offer.encoding {
        Encoding::Json | Encoding::Table => {
            let quickly = if pretty { None } else { document.json() };
            quickly.map_or_else(|| json_bytes(document, pretty), Ok)?
        }
        Encoding::Yaml => yaml_bytes(document)?,
        Encoding::Protobuf => protobuf::document(document.api_version(), document.kind(), &document.message()),
    };
    Ok(with_type(offer.content_type, body))
}

/// `document` as JSON, indented for people if `pretty`.
pub(super) fn json(document: &impl Serialize, pretty: bool) -> Response {
    match json_bytes(document, pretty) {
        Ok(bytes) => with_type(JSON.content_type, bytes),
        Err(error) => error.into_response(),
    }
}

pub(super) fn json_bytes(document: &impl Serialize, pretty: bool) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(USUAL_SIZE);
    let written = if pretty {
        serde_json::to_writer_pretty(&mut bytes, document)
    } else {
        serde_json::to_writer(&mut bytes, document)
    };
    written.map_err(|error| unwritable(&error))?;
    Ok(bytes)
}

pub(super) fn yaml_bytes(document: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_saphyr::to_string(document).map(String::into_bytes).map_err(|error| unwritable(&error))
}

fn unwritable(error: &dyn Display) -> ApiError {
    ApiError::Internal(error.to_string())
}

/// A body of `media_type`.
pub(super) fn with_type(media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A body that does not change while the process runs, and its name for caches.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    body: Bytes,
    etag: HeaderValue,
}

impl Constant {
    pub(super) fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let etag = format!("\"{}\"", hash(&body));
        Self { etag: HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\"")), body }
    }

    /// The body, unless the client says that it has it.
    pub(super) fn answer(&self, content_type: &'static str, headers: &HeaderMap) -> Response {
        let mut response = if self.is_known(headers) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            with_type(content_type, self.body.clone())
        };
        response.headers_mut().insert(ETAG, self.etag.clone());
        response
    }

    /// The hash that [`Self::answer`] names it by.
    pub(super) fn hash(&self) -> String {
        hash(&self.body)
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|candidate| candidate.trim().trim_start_matches("W/"))
            .any(|candidate| candidate.as_bytes() == self.etag.as_bytes() || candidate == "*")
    }
}

/// All replicas of one build name the same content alike.
fn hash(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}
