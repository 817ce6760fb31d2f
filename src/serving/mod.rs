//! Sockets: a TLS listener that asks clients for a certificate, reloads its own, bounds what a client may hold, and
//! stops without losing a request.
//!
//! ```text
//!  Bound::bind ──► Bound::serve ──► accept ──► handshake ──► h2 or http/1.1 ──► Handler
//!   port and         until the       │ (Peer: address and client certificates, told with every request)
//!   certificate      token is        │
//!   errors           cancelled       └─► GOAWAY, drain within the grace period
//! ```
//!
//! A client certificate is *requested but not judged* here: as in `k8s.io/apiserver`, authority is decided per request
//! ([`crate::auth`]), because one connection may carry a bearer token under a foreign certificate and because trusted
//! authorities change while kube-apiserver holds its connection for days.

mod certificate;
mod client_certificate;
mod conduct;
mod connection;
mod handler;
mod metrics;
mod named_certificate;
mod options;
mod peer;
mod server;
mod tls;

pub use certificate::{CertificateError, CertificateHandle, CertificateSource};
pub use conduct::{Conduct, Turn};
pub use connection::panic_message;
pub use handler::Handler;
pub use metrics::ServingMetrics;
pub use named_certificate::CertificateOfNames;
pub use options::{ConnectionLimits, ServingOptions, default_certificate_names};
pub use peer::{Certificates, Peer};
pub use server::{BindError, Bound};
pub use tls::{TlsOptions, TlsOptionsError};
