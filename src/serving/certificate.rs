//! The serving certificate: made at start or read from files, and swapped when the files change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use thiserror::Error;

use super::named_certificate::{CertificateOfNames, NamedCertificate};

/// Where the serving certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// A new key at each start, in memory only, with a certificate signed by itself.
    SelfSigned {
        /// DNS names and addresses it is valid for.
        names: Vec<String>,
    },
    /// PEM files, as a Secret of type `kubernetes.io/tls` holds them.
    Files {
        /// The certificate, followed by its intermediates.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// PEM in memory; whoever keeps it replaces it through [`CertificateHandle`].
    Pem {
        /// The certificate, followed by its intermediates.
        certificate: String,
        /// Its private key.
        key: String,
    },
}

/// Why a serving certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check that the Secret is mounted and readable")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no usable PEM.
    #[error("{path} holds no usable PEM {what}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The two do not belong together.
    #[error("serving certificate and private key cannot be used together: {0}; a rotation may be half written")]
    Mismatch(rustls::Error),
    /// A certificate for certain names has none.
    #[error("{path} names no host; say which names it is for, as in server.tlsSniCertKeys=CERTIFICATE,KEY:NAME")]
    Nameless {
        /// The file.
        path: PathBuf,
    },
    /// A self-signed certificate cannot be made.
    #[error("cannot make a self-signed certificate for {names:?}: {source}")]
    SelfSigned {
        /// The requested names.
        names: Vec<String>,
        /// Why.
        source: rcgen::Error,
    },
}

/// Hands the current certificate to each new connection: the one of the name that the client asks for, where there is.
pub(super) struct ServingCertificate {
    current: Arc<ArcSwap<CertifiedKey>>,
    named: Vec<NamedCertificate>,
    provider: Arc<CryptoProvider>,
}

impl ServingCertificate {
    /// Loads `source` and the certificates that are for certain names; with files comes what watches them.
    pub(super) async fn load(
        source: CertificateSource,
        named: Vec<CertificateOfNames>,
        provider: Arc<CryptoProvider>,
    ) -> Result<(Arc<Self>, Vec<FilePair>), CertificateError> {
        let (key, files) = Self::load_one(source, &provider).await?;
        let current = Arc::new(ArcSwap::from_pointee(key));
        let mut watched: Vec<FilePair> = files.into_iter().map(|files| files.serving(&current)).collect();
        let mut certificates = Vec::new();
        for CertificateOfNames { certificate, key, names } in named {
            let source = CertificateSource::Files { certificate: certificate.clone(), key };
            let (key, files) = Self::load_one(source, &provider).await?;
            let of = NamedCertificate::new(names, key, certificate)?;
            watched.extend(files.map(|files| files.serving(&of.current)));
            certificates.push(of);
        }
        Ok((Arc::new(Self { current, named: certificates, provider }), watched))
    }

    async fn load_one(
        source: CertificateSource,
        provider: &CryptoProvider,
    ) -> Result<(CertifiedKey, Option<FilePair>), CertificateError> {
        let (key, files) = match source {
            CertificateSource::SelfSigned { names } => (self_signed(names, provider)?, None),
            CertificateSource::Files { certificate, key } => {
                let mut pair = FilePair::new(certificate, key);
                let contents = pair.read().await?;
                let key = pair.certified_key(&contents, provider)?;
                pair.seen = Some(contents);
                (key, Some(pair))
            }
            CertificateSource::Pem { certificate, key } => {
                let contents = Contents { certificate: certificate.into_bytes(), key: key.into_bytes() };
                (FilePair::new("tls.crt", "tls.key").certified_key(&contents, provider)?, None)
            }
        };
        Ok((key, files))
    }

    /// The served chain, own certificate first.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current.load().cert.clone()
    }
}

/// Replaces the certificate of a listener that serves; connections that are open keep theirs.
#[derive(Clone, Debug)]
pub struct CertificateHandle(pub(super) Arc<ServingCertificate>);

impl CertificateHandle {
    /// Serves this pair, PEM both, to connections from now on.
    ///
    /// # Errors
    /// When the two are unusable or do not belong together; the pair before stays.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), CertificateError> {
        let pair = FilePair::new("tls.crt", "tls.key");
        let contents = Contents { certificate: certificate.into(), key: key.into() };
        self.0.current.store(Arc::new(pair.certified_key(&contents, &self.0.provider)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| NamedCertificate::of(&self.named, name));
        Some(named.unwrap_or(&self.current).load_full())
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCertificate").finish_non_exhaustive()
    }
}

/// Certificate and key on disk, and what they held when last looked at.
pub(super) struct FilePair {
    certificate: PathBuf,
    key: PathBuf,
    /// Where they are served.
    serving: Option<Arc<ArcSwap<CertifiedKey>>>,
    /// Kept after failures too, so that a broken pair is reported once and not at every poll.
    seen: Option<Contents>,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Contents {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl fmt::Debug for FilePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilePair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl FilePair {
    fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into(), serving: None, seen: None }
    }

    fn serving(self, place: &Arc<ArcSwap<CertifiedKey>>) -> Self {
        Self { serving: Some(Arc::clone(place)), ..self }
    }

    /// Serves the files' contents if they changed; says whether they did. On an error the old certificate stays.
    pub(super) async fn refresh(&mut self, serving: &ServingCertificate) -> Result<bool, CertificateError> {
        let contents = self.read().await?;
        if self.seen.as_ref() == Some(&contents) {
            return Ok(false);
        }
        let key = self.certified_key(&contents, &serving.provider);
        self.seen = Some(contents);
        self.serving.as_ref().unwrap_or(&serving.current).store(Arc::new(key?));
        Ok(true)
    }

    async fn read(&self) -> Result<Contents, CertificateError> {
        Ok(Contents { certificate: read(&self.certificate).await?, key: read(&self.key).await? })
    }

    fn certified_key(&self, contents: &Contents, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
        let unusable = |path: &Path, what, reason: String| CertificateError::Parse { path: path.into(), what, reason };
        let chain = CertificateDer::pem_slice_iter(&contents.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(&self.certificate, "certificate", error.to_string()))?;
        if chain.is_empty() {
            return Err(unusable(&self.certificate, "certificate", "no CERTIFICATE block".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| unusable(&self.key, "private key", error.to_string()))?;
        CertifiedKey::from_der(chain, key, provider).map_err(CertificateError::Mismatch)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path).await.map_err(|source| CertificateError::Read { path: path.into(), source })
}

fn self_signed(names: Vec<String>, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let made = rcgen::generate_simple_self_signed(names.clone())
        .map_err(|source| CertificateError::SelfSigned { names, source })?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), provider).map_err(CertificateError::Mismatch)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Directory(TempDir);

    impl Directory {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn source(&self) -> CertificateSource {
            CertificateSource::Files { certificate: self.0.path().join("tls.crt"), key: self.0.path().join("tls.key") }
        }

        fn write(&self, file: &str, pem: &str) {
            std::fs::write(self.0.path().join(file), pem).unwrap();
        }

        fn write_pair(&self, pair: &rcgen::CertifiedKey<rcgen::KeyPair>) {
            self.write("tls.crt", &pair.cert.pem());
            self.write("tls.key", &pair.signing_key.serialize_pem());
        }
    }

    fn pair() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(vec!["wva.wva-system.svc".to_owned()]).unwrap()
    }

    async fn load(source: CertificateSource) -> Result<(Arc<ServingCertificate>, Option<FilePair>), CertificateError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (serving, mut files) = ServingCertificate::load(source, Vec::new(), provider).await?;
        Ok((serving, files.pop()))
    }

    #[tokio::test]
    async fn a_rotated_pair_is_served_and_an_unchanged_one_is_left_alone() {
        let directory = Directory::new();
        let (first, second) = (pair(), pair());
        directory.write_pair(&first);
        let (serving, files) = load(directory.source()).await.unwrap();
        let mut files = files.unwrap();
        assert_eq!(serving.chain(), [first.cert.der().clone()]);
        assert!(!files.refresh(&serving).await.unwrap());

        directory.write_pair(&second);
        assert!(files.refresh(&serving).await.unwrap());
        assert_eq!(serving.chain(), [second.cert.der().clone()]);
    }

    #[tokio::test]
    async fn a_half_written_rotation_keeps_the_old_pair_is_reported_once_and_is_taken_when_complete() {
        let directory = Directory::new();
        let (first, second) = (pair(), pair());
        directory.write_pair(&first);
        let (serving, files) = load(directory.source()).await.unwrap();
        let mut files = files.unwrap();

        directory.write("tls.crt", &second.cert.pem());
        assert!(matches!(files.refresh(&serving).await, Err(CertificateError::Mismatch(_))));
        assert!(!files.refresh(&serving).await.unwrap(), "the same broken pair must not be reported again");
        assert_eq!(serving.chain(), [first.cert.der().clone()]);

        directory.write("tls.key", &second.signing_key.serialize_pem());
        assert!(files.refresh(&serving).await.unwrap());
        assert_eq!(serving.chain(), [second.cert.der().clone()]);
    }

    #[tokio::test]
    async fn a_pair_in_memory_is_replaced_by_a_whole_one_only() {
        let (first, second) = (pair(), pair());
        let source = CertificateSource::Pem { certificate: first.cert.pem(), key: first.signing_key.serialize_pem() };
        let (serving, files) = load(source).await.unwrap();
        assert!(files.is_none());
        let handle = CertificateHandle(Arc::clone(&serving));
        let half = handle.replace(&second.cert.pem(), &first.signing_key.serialize_pem());
        assert!(matches!(half, Err(CertificateError::Mismatch(_))));
        assert_eq!(serving.chain(), [first.cert.der().clone()]);
        handle.replace(&second.cert.pem(), &second.signing_key.serialize_pem()).unwrap();
        assert_eq!(serving.chain(), [second.cert.der().clone()]);
    }

    #[tokio::test]
    async fn an_empty_or_missing_file_is_an_error_that_names_it() {
        let directory = Directory::new();
        let missing = load(directory.source()).await.err().unwrap().to_string();
        assert!(missing.contains("tls.crt"), "{missing}");

        directory.write_pair(&pair());
        directory.write("tls.crt", "");
        let empty = load(directory.source()).await.err().unwrap().to_string();
        assert!(empty.contains("tls.crt") && empty.contains("no CERTIFICATE block"), "{empty}");
    }
}
