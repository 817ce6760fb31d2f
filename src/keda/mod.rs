//! An external scaler for KEDA, for clusters where KEDA owns the external metrics API: `ScaledObject`s of type `external`
//! or `external-push` read desired replicas over gRPC.
//!
//! ```text
//!  KEDA ─► mutual TLS ─► guard ─► scaler ─► MetricsProvider (memory)
//! ```
//!
//! What is not known is an error, never "inactive" and never 0: KEDA would scale to zero.

mod guard;
mod scaler;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};

pub use self::scaler::Scaler;
use crate::{apiserver::MetricsProvider, auth::Trust};

/// The protocol, generated from `proto/externalscaler.proto`.
#[expect(missing_docs, clippy::pedantic, reason = "generated from KEDA's protocol, which documents it")]
pub mod protocol {
    tonic::include_proto!("externalscaler");
}

/// The service that answers KEDA. Requests must carry a [`crate::serving::Peer`] extension; only those of a peer whose
/// certificate is one of `clients` are answered.
pub fn router(provider: Arc<dyn MetricsProvider>, clients: Trust) -> Router {
    let service = protocol::external_scaler_server::ExternalScalerServer::new(Scaler::new(provider));
    Router::new()
        .route_service("/externalscaler.ExternalScaler/{method}", service)
        .layer(from_fn_with_state(clients, guard::guard))
}
