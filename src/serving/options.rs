//! What a listener needs to know.

use std::{net::SocketAddr, time::Duration};

use super::{CertificateOfNames, CertificateSource, ServingMetrics, TlsOptions};

/// Settings of a listener.
#[derive(Clone, Debug)]
pub struct ServingOptions {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where the serving certificate comes from.
    pub certificate: CertificateSource,
    /// Certificates for clients that ask for certain names.
    pub named_certificates: Vec<CertificateOfNames>,
    /// How TLS is restricted.
    pub tls: TlsOptions,
    /// Whether HTTP/2 is off.
    pub disable_http2: bool,
    /// How often certificate files are compared with what is served.
    pub certificate_poll: Duration,
    /// How long requests in flight may take to finish once shutdown began.
    pub grace_period: Duration,
    /// What clients may hold.
    pub limits: ConnectionLimits,
    /// Counts what becomes of connections.
    pub metrics: ServingMetrics,
}

impl ServingOptions {
    /// Listens on `address` with `certificate`, all else at its default.
    pub fn new(address: SocketAddr, certificate: CertificateSource) -> Self {
        Self {
            address,
            certificate,
            named_certificates: Vec::new(),
            tls: TlsOptions::default(),
            disable_http2: false,
            certificate_poll: Duration::from_secs(10),
            grace_period: Duration::from_secs(30),
            limits: ConnectionLimits::default(),
            metrics: ServingMetrics::default(),
        }
    }
}

/// Bounds on connections, so that no client can exhaust the process.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections open at a time; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Requests under way at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// The same, for a client that showed no certificate: kube-apiserver, which needs many, does.
    pub max_concurrent_streams_without_certificate: u32,
    /// Bytes of one request's headers.
    pub max_header_bytes: u32,
    /// Bytes of bodies that may be under way on a connection; the API reads none.
    pub max_body_window: u32,
    /// Time to finish the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time to send the head of an HTTP/1.1 request; also how long such a connection may idle.
    pub header_read_timeout: Duration,
    /// Time within which a request must be granted. A client without a right to anything is cut off then, so that
    /// strangers cannot hold all connections.
    pub grant_timeout: Duration,
    /// Pause after which an idle HTTP/2 connection is pinged.
    pub keep_alive_interval: Duration,
    /// Time to answer that ping.
    pub keep_alive_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            // kube-apiserver multiplexes a whole cluster's reads over one connection; Go's default is 250.
            max_concurrent_streams: 250,
            max_concurrent_streams_without_certificate: 16,
            max_header_bytes: 64 * 1024,
            max_body_window: 64 * 1024,
            handshake_timeout: Duration::from_secs(10),
            header_read_timeout: Duration::from_secs(30),
            grant_timeout: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
        }
    }
}

/// Names the certificate of Service `wva` in `namespace` must carry: kube-apiserver verifies `wva.<namespace>.svc`.
pub fn default_certificate_names(namespace: &str) -> Vec<String> {
    vec![
        "wva".to_owned(),
        format!("wva.{namespace}.svc"),
        format!("wva.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
    ]
}
