//! One connection: handshake, choice of protocol, requests.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{ConnectionLimits, Handler, Peer};

/// What all connections of a listener share.
pub(super) struct Connections<H> {
    pub(super) acceptor: TlsAcceptor,
    pub(super) handler: Arc<H>,
    pub(super) limits: ConnectionLimits,
    /// Graceful: ends handshakes; requests are left to the [`Watcher`].
    pub(super) shutdown: CancellationToken,
}

impl<H> Clone for Connections<H> {
    fn clone(&self) -> Self {
        let Self { acceptor, handler, limits, shutdown } = self;
        Self { acceptor: acceptor.clone(), handler: Arc::clone(handler), limits: *limits, shutdown: shutdown.clone() }
    }
}

impl<H: Handler> Connections<H> {
    /// Serves one connection to its end.
    pub(super) async fn serve(self, stream: TcpStream, address: SocketAddr, watcher: Watcher) {
        let Some(stream) = self.handshake(stream, address).await else { return };
        let (_, session) = stream.get_ref();
        let peer = Peer::new(address, session.peer_certificates().unwrap_or_default().iter().cloned().collect());
        let http2 = session.alpn_protocol() == Some(b"h2");

        let has_certificate = !peer.certificates.is_empty();
        let conduct = peer.conduct.clone();
        let stays_strange = conduct.stays_strange(self.limits.grant_timeout);
        let answers = Arc::new((self.handler, peer));
        let service = service_fn(move |request: Request<Incoming>| {
            let answers = Arc::clone(&answers);
            async move {
                let (handler, peer) = &*answers;
                Ok::<_, Infallible>(handler.handle(peer, request).await)
            }
        });
        let protocol = protocol(&self.limits, http2, has_certificate);
        let connection = protocol.serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::select! {
            () = stays_strange => tracing::debug!(%address, "nothing was granted in time"),
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

/// The protocol is fixed by ALPN, not sniffed: a client that sends nothing then runs into the header timeout.
fn protocol(limits: &ConnectionLimits, http2: bool, has_certificate: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.max_header_bytes as usize);
    let streams =
        if has_certificate { limits.max_concurrent_streams } else { limits.max_concurrent_streams_without_certificate };
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(limits.max_header_bytes)
        .initial_stream_window_size(limits.max_body_window)
        .initial_connection_window_size(limits.max_body_window)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout);
    if http2 { builder.http2_only() } else { builder.http1_only() }
}
