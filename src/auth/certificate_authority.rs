//! One bundle of certificate authorities, and whom a client certificate under it names.

use std::{fmt, sync::Arc, time::Duration};

use ahash::RandomState;
use moka::sync::Cache;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use thiserror::Error;
use tokio::time::Instant;

use crate::serving::Certificates;

/// How long an accepted chain is not verified again, unless a certificate of it expires before.
const ACCEPTED_FOR: Duration = Duration::from_mins(1);
/// Accepted chains remembered; a cluster has a handful of front proxies.
const ACCEPTED_CHAINS: u64 = 256;

/// Whom a verified certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// First common name; empty when there is none.
    pub common_name: String,
    /// Organisations.
    pub organizations: Vec<String>,
    /// When the certificate expires.
    pub not_after: UnixTime,
    /// Until when the chain need not be verified again.
    pub accepted_until: Instant,
}

impl Subject {
    /// Time left of the certificate at `now`.
    pub(super) fn remaining(&self, now: UnixTime) -> Duration {
        Duration::from_secs(self.not_after.as_secs().saturating_sub(now.as_secs()))
    }
}

/// Why a client certificate is not accepted.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CertificateRejected {
    /// It does not verify.
    #[error("client certificate is not valid under the trusted authorities: {0}")]
    Invalid(rustls::Error),
    /// Its subject cannot be read.
    #[error("subject of the client certificate cannot be read: {0}")]
    Subject(String),
}

/// Certificate authorities that are trusted together.
#[derive(Clone)]
pub struct CertificateAuthority {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Chains accepted lately. Lives and dies with the bundle, so a rotation forgets them; refusals are not kept, so
    /// that nobody without a certificate can fill it.
    accepted: Cache<Certificates, Arc<Subject>, RandomState>,
}

impl CertificateAuthority {
    /// The authorities in `pem`.
    ///
    /// # Errors
    /// When a block cannot be decoded or none of them is a certificate that can be trusted, as a clause.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("cannot be decoded as PEM: {error}"))?;
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(certificates);
        if ignored > 0 {
            tracing::warn!(ignored, "certificates in a bundle of authorities cannot be used and are left out");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("holds no usable certificate: {error}"))?;
        let accepted = Cache::builder().max_capacity(ACCEPTED_CHAINS).time_to_live(ACCEPTED_FOR);
        let accepted = accepted.build_with_hasher(RandomState::new());
        Ok(Self { verifier, accepted })
    }

    /// Whom `chain` (the client's own certificate first) names, if it is valid at `now` for client authentication.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, chain: &Certificates, now: UnixTime) -> Result<Arc<Subject>, CertificateRejected> {
        if let Some(subject) = self.accepted.get(chain)
            && Instant::now() < subject.accepted_until
            && now <= subject.not_after
        {
            return Ok(subject);
        }
        let [leaf, intermediates @ ..] = &**chain else {
            return Err(CertificateRejected::Invalid(rustls::Error::NoCertificatesPresented));
        };
        self.verifier.verify_client_cert(leaf, intermediates, now).map_err(CertificateRejected::Invalid)?;
        let (common_name, organizations, not_after) = named(leaf)?;
        let accepted_until = Instant::now() + ACCEPTED_FOR.min(time_left(chain, now));
        let subject = Arc::new(Subject { common_name, organizations, not_after, accepted_until });
        self.accepted.insert(chain.clone(), Arc::clone(&subject));
        Ok(subject)
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

/// Time until the first of those certificates of `chain` expires that have not yet: one that has was not needed.
fn time_left(chain: &[CertificateDer<'_>], now: UnixTime) -> Duration {
    let expirations = chain.iter().filter_map(|certificate| {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(expiration(&certificate))
    });
    let first = expirations.filter(|not_after| *not_after >= now).min();
    first.map_or(Duration::ZERO, |not_after| Duration::from_secs(not_after.as_secs() - now.as_secs()))
}

/// Common name, organisations and expiration of a certificate.
fn named(leaf: &CertificateDer<'_>) -> Result<(String, Vec<String>, UnixTime), CertificateRejected> {
    let unreadable = |reason: String| CertificateRejected::Subject(reason);
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|error| unreadable(error.to_string()))?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().map(str::to_owned).map_err(|error| unreadable(error.to_string()))
    };
    let common_name = certificate.subject().iter_common_name().next().map(text).transpose()?.unwrap_or_default();
    let organizations = certificate.subject().iter_organization().map(text).collect::<Result<_, _>>()?;
    Ok((common_name, organizations, expiration(&certificate)))
}

fn expiration(certificate: &x509_parser::certificate::X509Certificate<'_>) -> UnixTime {
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(not_after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_authority::Authority;

    fn in_seconds(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn an_accepted_chain_is_not_taken_after_it_expired() {
        let authority = Authority::new("ca");
        let trusted = CertificateAuthority::from_pem(&authority.pem).unwrap();
        let chain: Certificates = [authority.expiring("bob", Duration::from_secs(40))].into_iter().collect();
        let now = UnixTime::now();
        let subject = trusted.verify(&chain, now).unwrap();
        let accepted_for = subject.accepted_until - Instant::now();
        assert!(accepted_for <= Duration::from_secs(40), "{accepted_for:?}");
        assert!(Arc::ptr_eq(&trusted.verify(&chain, now).unwrap(), &subject), "it is remembered");
        let late = trusted.verify(&chain, in_seconds(42)).unwrap_err();
        assert!(matches!(late, CertificateRejected::Invalid(_)), "{late}");
        tokio::time::advance(Duration::from_secs(41)).await;
        assert!(!Arc::ptr_eq(&trusted.verify(&chain, now).unwrap(), &subject), "it is verified again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_chain_is_verified_again_when_an_intermediate_expires_and_after_a_minute_at_the_latest() {
        let root = Authority::new("ca");
        let trusted = CertificateAuthority::from_pem(&root.pem).unwrap();
        for (time_left, longest) in [(20, 20), (7200, 60)] {
            let (intermediate, certificate) = root.intermediate("between", Duration::from_secs(time_left));
            let chain: Certificates = [intermediate.client("bob", None), certificate].into_iter().collect();
            let subject = trusted.verify(&chain, UnixTime::now()).unwrap();
            let accepted_for = (subject.accepted_until - Instant::now()).as_secs();
            assert!((longest - 2..=longest).contains(&accepted_for), "{accepted_for} of {longest}");
        }
    }
}
