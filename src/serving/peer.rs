//! Who is at the other end of a connection.

use std::{
    hash::{BuildHasher as _, Hash, Hasher, RandomState},
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use rustls_pki_types::CertificateDer;

use super::Conduct;

/// The other end of a connection, told with each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Certificates it sent, its own first; empty when it sent none. The handshake proved that it holds the key of the
    /// first; nothing vouches for them beyond that.
    pub certificates: Certificates,
    /// How its requests fared.
    pub conduct: Conduct,
}

impl Peer {
    /// A connection from `address` on which nothing was asked yet.
    pub fn new(address: SocketAddr, certificates: Certificates) -> Self {
        Self { address, certificates, conduct: Conduct::default() }
    }
}

/// Certificates of a client. Clones share them, and they are hashed once: each request of a connection looks up what was
/// found out about the same ones.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Hashed>);

#[derive(Debug)]
struct Hashed {
    chain: Vec<CertificateDer<'static>>,
    hash: u64,
}

impl Deref for Certificates {
    type Target = [CertificateDer<'static>];

    fn deref(&self) -> &Self::Target {
        &self.0.chain
    }
}

impl FromIterator<CertificateDer<'static>> for Certificates {
    fn from_iter<I: IntoIterator<Item = CertificateDer<'static>>>(chain: I) -> Self {
        /// One for all of them, so that equal ones have equal hashes; nobody outside can foresee them.
        static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let chain: Vec<_> = chain.into_iter().collect();
        let hash = HASHES.hash_one(&chain);
        Self(Arc::new(Hashed { chain, hash }))
    }
}

impl PartialEq for Certificates {
    /// By content: the hash only tells where to look.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.chain == other.0.chain
    }
}

impl Eq for Certificates {}

impl Hash for Certificates {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_the_same_by_content_and_hash_alike() {
        let certificates = |bytes: &[&[u8]]| -> Certificates {
            bytes.iter().map(|bytes| CertificateDer::from(bytes.to_vec())).collect()
        };
        let (one, same, other) = (certificates(&[b"a", b"b"]), certificates(&[b"a", b"b"]), certificates(&[b"ab"]));
        let hashes = RandomState::new();
        assert_eq!((&one, hashes.hash_one(&one)), (&same, hashes.hash_one(&same)));
        assert_ne!(one, other);
        assert_eq!(one.len(), 2);
    }
}
