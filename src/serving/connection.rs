//! One connection: handshake, choice of protocol, requests.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc};

use futures::{
    FutureExt as _,
    future::{Either, Ready, ready},
};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::Watcher,
};
use tokio::{io::AsyncBufReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Conduct, ConnectionLimits, Handler, Peer, ServingMetrics};

/// Boxed, because it is large and passed on.
type Tls = Box<TlsStream<TcpStream>>;

/// What all connections of a listener share.
pub(super) struct Connections<H> {
    pub(super) acceptor: TlsAcceptor,
    pub(super) handler: Arc<H>,
    pub(super) limits: ConnectionLimits,
    pub(super) metrics: ServingMetrics,
    /// Graceful: ends handshakes; requests are left to the [`Watcher`].
    pub(super) shutdown: CancellationToken,
}

impl<H> Clone for Connections<H> {
    fn clone(&self) -> Self {
        let Self { acceptor, handler, limits, metrics, shutdown } = self;
        Self {
            acceptor: acceptor.clone(),
            handler: Arc::clone(handler),
            limits: *limits,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        }
    }
}

impl<H: Handler> Connections<H> {
    /// Serves one connection to its end. Each step is boxed and begins when the client has sent something: one who stops
    /// before it holds no memory for it.
    pub(super) async fn serve(self, stream: TcpStream, address: SocketAddr, watcher: Watcher) {
        let Some(mut stream) = self.handshake(stream, address).await else { return };
        let conduct = Conduct::default();
        let stays_strange = conduct.stays_strange(self.limits.grant_timeout);
        let exchange = async {
            if self.is_spoken_to(&mut stream, address).await {
                self.converse(stream, address, conduct.clone(), watcher).await;
            }
        };
        tokio::select! {
            () = stays_strange => tracing::debug!(%address, "nothing was granted in time"),
            () = exchange => {}
        }
    }

    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> Option<Tls> {
        // Small answers must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "cannot set TCP_NODELAY");
        }
        let handshake = async {
            stream.peek(&mut [0]).await?;
            Box::pin(self.acceptor.accept(stream)).await.map(Box::new)
        };
        let result = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            result = timeout(self.limits.handshake_timeout, handshake) => result,
        };
        let error = match result {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        self.metrics.handshake_failed();
        tracing::debug!(%address, error, "TLS handshake failed");
        None
    }

    /// Waits for the first bytes of the first request.
    async fn is_spoken_to(&self, stream: &mut Tls, address: SocketAddr) -> bool {
        let first = tokio::select! {
            () = self.shutdown.cancelled() => return false,
            first = timeout(self.limits.header_read_timeout, stream.fill_buf()) => first,
        };
        let spoken_to = matches!(first, Ok(Ok([_, ..])));
        if !spoken_to {
            tracing::debug!(%address, "connection ended before anything was asked");
        }
        spoken_to
    }

    /// Answers requests until the connection ends.
    async fn converse(&self, stream: Tls, address: SocketAddr, conduct: Conduct, watcher: Watcher) {
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().unwrap_or_default().iter().cloned().collect();
        // Fixed by ALPN, not sniffed.
        let http2 = session.alpn_protocol() == Some(b"h2");
        let answers = Arc::new((Arc::clone(&self.handler), Peer { address, certificates, conduct }));
        let has_certificate = !answers.1.certificates.is_empty();
        let service = service_fn(move |request: Request<Incoming>| {
            let answers = Arc::clone(&answers);
            let answer = async move {
                let (handler, peer) = &*answers;
                Ok::<_, Infallible>(handler.handle(peer, request).await)
            };
            at_once(Box::pin(answer))
        });
        let stream = TokioIo::new(stream);
        let ended = if http2 {
            let connection = http2_options(&self.limits, has_certificate).serve_connection(stream, service);
            Box::pin(watcher.watch(connection)).await
        } else {
            let connection = http1_options(&self.limits).serve_connection(stream, service);
            Box::pin(watcher.watch(connection)).await
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "connection ended");
        }
    }
}

/// `future`, or what it came to: most answers need not wait, and hyper then moves no more than the answer about.
fn at_once<F: Future>(mut future: Pin<Box<F>>) -> Either<Ready<F::Output>, Pin<Box<F>>> {
    match future.as_mut().now_or_never() {
        Some(output) => Either::Left(ready(output)),
        None => Either::Right(future),
    }
}

fn http1_options(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.max_header_bytes as usize);
    builder
}

fn http2_options(limits: &ConnectionLimits, has_certificate: bool) -> http2::Builder<TokioExecutor> {
    let streams =
        if has_certificate { limits.max_concurrent_streams } else { limits.max_concurrent_streams_without_certificate };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(limits.max_header_bytes)
        .initial_stream_window_size(limits.max_body_window)
        .initial_connection_window_size(limits.max_body_window)
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout);
    builder
}
