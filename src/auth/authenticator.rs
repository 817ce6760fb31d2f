//! Who is asking: the authenticators, in the order of `k8s.io/apiserver`.

use std::fmt;

use http::HeaderMap;
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{CertificateRejected, FrontProxyRejected, Identity, TokenAuthenticator, TokenRejected, Trust, TrustBundle};
use crate::serving::Peer;

/// Finds out who a request is from.
#[derive(Clone, Debug)]
pub struct Authenticator {
    trust: Trust,
    tokens: TokenAuthenticator,
}

/// Credentials were presented, and none of them is valid. One line per credential, for the log: the caller learns only
/// `Unauthorized`.
#[derive(Clone, Debug, Error, PartialEq)]
pub struct Unauthenticated(pub Vec<Rejection>);

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&reasons.join("; "))
    }
}

/// Why one credential is not valid.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Rejection {
    /// As a front proxy.
    #[error(transparent)]
    FrontProxy(#[from] FrontProxyRejected),
    /// As a user's certificate.
    #[error(transparent)]
    ClientCertificate(#[from] CertificateRejected),
    /// As a bearer token.
    #[error(transparent)]
    Token(#[from] TokenRejected),
}

impl Authenticator {
    /// Checks certificates against `trust` and bearer tokens with `tokens`.
    pub fn new(trust: Trust, tokens: TokenAuthenticator) -> Self {
        Self { trust, tokens }
    }

    /// Who a request with `headers` from `peer` (`None`: not over TLS) is from. The first valid credential counts, even
    /// after invalid ones; a request without any is anonymous.
    ///
    /// # Errors
    /// When it has credentials, but none that is valid.
    pub async fn authenticate(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Identity, Unauthenticated> {
        let mut rejections = Vec::new();
        let found = self.by_certificate(peer, headers, &mut rejections);
        let found = match found {
            Some(identity) => Some(identity),
            None => keep(self.tokens.identify(headers).await, &mut rejections),
        };
        match found {
            Some(identity) => Ok(identity.authenticated()),
            None if rejections.is_empty() => Ok(Identity::anonymous()),
            None => Err(Unauthenticated(rejections)),
        }
    }

    fn by_certificate(
        &self,
        peer: Option<&Peer>,
        headers: &HeaderMap,
        rejections: &mut Vec<Rejection>,
    ) -> Option<Identity> {
        let peer = peer.filter(|peer| !peer.certificates.is_empty())?;
        let trust = self.trust.current();
        let now = UnixTime::now();
        if let Some(front_proxy) = &trust.front_proxy
            && let Some(identity) = keep(front_proxy.identify(peer, headers, now), rejections)
        {
            return Some(identity);
        }
        keep(user_of(&trust, peer, now), rejections)
    }
}

/// The user a certificate of the cluster's own authority names: common name and organisations.
fn user_of(trust: &TrustBundle, peer: &Peer, now: UnixTime) -> Result<Option<Identity>, CertificateRejected> {
    let Some(authority) = &trust.client else { return Ok(None) };
    let subject = authority.verify(&peer.certificates, now)?;
    let named = !subject.common_name.is_empty();
    Ok(named.then(|| Identity::new(&subject.common_name, &subject.organizations)))
}

fn keep<E: Into<Rejection>>(attempt: Result<Option<Identity>, E>, rejections: &mut Vec<Rejection>) -> Option<Identity> {
    attempt.unwrap_or_else(|error| {
        rejections.push(error.into());
        None
    })
}
