//! The Kubernetes metrics API: discovery, values, `metav1.Status` errors.
//!
//! It knows nothing of engines: values come through [`MetricsProvider`], from memory. [`router`] puts it together:
//!
//! ```text
//!  request ─► label (audit id) ─► panics, time limit ─► guard (who, may they) ─┬─► discovery   constant
//!                                                                              ├─► read        provider ─► values ─► JSON
//!                                                                              └─► health, version, metrics, extra routes
//! ```
//!
//! Errors are [`status::ApiError`] everywhere; only `status` knows their HTTP codes.

mod accept;
mod discovery;
mod health;
mod list_options;
mod middleware;
mod openapi;
mod provider;
mod quantity;
mod read;
mod request;
mod respond;
mod selector;
mod status;
mod suggestion;
mod values;
mod wire;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    middleware::{from_fn, from_fn_with_state},
    response::Response,
    routing::{MethodRouter, any, get},
};
use http::{HeaderMap, Uri};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use self::{
    discovery::{DiscoveryPath, discovery},
    list_options::has_parameter,
    middleware::Access,
    status::ApiError,
};
pub use self::{
    health::{Readiness, ReadinessCheck},
    provider::{MetricsProvider, Refusal, Sample, Series, UnknownMetric},
};
use crate::auth::{Authenticator, Authorizer};

/// Group and version of the served items.
const API_VERSION: &str = "external.metrics.k8s.io/v1beta1";
/// Kind of an item. Discovery names it too: kubectl's output formats look for the items' kind there.
const ITEM_KIND: &str = "ExternalMetricValue";
/// Kind of a list of items.
const LIST_KIND: &str = "ExternalMetricValueList";
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
    /// Finds out who asks.
    pub authenticator: Authenticator,
    /// Decides whether they may.
    pub authorizer: Authorizer,
    /// Shown by `/readyz`.
    pub readiness: Readiness,
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

/// The service that answers requests. They should carry a [`crate::serving::Peer`] extension; without it, client
/// certificates are unknown and only bearer tokens authenticate.
pub fn router(server: ApiServer) -> Router {
    let ApiServer { provider, authenticator, authorizer, readiness, metrics_text, extra_routes } = server;
    let access = Access { authenticator, authorizer };
    discovery_routes()
        .merge(
            Router::new().route("/apis/external.metrics.k8s.io/v1beta1/{*rest}", any(read::read)).with_state(provider),
        )
        .merge(process_routes(readiness, metrics_text))
        .merge(openapi::routes())
        .merge(extra_routes)
        .fallback(|| async { ApiError::NoSuchPath })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(access, middleware::guard))
        .layer(from_fn(middleware::limit_time))
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(middleware::label))
}

/// Each path with and without a trailing slash: a redirect would reach the client as `502` from kube-apiserver.
fn discovery_routes() -> Router {
    let at = |path| read_only(get(move |headers: HeaderMap| async move { discovery(path, &headers) }));
    Router::new()
        .route("/apis", at(DiscoveryPath::Groups))
        .route("/apis/", at(DiscoveryPath::Groups))
        .route("/apis/external.metrics.k8s.io", at(DiscoveryPath::Group))
        .route("/apis/external.metrics.k8s.io/", at(DiscoveryPath::Group))
        .route("/apis/external.metrics.k8s.io/v1beta1", at(DiscoveryPath::Version))
        .route("/apis/external.metrics.k8s.io/v1beta1/", at(DiscoveryPath::Version))
}

fn process_routes(readiness: Readiness, metrics_text: MetricsText) -> Router {
    let ready = |State(readiness): State<Readiness>, uri: Uri| async move {
        health::ready(&readiness, has_parameter(&uri, "verbose"))
    };
    Router::new()
        .route("/readyz", get(ready))
        .with_state(readiness)
        .route("/livez", get(|| async { health::live() }))
        .route("/healthz", get(|| async { health::live() }))
        .route("/version", get(|| async { version() }))
        .route("/metrics", get(|| async move { respond::with_type(OPEN_METRICS, metrics_text()) }))
}

/// Axum answers `HEAD` with a `GET` handler; the API does not.
fn read_only(routes: MethodRouter) -> MethodRouter {
    routes.head(|| async { ApiError::MethodNotAllowed })
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
