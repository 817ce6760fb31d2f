//! What happens to every request, from the outside in: an audit id, its line in the log and in the metrics, a time limit,
//! who asks, and whether they may.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    body::HttpBody as _,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL},
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    accept::{JSON, PLAIN, negotiate},
    request::attributes,
    request_metrics::{RequestMetrics, Verdict},
    respond::document,
    status::{ApiError, Failure, Forbidden},
};
use crate::{
    auth::{AccessVerdict, Attributes, Authenticator, Authorizer},
    serving::{Conduct, Peer},
};

/// Joins our log with kube-apiserver's audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest audit id that is taken over.
const LONGEST_AUDIT_ID: usize = 64;
/// Longest a request may take. Above the time limit of one review, far below the minute that kube-apiserver would let an
/// HPA worker wait.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Requests under way at a time, as many as the Go library allows reads.
pub(super) const REQUESTS: usize = 400;
/// Paths anybody may ask, as everywhere in Kubernetes: exactly these.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/livez"];

/// What decides whether a request proceeds.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) authenticator: Authenticator,
    pub(super) authorizer: Authorizer,
    pub(super) metrics: RequestMetrics,
}

/// Names the request in log and answer by its audit id, counts it, writes failures as the client accepts them, and keeps
/// answers out of caches unless they say otherwise.
pub(super) async fn label(State(metrics): State<RequestMetrics>, mut request: Request, next: Next) -> Response {
    let id = audit_id(request.headers());
    let in_flight = metrics.begin();
    let of = attributes(request.method(), request.uri()).map(Arc::new);
    let known = of.as_ref().ok().map(Arc::clone);
    request.extensions_mut().insert(Reading(of));
    let accept: Vec<HeaderValue> = request.headers().get_all(ACCEPT).iter().cloned().collect();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());

    let span =
        tracing::error_span!("operation", operation = "request", correlation_id = id.to_str().unwrap_or_default());
    let mut response = async {
        let response = written(next.run(request).await, &accept);
        tracing::debug!(%method, path, status = response.status().as_u16(), "request");
        response
    }
    .instrument(span)
    .await;

    metrics.end(&in_flight, known.as_deref(), response.status(), response.body().size_hint().exact());
    response.headers_mut().insert(AUDIT_ID, id);
    response.headers_mut().entry(CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
    response
}

/// What the request is about, read once for all.
#[derive(Clone)]
struct Reading(Result<Arc<Attributes>, ApiError>);

/// The response itself, or the failure that it stands for in an encoding that `accept` names; in JSON if there is none.
fn written(mut response: Response, accept: &[HeaderValue]) -> Response {
    let Some(Failure(status)) = response.extensions_mut().remove::<Failure>() else { return response };
    let headers = accept.iter().map(|value| (ACCEPT, value.clone())).collect();
    let offer = negotiate(&headers, &PLAIN).unwrap_or(&JSON);
    match document(&*status, offer, false) {
        Ok(body) => {
            let (mut parts, _) = response.into_parts();
            parts.headers.extend(body.headers().clone());
            Response::from_parts(parts, body.into_body())
        }
        Err(_) => response,
    }
}

fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers
        .get(AUDIT_ID)
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_AUDIT_ID && id.as_bytes().iter().all(u8::is_ascii_graphic));
    let made = || HeaderValue::try_from(Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("none"));
    given.cloned().unwrap_or_else(made)
}

/// The answer to a request whose handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http calls")]
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

/// Answers at once when too much is under way.
pub(super) async fn limit_requests(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match slots.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => ApiError::TooManyRequests.into_response(),
    }
}

/// Lets a request through to its handler if its author may do what it asks, and puts who ([`crate::auth::Identity`]) and
/// what ([`crate::auth::Attributes`]) into its extensions.
pub(super) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let conduct = request.extensions().get::<Conduct>().cloned().unwrap_or_default();
    let turn = conduct.turn().await;
    let admitted = admit(&access, &mut request).await;
    drop(turn);
    match admitted {
        Ok(()) => {
            conduct.judge(false);
            next.run(request).await
        }
        Err(error) => {
            let peer = request.extensions().get::<Peer>();
            conduct.judge(!access.authenticator.is_front_proxy(peer));
            error.into_response()
        }
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
        access.metrics.authenticated(Verdict::Bad);
        tracing::info!(?address, %reasons, "unauthenticated request");
        ApiError::Unauthorized
    })?;
    access.metrics.authenticated(Verdict::Good);
    let identity = Arc::new(identity);
    let reading = request.extensions().get::<Reading>().cloned();
    let attributes = match reading {
        Some(Reading(attributes)) => attributes?,
        None => Arc::new(attributes(request.method(), request.uri())?),
    };
    match access.authorizer.authorize(Arc::clone(&identity), Arc::clone(&attributes)).await {
        AccessVerdict::Allowed => {
            access.metrics.authorized(Verdict::Good);
            request.extensions_mut().insert(identity);
            request.extensions_mut().insert(attributes);
            Ok(())
        }
        AccessVerdict::Denied { reason } => {
            access.metrics.authorized(Verdict::Bad);
            let refusal = Forbidden::new(&identity, &attributes, reason);
            tracing::info!(?address, %refusal, "unauthorised request");
            Err(ApiError::Forbidden(Box::new(refusal)))
        }
    }
}
