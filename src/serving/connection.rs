//! One connection: handshake, choice of protocol, requests.

use std::{convert::Infallible, future::Future, net::SocketAddr};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{ConnectionLimits, Peer};

/// What all connections of a listener share.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) acceptor: TlsAcceptor,
    pub(super) router: Router,
    pub(super) limits: ConnectionLimits,
    /// Graceful: ends handshakes; requests are left to the [`Watcher`].
    pub(super) shutdown: CancellationToken,
    /// Not graceful: ends everything.
    pub(super) abandon: CancellationToken,
}

impl Connections {
    /// Serves one connection to its end.
    pub(super) async fn serve(self, stream: TcpStream, address: SocketAddr, watcher: Watcher) {
        let Some(stream) = self.handshake(stream, address).await else { return };
        let (_, session) = stream.get_ref();
        let peer = Peer { address, certificates: session.peer_certificates().unwrap_or_default().into() };
        let http2 = session.alpn_protocol() == Some(b"h2");

        let router = self.router;
        let service = service_fn(move |request| answer(router.clone(), peer.clone(), request));
        let connection = protocol(&self.limits, http2).serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::select! {
            () = self.abandon.cancelled() => {}
            result = watcher.watch(connection) => if let Err(error) = result {
                tracing::debug!(%address, %error, "connection ended");
            },
        }
    }

    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
        // Small answers must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "cannot set TCP_NODELAY");
        }
        let result = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            result = timeout(self.limits.handshake_timeout, self.acceptor.accept(stream)) => result,
        };
        match result {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(%address, "TLS handshake timed out");
                None
            }
        }
    }
}

fn answer(
    router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    request.extensions_mut().insert(peer);
    router.oneshot(request.map(Body::new))
}

/// Longest head of an HTTP/1.1 request, in bytes; hyper's own limit is six times that.
const LONGEST_HEAD: usize = 64 * 1024;

/// The protocol is fixed by ALPN, not sniffed: a client that sends nothing then runs into the header timeout.
fn protocol(limits: &ConnectionLimits, http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_read_timeout).max_buf_size(LONGEST_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout);
    if http2 { builder.http2_only() } else { builder.http1_only() }
}
