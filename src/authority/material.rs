//! What the Secret holds.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

/// Keys of the Secret. The first three are those of every `kubernetes.io/tls` Secret.
const AUTHORITIES: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_AUTHORITY: &str = "next-ca.crt";
const NEXT_CERTIFICATE: &str = "next-tls.crt";
const NEXT_KEY: &str = "next-tls.key";
const CHANGED: &str = "changed";

/// A serving certificate, its key and the authority that signed it; PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The authority's certificate.
    pub authority: String,
    /// The serving certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Certificates as the replicas share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// What is served, and the authority that signed it.
    pub serving: Pair,
    /// Authorities that were served under before and are still trusted; PEM, one after the other.
    pub retiring: String,
    /// What will be served next; its authority is trusted already.
    pub announced: Option<Pair>,
    /// When the last step was taken.
    pub changed: Timestamp,
}

impl Material {
    /// A new beginning with `serving`.
    pub fn new(serving: Pair, changed: Timestamp) -> Self {
        Self { serving, retiring: String::new(), announced: None, changed }
    }

    /// The material in a Secret; `None` where it holds none that is whole.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        let authorities = text(AUTHORITIES)?;
        let (authority, retiring) = split_first(&authorities)?;
        let serving = Pair { authority, certificate: text(CERTIFICATE)?, key: text(KEY)? };
        let next = || Some((text(NEXT_AUTHORITY)?, text(NEXT_CERTIFICATE)?, text(NEXT_KEY)?));
        let announced = next().map(|(authority, certificate, key)| Pair { authority, certificate, key });
        let changed = text(CHANGED)?.parse().ok()?;
        Some(Self { serving, retiring, announced, changed })
    }

    /// The data of the Secret.
    pub fn to_secret(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::from([
            (AUTHORITIES, format!("{}{}", self.serving.authority, self.retiring)),
            (CERTIFICATE, self.serving.certificate.clone()),
            (KEY, self.serving.key.clone()),
            (CHANGED, self.changed.to_string()),
        ]);
        if let Some(next) = &self.announced {
            data.insert(NEXT_AUTHORITY, next.authority.clone());
            data.insert(NEXT_CERTIFICATE, next.certificate.clone());
            data.insert(NEXT_KEY, next.key.clone());
        }
        data.into_iter().map(|(key, value)| (key.to_owned(), value.into_bytes())).collect()
    }

    /// Every authority to trust: of what is served, of what will be, of what was. PEM.
    pub fn trusted(&self) -> String {
        let announced = self.announced.as_ref().map_or("", |next| next.authority.as_str());
        format!("{}{announced}{}", self.serving.authority, self.retiring)
    }

    /// Validity and names of the serving certificate; `None` when it cannot be read.
    pub fn validity(&self) -> Option<Validity> {
        let der = CertificateDer::from_pem_slice(self.serving.certificate.as_bytes()).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let second = |at: i64| Timestamp::from_second(at).ok();
        let validity = certificate.validity();
        Some(Validity {
            from: second(validity.not_before.timestamp())?,
            until: second(validity.not_after.timestamp())?,
            names: names(&certificate),
        })
    }
}

/// When a certificate counts, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// DNS names.
    pub names: Vec<String>,
}

impl Validity {
    /// From here on it should be replaced: two thirds of its life are over.
    pub fn renew_at(&self) -> Timestamp {
        let life = Duration::try_from(self.until.duration_since(self.from)).unwrap_or_default();
        self.until.checked_sub(life / 3).unwrap_or(self.from)
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = alternatives.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

/// The first certificate of a PEM bundle, and the rest.
fn split_first(bundle: &str) -> Option<(String, String)> {
    const END: &str = "-----END CERTIFICATE-----";
    let end = bundle.find(END)? + END.len();
    let rest = bundle[end..].trim_start();
    Some((format!("{}\n", bundle[..end].trim_start()), rest.to_owned()))
}
