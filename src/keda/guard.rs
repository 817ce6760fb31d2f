//! Who may ask: whoever shows a certificate of the configured authority.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use rustls_pki_types::UnixTime;
use tonic::Status;

use crate::{auth::Trust, serving::Peer};

pub(super) async fn guard(State(clients): State<Trust>, request: Request, next: Next) -> Response {
    match judge(&clients, request.extensions().get::<Peer>()) {
        Ok(()) => next.run(request).await,
        Err(reason) => {
            tracing::info!(reason, "KEDA is refused");
            Status::unauthenticated(reason).into_http()
        }
    }
}

fn judge(clients: &Trust, peer: Option<&Peer>) -> Result<(), String> {
    let trust = clients.current();
    let authority = trust.client.as_ref().ok_or("no authority of clients is known: set keda.clientCaPath")?;
    let peer = peer.filter(|peer| !peer.certificates.is_empty()).ok_or("a client certificate is required")?;
    authority.verify(&peer.certificates, UnixTime::now()).map_err(|error| error.to_string())?;
    peer.conduct.granted();
    Ok(())
}
