//! Certificates for clients that ask for a certain name (SNI), beside the one for all others.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;

use super::CertificateError;

/// Files of a certificate for certain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOfNames {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// DNS names; `*.example.com` is for those one level below. Empty: those in the certificate at the start.
    pub names: Vec<String>,
}

/// What such files hold.
pub(super) struct NamedCertificate {
    /// In lower case.
    names: Vec<String>,
    pub(super) current: Arc<ArcSwap<CertifiedKey>>,
}

impl NamedCertificate {
    /// # Errors
    /// When there is no name.
    pub(super) fn new(given: Vec<String>, key: CertifiedKey, path: PathBuf) -> Result<Self, CertificateError> {
        let names = if given.is_empty() { names_in(&key) } else { given };
        if names.is_empty() {
            return Err(CertificateError::Nameless { path });
        }
        let names = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        Ok(Self { names, current: Arc::new(ArcSwap::from_pointee(key)) })
    }

    /// The certificate of `name`: one that is for exactly that, else one for all beside it.
    pub(super) fn of<'a>(all: &'a [Self], name: &str) -> Option<&'a Arc<ArcSwap<CertifiedKey>>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let beside = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let find = |wanted: &str| all.iter().find(|of| of.names.iter().any(|name| name == wanted));
        find(&name).or_else(|| find(&beside?)).map(|of| &of.current)
    }
}

/// DNS names of a certificate.
fn names_in(key: &CertifiedKey) -> Vec<String> {
    use x509_parser::{extensions::GeneralName, parse_x509_certificate};

    let Some((_, certificate)) = key.cert.first().and_then(|der| parse_x509_certificate(der).ok()) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns =
        |name: &GeneralName<'_>| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None };
    names.value.general_names.iter().filter_map(dns).collect()
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;

    fn key(names: &[&str]) -> CertifiedKey {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), &aws_lc_rs::default_provider()).unwrap()
    }

    #[test]
    fn the_exact_name_goes_before_the_names_beside_it_and_no_name_is_the_certificates_own() {
        let given = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = [
            NamedCertificate::new(given(&["*.example.com"]), key(&["x"]), "a.crt".into()).unwrap(),
            NamedCertificate::new(given(&[]), key(&["metrics.example.com", "10.0.0.1"]), "b.crt".into()).unwrap(),
        ];
        let index = |name: &str| {
            let found = NamedCertificate::of(&all, name)?;
            all.iter().position(|of| Arc::ptr_eq(&of.current, found))
        };
        for (name, expected) in [
            ("metrics.example.com", Some(1)),
            ("METRICS.example.com.", Some(1)),
            ("other.example.com", Some(0)),
            ("deep.other.example.com", None),
            ("example.com", None),
            ("10.0.0.1", None),
            ("localhost", None),
        ] {
            assert_eq!(index(name), expected, "{name}");
        }
        let nameless = NamedCertificate::new(Vec::new(), key(&["10.0.0.1"]), "c.crt".into()).err().unwrap().to_string();
        assert!(nameless.contains("c.crt") && nameless.contains("server.tlsSniCertKeys"), "{nameless}");
    }
}
