//! The fleet over plain HTTP on loopback: every replica's `/metrics` on an address of its own, and a control API.
//!
//! | control API | |
//! |---|---|
//! | `GET /state` | the whole fleet as JSON: requests, SLO attainment, cost, replicas |
//! | `POST /load` | a load plan (YAML or JSON) that takes effect now |
//! | `GET /gateways/{namespace}/metrics` | the gateway's metrics under the endpoint picker's names |

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    exposition,
    live::{FleetReport, LiveFleet},
    plan::LoadPlan,
    replica::ReplicaId,
};
use crate::interfaces::ModelKey;

/// What one replica answers, as vLLM does: `/metrics` and `/health`.
pub fn replica_routes(fleet: Arc<LiveFleet>, key: ModelKey, id: ReplicaId) -> Router {
    let metrics = move || async move {
        match fleet.scrape(&key, id) {
            Some(scrape) => text(scrape.render()),
            None => (StatusCode::NOT_FOUND, format!("replica {id} of {key} is gone\n")).into_response(),
        }
    };
    Router::new().route("/metrics", get(metrics)).route("/health", get(|| async { StatusCode::OK }))
}

/// The control API.
pub fn control_routes(fleet: Arc<LiveFleet>) -> Router {
    Router::new()
        .route("/state", get(state))
        .route("/load", post(load))
        .route("/gateways/{namespace}/metrics", get(gateway_metrics))
        .with_state(fleet)
}

/// How long a slow client may keep a listener after its shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// Answers on `listener` until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: CancellationToken) -> io::Result<()> {
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned()) => served,
        () = patience => Ok(()),
    }
}

async fn state(State(fleet): State<Arc<LiveFleet>>) -> Json<FleetReport> {
    Json(fleet.report())
}

async fn load(State(fleet): State<Arc<LiveFleet>>, body: String) -> Response {
    // A trace may be long: it is read off the runtime's threads, and before the fleet is locked.
    let prepared = spawn_blocking(move || LoadPlan::parse(&body)?.prepare()).await;
    match prepared {
        Ok(Ok(plan)) => {
            fleet.with(|fleet| plan.apply(fleet));
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn gateway_metrics(State(fleet): State<Arc<LiveFleet>>, Path(namespace): Path<String>) -> Response {
    text(fleet.scrape_gateway(&namespace).render())
}

fn text(rendered: Result<String, fmt::Error>) -> Response {
    match rendered {
        Ok(text) => ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
