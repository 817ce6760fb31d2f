//! What happens to every request, from the outside in: an audit id, its line in the log and in the metrics, a time limit,
//! who asks, and whether they may. One function and no stack of layers: a value is read in fewer steps than a stack of six
//! would take to be set up.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH},
    request::Parts,
};
use jiff::Timestamp;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tower::ServiceExt as _;

use super::{
    accept::{JSON, PLAIN, negotiate},
    admission::{Admission, Admissions},
    audit::{AuditedRequest, Auditor, Seen},
    audit_id,
    list_options::ListOptions,
    read::{self, Reads},
    request::attributes,
    request_metrics::{RequestMetrics, Verdict},
    respond::document,
    status::{ApiError, Failure, Forbidden},
};
use crate::{
    auth::{
        AccessVerdict, Attributes, Authenticated, Authenticator, Authorizer, Identity, Judgement, ResourceAttributes,
    },
    serving::{Peer, panic_message},
};

/// Joins our log with kube-apiserver's audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest a request may take. Above the time limit of one review, far below the minute that kube-apiserver would let an
/// HPA worker wait.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Requests under way at a time, as many as the Go library allows reads.
pub(super) const REQUESTS: usize = 400;
/// Health, which kubelet asks without credentials: where it is open to anybody, it is told without looking at any, so that
/// it does not depend on kube-apiserver.
const HEALTH_PATHS: [&str; 3] = ["/healthz", "/readyz", "/livez"];

/// What every request passes.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) authenticator: Authenticator,
    pub(super) authorizer: Authorizer,
    pub(super) auditor: Option<Auditor>,
    pub(super) metrics: RequestMetrics,
    /// Requests that may still begin.
    pub(super) slots: Semaphore,
    /// Values of each served group version.
    pub(super) values: Vec<Reads>,
    /// Everything else.
    pub(super) rest: Router,
}

impl Gate {
    /// Answers a request: names it in log and answer by its audit id, counts it, writes failures as the client accepts
    /// them, and keeps answers out of caches unless they say otherwise.
    pub(super) async fn pass<B>(&self, peer: Option<&Peer>, memory: &Admissions, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let id = audit_id::id(parts.headers.get(AUDIT_ID));
        let in_flight = self.metrics.begin();
        let of = attributes(&parts.method, &parts.uri).map(Arc::new);
        let trail =
            Trail { id: &id, received: self.auditor.as_ref().map(|_| Timestamp::now()), audited: OnceLock::new() };

        let answered = {
            let answer = self.answer(peer, memory, &parts, body, of.clone(), &trail);
            let mut answer = pin!(AssertUnwindSafe(answer).catch_unwind());
            // Most need not wait, and so no timer.
            match answer.as_mut().now_or_never() {
                Some(answered) => Ok(answered),
                None => timeout(TIME_LIMIT, answer).await,
            }
        };
        let timed_out = || ApiError::Timeout { seconds: TIME_LIMIT.as_secs() }.into_response();
        let outcome = answered.unwrap_or_else(|_| Ok(timed_out()));
        let response = told(outcome, trail.audited.into_inner(), &id);
        let mut response = written(response, &parts.headers);
        if parts.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        let size = response.body().size_hint().exact();
        self.metrics.end(&in_flight, of.as_deref().ok(), response.status(), size);
        signed(response, id, &parts.method, parts.uri.path())
    }

    /// As [`Self::pass`], for a read that was let in before on the same connection: that needs not wait for anything.
    pub(super) fn at_once<B>(&self, peer: &Peer, memory: &Admissions, request: &Request<B>) -> Option<Response> {
        let (headers, uri) = (request.headers(), request.uri());
        // Those who were refused stand in line.
        if request.method() != Method::GET || peer.conduct.is_refused() {
            return None;
        }
        let admission = memory.find(uri)?;
        let options = ListOptions::from_uri(uri).ok().filter(|options| !options.watch)?;
        let (reads, of) = self.reads(&admission.attributes)?;
        if !read::is_about_few(reads.version, of, &options)
            || !admission.counts(&self.authenticator, headers, Instant::now())
        {
            return None;
        }
        let in_flight = self.metrics.begin();
        self.metrics.authenticated(Verdict::Good);
        self.metrics.authorized(Verdict::Good);
        let id = audit_id::id(headers.get(AUDIT_ID));
        let read = || read::read_own(reads, &admission.identity, of, (uri, headers), options);
        let response = match &self.auditor {
            None => catch_unwind(AssertUnwindSafe(|| written(read(), headers)))
                .unwrap_or_else(|panic| written(panicked(&*panic, &id), headers)),
            Some(auditor) => {
                let seen = Seen { id: &id, uri, headers, peer: Some(peer), received: Timestamp::now() };
                let audited = auditor.begin(seen, &admission.identity, &admission.attributes);
                if let Some(audited) = &audited {
                    audited.authorized(&AccessVerdict::Allowed);
                }
                written(told(catch_unwind(AssertUnwindSafe(read)), audited, &id), headers)
            }
        };
        let size = response.body().size_hint().exact();
        if response.status() == StatusCode::OK {
            let cells = admission.cells.get_or_init(|| self.metrics.cells(&admission.attributes, StatusCode::OK));
            in_flight.end_in(cells, size);
        } else {
            self.metrics.end(&in_flight, Some(&admission.attributes), response.status(), size);
        }
        Some(signed(response, id, request.method(), uri.path()))
    }

    async fn answer<B>(
        &self,
        peer: Option<&Peer>,
        memory: &Admissions,
        parts: &Parts,
        body: B,
        of: Result<Arc<Attributes>, ApiError>,
        trail: &Trail<'_>,
    ) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let path = parts.uri.path();
        if HEALTH_PATHS.contains(&path) && self.authorizer.is_open(path) {
            if let (Some(_), Ok(of)) = (&self.auditor, &of) {
                let anybody = Arc::new(Identity::anonymous());
                self.note(trail, parts, peer, &anybody, of);
                trail.judged(&AccessVerdict::Allowed);
            }
            return Box::pin(self.rest(parts, body)).await;
        }
        let turn = match peer {
            Some(peer) => Some(peer.conduct.turn().await),
            None => None,
        };
        let admitted = self.admit(parts, peer, of, trail).await;
        drop(turn);
        match (peer, &admitted) {
            (Some(peer), Ok(_)) => peer.conduct.granted(),
            // It passes on the requests of many.
            (Some(peer), Err(_)) if self.authenticator.is_front_proxy(peer) => peer.conduct.granted(),
            (Some(peer), Err(_)) => peer.conduct.refused(),
            (None, _) => {}
        }
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return error.into_response(),
        };
        let Ok(_slot) = self.slots.try_acquire() else { return ApiError::TooManyRequests.into_response() };
        let (identity, attributes) = (Arc::clone(&admitted.by.identity), Arc::clone(&admitted.attributes));
        match self.reads(&attributes) {
            Some((reads, of)) => {
                if parts.method == Method::GET && of.verb != "watch" && reads.are_own(of, &parts.uri) {
                    admitted.keep(memory, &parts.uri);
                }
                read::read(reads, &identity, of, parts).await
            }
            // Boxed, because it is large and values, which are read most, do not come here.
            None => Box::pin(self.rest(parts, body)).await,
        }
    }

    /// Who asks and for what, if they may.
    async fn admit(
        &self,
        request: &Parts,
        peer: Option<&Peer>,
        of: Result<Arc<Attributes>, ApiError>,
        trail: &Trail<'_>,
    ) -> Result<Admitted, ApiError> {
        let id = trail.id;
        if request.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            return Err(ApiError::BadRequest(
                "impersonation is not supported here: send the request through kube-apiserver".to_owned(),
            ));
        }
        let address = peer.map(|peer| peer.address);
        let by = self.authenticator.authenticate(peer, &request.headers).await.map_err(|reasons| {
            self.metrics.authenticated(Verdict::Bad);
            tracing::info!(correlation_id = ?id, ?address, %reasons, "unauthenticated request");
            if let (Some(auditor), Some(received), Ok(of)) = (&self.auditor, trail.received, &of) {
                let tried = if request.headers.contains_key(AUTHORIZATION) { "bearer" } else { "x509" };
                auditor.unauthenticated(
                    Seen { id, uri: &request.uri, headers: &request.headers, peer, received },
                    tried,
                    of,
                );
            }
            ApiError::Unauthorized
        })?;
        self.metrics.authenticated(Verdict::Good);
        let attributes = of?;
        self.note(trail, request, peer, &by.identity, &attributes);
        let Judgement { verdict, until } =
            self.authorizer.authorize(Arc::clone(&by.identity), Arc::clone(&attributes)).await;
        trail.judged(&verdict);
        match verdict {
            AccessVerdict::Allowed => {
                self.metrics.authorized(Verdict::Good);
                Ok(Admitted { by, attributes, until })
            }
            AccessVerdict::Denied { reason } => {
                self.metrics.authorized(Verdict::Bad);
                let refusal = Forbidden::new(&by.identity, &attributes, reason);
                tracing::info!(correlation_id = ?id, ?address, %refusal, "unauthorised request");
                Err(ApiError::Forbidden(Box::new(refusal)))
            }
        }
    }

    /// Writes down that a request came, where it is wanted.
    fn note(
        &self,
        trail: &Trail<'_>,
        request: &Parts,
        peer: Option<&Peer>,
        identity: &Arc<Identity>,
        of: &Arc<Attributes>,
    ) {
        let (Some(auditor), Some(received)) = (&self.auditor, trail.received) else { return };
        let seen = Seen { id: trail.id, uri: &request.uri, headers: &request.headers, peer, received };
        if let Some(audited) = auditor.begin(seen, identity, of) {
            // It is noted once.
            let _ = trail.audited.set(audited);
        }
    }

    /// The values that `attributes` are about.
    fn reads<'a>(&self, attributes: &'a Attributes) -> Option<(&Reads, &'a ResourceAttributes)> {
        let Attributes::Resource(of) = attributes else { return None };
        let is_meant = |reads: &&Reads| reads.version.group.name() == of.group && reads.version.version == of.version;
        Some((self.values.iter().find(is_meant)?, of))
    }

    async fn rest<B>(&self, parts: &Parts, body: B) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self.rest.clone().oneshot(Request::from_parts(parts.clone(), Body::new(body))).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// What is written of a request while it is answered.
struct Trail<'a> {
    id: &'a HeaderValue,
    /// When it came, where that is of interest.
    received: Option<Timestamp>,
    audited: OnceLock<AuditedRequest>,
}

impl Trail<'_> {
    fn judged(&self, verdict: &AccessVerdict) {
        if let Some(audited) = self.audited.get() {
            audited.authorized(verdict);
        }
    }
}

/// Who asks for what, and may.
struct Admitted {
    by: Authenticated,
    attributes: Arc<Attributes>,
    /// When that must be asked again; `None`: at once.
    until: Option<Instant>,
}

impl Admitted {
    /// Remembers it for further requests with the path of `uri`, where that is safe.
    fn keep(self, memory: &Admissions, uri: &Uri) {
        let Self { by: Authenticated { identity, vouched }, attributes, until } = self;
        if let (Some(vouched), Some(until)) = (vouched, until) {
            memory.keep(uri, Admission { identity, attributes, vouched, until, cells: OnceLock::new() });
        }
    }
}

/// The response with what all have: the request's audit id, which its line in the log carries too, and no cache.
fn signed(mut response: Response, mut id: HeaderValue, method: &Method, path: &str) -> Response {
    let status = response.status().as_u16();
    tracing::debug!(correlation_id = ?id, %method, path, status, "request");
    let headers = response.headers_mut();
    // Not a secret, but never the same twice: it would push what is out of HTTP/2's table of known headers.
    id.set_sensitive(true);
    headers.insert(AUDIT_ID, id);
    headers.entry(CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
    response
}

/// The response itself, or the failure that it stands for in an encoding that the `request` accepts; in JSON if there is
/// none.
fn written(mut response: Response, request: &HeaderMap) -> Response {
    let Some(Failure(status)) = response.extensions_mut().remove::<Failure>() else { return response };
    let offer = negotiate(request, &PLAIN).unwrap_or(&JSON);
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

/// The answer, or that there was a panic in its place; either is noted of the request that is `audited`.
fn told(outcome: Result<Response, Box<dyn Any + Send>>, audited: Option<AuditedRequest>, id: &HeaderValue) -> Response {
    match outcome {
        Ok(response) => {
            if let Some(audited) = audited {
                audited.answered(response.status(), response.extensions().get());
            }
            response
        }
        Err(panic) => {
            if let Some(audited) = audited {
                audited.panicked(panic_message(&*panic));
            }
            panicked(&*panic, id)
        }
    }
}

/// The answer to a request whose handler panicked.
fn panicked(panic: &(dyn Any + Send), id: &HeaderValue) -> Response {
    tracing::error!(correlation_id = ?id, message = panic_message(panic), "a request handler panicked");
    ApiError::Internal("a request handler panicked; see the log".to_owned()).into_response()
}
