//! The Kubernetes metrics API: discovery, values, `metav1.Status` errors.
//!
//! It knows nothing of engines: values come through [`MetricsProvider`], from memory. [`ApiServer::api`] puts it together:
//!
//! ```text
//!  request ─► Gate: audit id, log, metrics ─► panics, time limit ─► who, may they ─┐  (or remembered: Admissions)
//!                      (audit log, where there is one)
//!        ┌──────────────────────────────────────────────────────────────────────────┘
//!        ├─► read        provider ─► values ─► JSON, YAML, protobuf, table
//!        ├─► discovery   constant
//!        └─► health, version, metrics, extra routes
//! ```
//!
//! Errors are one enum everywhere; only `status` knows their HTTP codes.

mod accept;
mod admission;
mod asked;
mod audit;
mod audit_id;
mod compression;
mod custom;
mod delegate;
mod discovery;
mod external;
mod group;
mod health;
mod labels;
mod list_options;
mod middleware;
mod openapi;
mod provider;
mod quantity;
mod read;
mod request;
mod request_metrics;
mod respond;
mod selector;
mod status;
mod status_page;
mod suggestion;
mod table;
mod values;
mod wire;

use std::{fmt, mem::take, sync::Arc};

use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Path, State},
    response::Response,
    routing::{MethodRouter, get},
};
use http::{HeaderMap, Request, Uri};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Semaphore;

pub use self::{
    admission::Admissions,
    audit::{
        AuditFile, AuditFormat, AuditLog, AuditLogError, AuditMetrics, AuditPolicy, AuditPolicyError, AuditWebhook,
        Auditor, EventCollector, PostError, Waiting, WebhookLimits,
    },
    delegate::Delegate,
    health::{Readiness, ReadinessCheck},
    provider::{
        Labels, MetricsProvider, ObjectReference, Of, Refusal, Sample, Selector, Series, SeriesQuery, Summary,
        UnknownMetric,
    },
    request_metrics::RequestMetrics,
    suggestion::nearest,
};
use self::{
    discovery::{GroupsDocument, PlainDocument},
    group::{GroupVersion, all_versions, versions},
    health::Checks,
    list_options::{has_parameter, values_of},
    middleware::Gate,
    read::Reads,
    status::ApiError,
};
use crate::{
    auth::{Authenticator, Authorizer},
    constants::MetricsGroup,
    serving::{Handler, Peer},
};

/// Media type of `/metrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Largest body a handler may read; the API itself takes none.
const BODY_LIMIT: usize = 64 * 1024;

/// Writes the process's own metrics as OpenMetrics text.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// The parts of an API server.
pub struct ApiServer {
    /// Knows the values.
    pub provider: Arc<dyn MetricsProvider>,
    /// Knows external metrics that are not ours, if there is such an adapter.
    pub delegate: Option<Arc<dyn Delegate>>,
    /// API groups that are served, in the order in which discovery lists them.
    pub groups: Vec<MetricsGroup>,
    /// Finds out who asks.
    pub authenticator: Authenticator,
    /// Decides whether they may.
    pub authorizer: Authorizer,
    /// Notes who asked for what, where that is wanted.
    pub auditor: Option<Auditor>,
    /// Shown by `/readyz`.
    pub readiness: Readiness,
    /// Counts requests.
    pub requests: RequestMetrics,
    /// Shown by `/metrics`.
    pub metrics_text: MetricsText,
    /// Further routes. They are authorised by path and method like `/metrics`, and must not overlap with those here.
    pub extra_routes: Router,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Answers requests; clones share their state.
#[derive(Clone, Debug)]
pub struct Api(Arc<Gate>);

impl ApiServer {
    /// Serves `provider` in every group to those whom `authenticator` and `authorizer` let in. It is ready at once, shows no
    /// metrics and knows no other adapter.
    pub fn new(provider: Arc<dyn MetricsProvider>, authenticator: Authenticator, authorizer: Authorizer) -> Self {
        Self {
            provider,
            delegate: None,
            groups: MetricsGroup::ALL.to_vec(),
            authenticator,
            authorizer,
            auditor: None,
            readiness: Readiness::default(),
            requests: RequestMetrics::default(),
            metrics_text: Arc::new(|| "# EOF\n".to_owned()),
            extra_routes: Router::new(),
        }
    }

    /// The parts, put together.
    pub fn api(self) -> Api {
        let Self {
            provider,
            delegate,
            groups,
            authenticator,
            authorizer,
            auditor,
            readiness,
            requests,
            metrics_text,
            extra_routes,
        } = self;
        let metrics = requests.with_resources(provider.metric_names());
        let rest = discovery_routes(&groups, provider.metric_names())
            .merge(process_routes(readiness, metrics_text))
            .merge(openapi::routes(&groups))
            .merge(index(&groups))
            .merge(extra_routes)
            .fallback(|| async { ApiError::NoSuchPath })
            .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
            .layer(DefaultBodyLimit::max(BODY_LIMIT));
        Api(Arc::new(Gate {
            values: values(&groups, &provider, delegate.as_ref(), &metrics),
            slots: Semaphore::new(middleware::REQUESTS),
            authenticator,
            authorizer,
            auditor,
            metrics,
            rest,
        }))
    }
}

impl Api {
    /// The answer to `request` of `peer`. Without one, only bearer tokens authenticate.
    pub async fn answer<B>(&self, peer: Option<&Peer>, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.0.pass(peer, &Admissions::default(), request).await
    }

    /// The answer to `request` on the connection of `peer`, of which `memory` is kept.
    pub async fn answer_on<B>(&self, peer: &Peer, memory: &Admissions, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self.0.at_once(peer, memory, &request) {
            Some(response) => response,
            None => self.0.pass(Some(peer), memory, request).await,
        }
    }
}

impl Handler for Api {
    type Memory = Admissions;

    fn at_once(&self, peer: &Peer, memory: &Admissions, request: &Request<Incoming>) -> Option<http::Response<Body>> {
        self.0.at_once(peer, memory, request)
    }

    async fn handle(&self, peer: &Peer, memory: &Admissions, request: Request<Incoming>) -> http::Response<Body> {
        self.0.pass(Some(peer), memory, request).await
    }
}

/// Each path with and without a trailing slash: a redirect would reach the client as `502` from kube-apiserver.
fn discovery_routes(groups: &[MetricsGroup], metrics: &[&'static str]) -> Router {
    let document = GroupsDocument::new(groups, metrics);
    let root = read_only(get(move |headers: HeaderMap| async move { document.answer(&headers) }));
    let mut router = Router::new().route("/apis", root.clone()).route("/apis/", root);
    let mut add = |path: String, document: PlainDocument| {
        let at = read_only(get(move |headers: HeaderMap| async move { document.answer(&headers) }));
        router = take(&mut router).route(&path, at.clone()).route(&format!("{path}/"), at);
    };
    for group in groups {
        add(format!("/apis/{}", group.name()), PlainDocument::group(*group));
        for version in versions(*group) {
            add(format!("/apis/{}", version.api_version), PlainDocument::resources(version, metrics));
        }
    }
    router
}

/// What there is to be asked, as `k8s.io/apiserver` lists it.
fn index(groups: &[MetricsGroup]) -> Router {
    let of_groups = groups.iter().map(|group| format!("/apis/{}", group.name()));
    let of_versions = all_versions(groups).map(|version| format!("/apis/{}", version.api_version));
    let paths =
        status_page::PATHS.into_iter().chain(["/apis", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/statusz"]);
    let mut paths: Vec<String> = paths.map(str::to_owned).chain(of_groups).chain(of_versions).collect();
    paths.sort();
    let index = json!({ "paths": paths });
    Router::new().route("/", read_only(get(move || async move { respond::json(&index, false) })))
}

/// What is below each group version.
fn values(
    groups: &[MetricsGroup],
    provider: &Arc<dyn MetricsProvider>,
    delegate: Option<&Arc<dyn Delegate>>,
    metrics: &RequestMetrics,
) -> Vec<Reads> {
    let reads = |version: &'static GroupVersion| Reads {
        provider: Arc::clone(provider),
        delegate: delegate.filter(|_| version.group == MetricsGroup::External).cloned(),
        version,
        metrics: metrics.clone(),
    };
    all_versions(groups).map(reads).collect()
}

fn process_routes(readiness: Readiness, metrics_text: MetricsText) -> Router {
    let all = |of: Checks| {
        get(move |State(readiness): State<Readiness>, uri: Uri| async move {
            health::all(&readiness, of, has_parameter(&uri, "verbose"), &values_of(&uri, "exclude"))
        })
    };
    let one = |of: Checks| {
        get(move |State(readiness): State<Readiness>, Path(name): Path<String>| async move {
            health::one(&readiness, of, &name).ok_or(ApiError::NoSuchPath)
        })
    };
    let mut router = Router::new();
    for of in Checks::ALL {
        let path = format!("/{}", of.name());
        router = router.route(&path, all(of)).route(&format!("{path}/{{check}}"), one(of));
    }
    let started = Timestamp::now();
    router
        .route("/metrics/slis", get(|State(readiness): State<Readiness>| async move { slis(&readiness) }))
        .with_state(readiness)
        .route("/statusz", get(move || async move { status_page::page(started, Timestamp::now()) }))
        .route("/version", get(|| async { version() }))
        .route(
            "/metrics",
            get(move |headers: HeaderMap| async move {
                compression::compressed(respond::with_type(OPEN_METRICS, metrics_text()), &headers).await
            }),
        )
}

/// Axum answers `HEAD` with a `GET` handler; the API does not.
fn read_only(routes: MethodRouter) -> MethodRouter {
    routes.head(|| async { ApiError::MethodNotAllowed })
}

/// Service level indicators: what became of the checks of health.
fn slis(readiness: &Readiness) -> Response {
    respond::with_type(OPEN_METRICS, readiness.slis())
}

/// `version.Info` of this program.
fn version() -> Response {
    respond::json(
        &json!({
            "major": env!("CARGO_PKG_VERSION_MAJOR"),
            "minor": env!("CARGO_PKG_VERSION_MINOR"),
            "gitVersion": concat!("v", env!("CARGO_PKG_VERSION")),
        }),
        false,
    )
}
