//! Makes an authority and the one certificate it signs.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use thiserror::Error;

use super::Pair;

/// Clocks of other machines may be behind by this much; of a short-lived certificate, by a twelfth of its life.
const BACKDATED: Duration = Duration::from_secs(300);

/// A certificate cannot be made.
#[derive(Debug, Error)]
#[error("cannot make a serving certificate for {names:?}: {source}")]
pub struct IssueError {
    names: Vec<String>,
    #[source]
    source: rcgen::Error,
}

/// A serving pair for `names`, valid from `now` for `validity`, and the authority that vouches for it.
///
/// # Errors
/// When a name cannot be part of a certificate.
pub fn issue(names: &[String], now: Timestamp, validity: Duration) -> Result<Pair, IssueError> {
    make(names, now, validity).map_err(|source| IssueError { names: names.to_vec(), source })
}

fn make(names: &[String], now: Timestamp, validity: Duration) -> Result<Pair, rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    // The time makes the subject unique: verifiers look an issuer up by its name.
    authority.distinguished_name.push(DnType::CommonName, format!("wva serving authority {}", now.as_millisecond()));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut authority, now, validity);
    let authority_certificate = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("wva", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    limit(&mut params, now, validity);
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pair { authority: authority_certificate, certificate, key: key.serialize_pem() })
}

fn limit(params: &mut CertificateParams, now: Timestamp, validity: Duration) {
    let since_epoch = Duration::from_secs(now.as_second().max(0).unsigned_abs());
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(BACKDATED.min(validity / 12));
    params.not_after = epoch + (since_epoch + validity);
}
