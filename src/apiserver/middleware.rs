//! What happens to every request, from the outside in: an audit id, a time limit, who asks, and whether they may.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    request::attributes,
    status::{ApiError, Forbidden},
};
use crate::{
    auth::{Authenticator, Authorizer, Decision},
    serving::Peer,
};

/// Joins our log with kube-apiserver's audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest audit id that is taken over.
const LONGEST_AUDIT_ID: usize = 64;
/// Longest a request may take. Above the time limit of one review, far below the minute that kube-apiserver would let an
/// HPA worker wait.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Paths anybody may ask, as everywhere in Kubernetes: exactly these.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/livez"];

/// What decides whether a request proceeds.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) authenticator: Authenticator,
    pub(super) authorizer: Authorizer,
}

/// Gives the answer the request's audit id, or a new one, and keeps it out of caches unless it says otherwise.
pub(super) async fn label(request: Request, next: Next) -> Response {
    let id = audit_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    tracing::debug!(audit_id = ?id, %method, path, status = response.status().as_u16(), "request");
    response.headers_mut().insert(AUDIT_ID, id);
    response.headers_mut().entry(CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
    response
}

fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers
        .get(AUDIT_ID)
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_AUDIT_ID && id.as_bytes().iter().all(u8::is_ascii_graphic));
    let made = || HeaderValue::try_from(Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("none"));
    given.cloned().unwrap_or_else(made)
}

/// The answer to a request whose handler panicked.
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(message, "a request handler panicked");
    ApiError::Internal("a request handler panicked; see the log".to_owned()).into_response()
}

/// Ends requests that take too long.
pub(super) async fn limit_time(request: Request, next: Next) -> Response {
    match timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout { seconds: TIME_LIMIT.as_secs() }.into_response(),
    }
}

/// Lets a request through to its handler if its author may do what it asks, and puts who ([`crate::auth::Identity`]) and
/// what ([`crate::auth::Attributes`]) into its extensions.
pub(super) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match admit(&access, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn admit(access: &Access, request: &mut Request) -> Result<(), ApiError> {
    if request.headers().keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Err(ApiError::BadRequest(
            "impersonation is not supported here: send the request through kube-apiserver".to_owned(),
        ));
    }
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| peer.address);
    let identity = access.authenticator.authenticate(peer, request.headers()).await.map_err(|reasons| {
        tracing::info!(?address, audit_id = ?request.headers().get(AUDIT_ID), %reasons, "unauthenticated request");
        ApiError::Unauthorized
    })?;
    let identity = Arc::new(identity);
    let attributes = Arc::new(attributes(request.method(), request.uri())?);
    match access.authorizer.authorize(Arc::clone(&identity), Arc::clone(&attributes)).await {
        Decision::Allowed => {
            request.extensions_mut().insert(identity);
            request.extensions_mut().insert(attributes);
            Ok(())
        }
        Decision::Denied { reason } => {
            let refusal = Forbidden::new(&identity, &attributes, reason);
            tracing::info!(?address, audit_id = ?request.headers().get(AUDIT_ID), %refusal, "unauthorised request");
            Err(ApiError::Forbidden(Box::new(refusal)))
        }
    }
}
