//! The handler of value reads.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{USER_AGENT, WARNING},
};

use super::{
    MetricsProvider,
    accept::{PLAIN_JSON, negotiate},
    list_options::ListOptions,
    respond::json,
    status::ApiError,
    values::{Question, answer},
};
use crate::auth::{Attributes, Identity, ResourceAttributes};

/// User agents of people: they get indented JSON, as in `k8s.io/apiserver`.
const PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla"];

/// Answers what is below `/apis/<group>/<version>/`. Reads the attributes the request was authorised for, not its path.
pub(super) async fn read(
    State(provider): State<Arc<dyn MetricsProvider>>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(attributes): Extension<Arc<Attributes>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    respond(&*provider, &identity, &attributes, &method, &uri, &headers).unwrap_or_else(ApiError::into_response)
}

fn respond(
    provider: &dyn MetricsProvider,
    identity: &Identity,
    attributes: &Attributes,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let Attributes::Resource(ResourceAttributes { group, namespace, resource, name: None, .. }) = attributes else {
        return Err(ApiError::NoSuchPath);
    };
    if method != Method::GET {
        return Err(ApiError::MethodNotAllowed);
    }
    let options = ListOptions::from_uri(uri)?;
    if options.watch {
        return Err(ApiError::WatchNotSupported { group: group.clone() });
    }
    negotiate(headers, &[PLAIN_JSON])?;
    let question = Question {
        namespace: namespace.as_deref(),
        metric: resource,
        selector: &options.selector,
        sums: identity.is_hpa_controller(),
    };
    let answer = answer(&question, provider)?;
    let mut response = json(&answer.list, options.pretty.unwrap_or_else(|| is_person(headers)));
    for warning in &answer.warnings {
        response.headers_mut().append(WARNING, warning_header(warning)?);
    }
    Ok(response)
}

fn is_person(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    PEOPLE.iter().any(|person| agent.starts_with(person))
}

/// `299` is a warning that persists; `-` an agent that does not name itself.
fn warning_header(text: &str) -> Result<HeaderValue, ApiError> {
    let quoted: String = text
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec![' '],
            c => vec![c],
        })
        .collect();
    HeaderValue::try_from(format!("299 - \"{quoted}\"")).map_err(|error| ApiError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_quoted_string() {
        let header = warning_header("variant \"a\\b\":\nold – stale").unwrap();
        assert_eq!(header.as_bytes(), "299 - \"variant \\\"a\\\\b\\\": old – stale\"".as_bytes());
    }
}
