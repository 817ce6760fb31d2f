//! What happens to every request, from the outside in: an audit id, its line in the log and in the metrics, a time limit,
//! who asks, and whether they may. One function and no stack of layers: a value is read in fewer steps than a stack of six
//! would take to be set up.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH},
    request::Parts,
};
use tokio::{sync::Semaphore, time::timeout};
use tower::ServiceExt as _;

use super::{
    accept::{JSON, PLAIN, negotiate},
    audit,
    read::{self, Reads},
    request::attributes,
    request_metrics::{RequestMetrics, Verdict},
    respond::document,
    status::{ApiError, Failure, Forbidden},
};
use crate::{
    auth::{AccessVerdict, Attributes, Authenticator, Authorizer, Identity, ResourceAttributes},
    serving::{Conduct, Peer},
};

/// Joins our log with kube-apiserver's audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest a request may take. Above the time limit of one review, far below the minute that kube-apiserver would let an
/// HPA worker wait.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Requests under way at a time, as many as the Go library allows reads.
pub(super) const REQUESTS: usize = 400;
/// Paths anybody may ask, as everywhere in Kubernetes: exactly these.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/livez"];

/// What every request passes.
pub(super) struct Gate {
    pub(super) authenticator: Authenticator,
    pub(super) authorizer: Authorizer,
    pub(super) metrics: RequestMetrics,
    /// Requests that may still begin.
    pub(super) slots: Semaphore,
    /// Values of each served group version.
    pub(super) values: Vec<Reads>,
    /// Everything else.
    pub(super) rest: Router,
}

/// Answers a request: names it in log and answer by its audit id, counts it, writes failures as the client accepts them,
/// and keeps answers out of caches unless they say otherwise.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let id = audit::id(request.headers().get(AUDIT_ID));
    let in_flight = gate.metrics.begin();
    let of = attributes(request.method(), request.uri()).map(Arc::new);
    let accept: Vec<HeaderValue> = request.headers().get_all(ACCEPT).iter().cloned().collect();
    let logged = tracing::enabled!(tracing::Level::DEBUG);
    let line = logged.then(|| (request.method().clone(), request.uri().path().to_owned()));

    let answer = AssertUnwindSafe(gate.answer(request, of.clone(), &id)).catch_unwind();
    let response = match timeout(TIME_LIMIT, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(&*panic, &id),
        Err(_) => ApiError::Timeout { seconds: TIME_LIMIT.as_secs() }.into_response(),
    };
    let mut response = written(response, accept);
    if let Some((method, path)) = line {
        tracing::debug!(correlation_id = ?id, %method, path, status = response.status().as_u16(), "request");
    }
    let of = of.as_deref().ok();
    gate.metrics.end(&in_flight, of, response.status(), response.body().size_hint().exact());
    let headers = response.headers_mut();
    headers.insert(AUDIT_ID, id);
    headers.entry(CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
    response
}

impl Gate {
    async fn answer(&self, request: Request, of: Result<Arc<Attributes>, ApiError>, id: &HeaderValue) -> Response {
        if OPEN_PATHS.contains(&request.uri().path()) {
            return self.rest(request).await;
        }
        let conduct = request.extensions().get::<Conduct>().cloned().unwrap_or_default();
        let turn = conduct.turn().await;
        let (parts, body) = request.into_parts();
        let admitted = self.admit(&parts, of, id).await;
        drop(turn);
        let (identity, attributes) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                conduct.judge(!self.authenticator.is_front_proxy(parts.extensions.get::<Peer>()));
                return error.into_response();
            }
        };
        conduct.judge(false);
        let Ok(_slot) = self.slots.try_acquire() else { return ApiError::TooManyRequests.into_response() };
        match self.reads(&attributes) {
            Some((reads, of)) => read::read(reads, &identity, of, &parts).await,
            None => self.rest(Request::from_parts(parts, body)).await,
        }
    }

    /// Who asks ([`crate::auth::Identity`]) and for what ([`crate::auth::Attributes`]), if they may.
    async fn admit(
        &self,
        request: &Parts,
        of: Result<Arc<Attributes>, ApiError>,
        id: &HeaderValue,
    ) -> Result<(Arc<Identity>, Arc<Attributes>), ApiError> {
        if request.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            return Err(ApiError::BadRequest(
                "impersonation is not supported here: send the request through kube-apiserver".to_owned(),
            ));
        }
        let peer = request.extensions.get::<Peer>();
        let address = peer.map(|peer| peer.address);
        let identity = self.authenticator.authenticate(peer, &request.headers).await.map_err(|reasons| {
            self.metrics.authenticated(Verdict::Bad);
            tracing::info!(correlation_id = ?id, ?address, %reasons, "unauthenticated request");
            ApiError::Unauthorized
        })?;
        self.metrics.authenticated(Verdict::Good);
        let (identity, attributes) = (Arc::new(identity), of?);
        match self.authorizer.authorize(Arc::clone(&identity), Arc::clone(&attributes)).await {
            AccessVerdict::Allowed => {
                self.metrics.authorized(Verdict::Good);
                Ok((identity, attributes))
            }
            AccessVerdict::Denied { reason } => {
                self.metrics.authorized(Verdict::Bad);
                let refusal = Forbidden::new(&identity, &attributes, reason);
                tracing::info!(correlation_id = ?id, ?address, %refusal, "unauthorised request");
                Err(ApiError::Forbidden(Box::new(refusal)))
            }
        }
    }

    /// The values that `attributes` are about.
    fn reads<'a>(&self, attributes: &'a Attributes) -> Option<(&Reads, &'a ResourceAttributes)> {
        let Attributes::Resource(of) = attributes else { return None };
        let is_meant = |reads: &&Reads| reads.version.group.name() == of.group && reads.version.version == of.version;
        Some((self.values.iter().find(is_meant)?, of))
    }

    async fn rest(&self, request: Request) -> Response {
        match self.rest.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The response itself, or the failure that it stands for in an encoding that `accept` names; in JSON if there is none.
fn written(mut response: Response, accept: Vec<HeaderValue>) -> Response {
    let Some(Failure(status)) = response.extensions_mut().remove::<Failure>() else { return response };
    let headers = accept.into_iter().map(|value| (ACCEPT, value)).collect::<HeaderMap>();
    let offer = negotiate(&headers, &PLAIN).unwrap_or(&JSON);
    match document(&*status, offer, false) {
        Ok(body) => {
            let (mut parts, _) = response.into_parts();
            // The router counted the empty body that stood for the failure.
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.extend(body.headers().clone());
            Response::from_parts(parts, body.into_body())
        }
        Err(_) => response,
    }
}

/// The answer to a request whose handler panicked.
fn panicked(panic: &(dyn Any + Send), id: &HeaderValue) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(correlation_id = ?id, message, "a request handler panicked");
    ApiError::Internal("a request handler panicked; see the log".to_owned()).into_response()
}
