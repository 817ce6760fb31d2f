//! Binding and serving: two steps, so that a taken port or a bad certificate stops the start and not the service.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    CertificateError, CertificateHandle, Handler, ServingOptions, TlsOptionsError,
    certificate::{FilePair, ServingCertificate},
    client_certificate::RequestClientCertificate,
    connection::Connections,
};

/// Pause after a failed accept: out of file descriptors, an immediate retry would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener cannot be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; choose another address or stop what holds it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A restriction of TLS cannot be met.
    #[error("cannot configure TLS: {0}")]
    Options(#[from] TlsOptionsError),
    /// The cryptography provider supports no TLS version.
    #[error("cannot configure TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A bound listener with a usable certificate that does not serve yet.
#[derive(Debug)]
#[must_use = "call `serve` to answer requests"]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    certificate: Arc<ServingCertificate>,
    files: Vec<FilePair>,
    options: ServingOptions,
}

impl Bound {
    /// Loads the certificate and binds the address.
    ///
    /// # Errors
    /// When either fails; the message says which file or address.
    pub async fn bind(options: ServingOptions) -> Result<Self, BindError> {
        let provider = Arc::new(options.tls.provider()?);
        let (source, named) = (options.certificate.clone(), options.named_certificates.clone());
        let (certificate, files) = ServingCertificate::load(source, named, Arc::clone(&provider)).await?;
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(options.tls.versions())?
            .with_client_cert_verifier(Arc::new(RequestClientCertificate(provider)))
            .with_cert_resolver(Arc::clone(&certificate) as _);
        let protocols: &[&[u8]] = if options.disable_http2 { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();

        let listen = |source| BindError::Listen { address: options.address, source };
        let listener = TcpListener::bind(options.address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, tls: Arc::new(tls), certificate, files, options })
    }

    /// The bound address, with the port that was taken for port 0.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// For whoever keeps the certificate itself ([`CertificateSource::Pem`](super::CertificateSource::Pem)).
    pub fn certificate(&self) -> CertificateHandle {
        CertificateHandle(Arc::clone(&self.certificate))
    }

    /// The served certificate chain, own certificate first; a self-signed one is what clients must trust.
    pub fn certificate_chain(&self) -> Vec<CertificateDer<'static>> {
        self.certificate.chain()
    }

    /// Has requests answered by `handler` until `shutdown` is cancelled, then closes the port, tells clients to go elsewhere
    /// (GOAWAY on HTTP/2, `Connection: close` on HTTP/1.1) and returns once requests in flight are answered or the grace
    /// period is over.
    ///
    /// To lose no request, fail readiness first and cancel only when clients had time to notice.
    pub async fn serve(self, handler: impl Handler, shutdown: CancellationToken) {
        let Self { listener, address, tls, certificate, mut files, options } = self;
        let graceful = GracefulShutdown::new();
        // Dropped with this future: whatever still runs then is cut off.
        let mut open = JoinSet::new();
        let connections = Connections {
            acceptor: TlsAcceptor::from(tls),
            handler: Arc::new(handler),
            limits: options.limits,
            metrics: options.metrics,
            shutdown: shutdown.clone(),
        };

        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept(&listener, &connections, &graceful, &mut open) => {}
            () = keep_current(&mut files, &certificate, options.certificate_poll) => {}
        }
        drop(listener);
        tracing::info!(%address, connections = graceful.count(), "no longer accepting connections, draining");
        if timeout(options.grace_period, graceful.shutdown()).await.is_err() {
            tracing::warn!(%address, grace_period = ?options.grace_period, "requests still in flight were cut off");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Connections<impl Handler>,
    graceful: &GracefulShutdown,
    open: &mut JoinSet<()>,
) {
    let permits = Arc::new(Semaphore::new(connections.limits.max_connections));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        // What has ended need not be remembered.
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, address)) => {
                let serve = connections.clone().serve(stream, address, graceful.watcher());
                open.spawn(async move {
                    serve.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Follows changes of the certificate files; never returns.
async fn keep_current(files: &mut [FilePair], certificate: &ServingCertificate, every: Duration) {
    if files.is_empty() {
        return std::future::pending().await;
    }
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for pair in &mut *files {
            match pair.refresh(certificate).await {
                Ok(false) => {}
                Ok(true) => tracing::info!("serving certificate reloaded"),
                Err(error) => tracing::warn!(%error, "serving certificate not reloaded, the old one stays"),
            }
        }
    }
}
