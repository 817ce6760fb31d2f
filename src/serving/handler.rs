//! What answers requests.

use std::{convert::Infallible, future::Future};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::Peer;

/// Answers requests. Beside a `tower::Service` it needs no clone and no box for a request.
pub trait Handler: Send + Sync + 'static {
    /// What is kept of a connection from one request to the next.
    type Memory: Default + Send + Sync + 'static;

    /// The answer to `request` of `peer`, where it is at hand: it is given where the requests of a connection are read, and
    /// what takes longer would hold up the others.
    fn at_once(&self, peer: &Peer, memory: &Self::Memory, request: &Request<Incoming>) -> Option<Response<Body>> {
        let _ = (peer, memory, request);
        None
    }

    /// The answer to `request` of `peer`.
    fn handle(
        &self,
        peer: &Peer,
        memory: &Self::Memory,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Its requests carry the [`Peer`] as an extension.
impl Handler for Router {
    type Memory = ();

    async fn handle(&self, peer: &Peer, (): &(), mut request: Request<Incoming>) -> Response<Body> {
        request.extensions_mut().insert(peer.clone());
        let answer: Result<_, Infallible> = self.clone().oneshot(request.map(Body::new)).await;
        match answer {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
