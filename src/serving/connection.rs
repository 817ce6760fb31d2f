//! One connection: handshake, choice of protocol, requests.

use std::{
    any::Any,
    convert::Infallible,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use axum::body::Body;
use futures::{
    FutureExt as _,
    future::{Either, ready},
};
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::Watcher,
};
use tokio::{io::AsyncBufReadExt as _, net::TcpStream, task::coop, time::timeout};
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
        let peer = Peer { address, certificates, conduct };
        let has_certificate = !peer.certificates.is_empty();
        let conversation =
            Arc::new(Conversation { handler: Arc::clone(&self.handler), peer, memory: H::Memory::default() });
        let service = service_fn(move |request: Request<Incoming>| {
            if has_time_left()
                && let Some(answer) = conversation.at_once(&request)
            {
                return Either::Left(ready(Ok::<_, Infallible>(answer)));
            }
            Either::Right(Box::pin(Arc::clone(&conversation).answer(request).map(Ok)))
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

/// The requests of one connection and what answers them. A panic costs one request its answer, and not the others theirs.
struct Conversation<H: Handler> {
    handler: Arc<H>,
    peer: Peer,
    memory: H::Memory,
}

impl<H: Handler> Conversation<H> {
    fn at_once(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let answer = || self.handler.at_once(&self.peer, &self.memory, request);
        catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|panic| Some(panicked(&self.peer, &*panic)))
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let answer = AssertUnwindSafe(self.handler.handle(&self.peer, &self.memory, request));
        answer.catch_unwind().await.unwrap_or_else(|panic| panicked(&self.peer, &*panic))
    }
}

fn panicked(peer: &Peer, panic: &(dyn Any + Send)) -> Response<Body> {
    tracing::error!(address = %peer.address, message = panic_message(panic), "a request handler panicked");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

/// Whether the task that reads the requests of a connection may answer one more itself, by tokio's account of what a task does
/// before others have their turn. HTTP/2 hands over hundreds at a time; the others are then answered in tasks of their own.
fn has_time_left() -> bool {
    coop::cooperative(ready(())).now_or_never().is_some()
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

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn what_is_answered_at_once_is_bounded_until_others_had_their_turn() {
        const AT_A_TIME: usize = 250;
        for _ in 0..3 {
            let answered = (0..AT_A_TIME).take_while(|_| has_time_left()).count();
            assert!((1..AT_A_TIME).contains(&answered), "{answered}");
            assert!(!has_time_left());
            yield_now().await;
        }
    }
}
