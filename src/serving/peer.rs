//! Who is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

use rustls_pki_types::CertificateDer;

/// The other end of a connection; put into the extensions of each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Certificates it sent, its own first; empty when it sent none. The handshake proved that it holds the key of the
    /// first; nothing vouches for them beyond that.
    pub certificates: Arc<[CertificateDer<'static>]>,
}
