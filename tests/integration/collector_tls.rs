//! The collector's trust: private authorities, other server names, client certificates, rotation.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use futures::future::join_all;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use wva::{collector::CollectorConfig, config::CertificatePaths, interfaces::CollectorError};

use crate::collector_support::{Collecting, configuration};

pub(crate) const NAME: &str = "prometheus.monitoring.svc";
const EMPTY: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` and its key, both in PEM.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A Prometheus that knows no series.
fn knowing_nothing() -> Router {
    Router::new().route("/api/v1/query", get(async || ([(header::CONTENT_TYPE, "application/json")], EMPTY)))
}

/// A server at work, until it is stopped or dropped.
pub(crate) struct Serving(JoinHandle<()>);

impl Serving {
    /// Ends it with its connections; nothing listens any more.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        // Cancelled, as asked.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Any address on loopback.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// `app` behind TLS at `address`; it asks for a certificate of `clients` if given.
pub(crate) async fn serve(
    authority: &Authority,
    clients: Option<&Authority>,
    address: SocketAddr,
    app: Router,
) -> (SocketAddr, Serving) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(authority.0.der().to_vec())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (certificate, key) = authority.issue(NAME);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(app.clone()));
            connections.spawn(async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    // The client may hang up whenever it likes.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service).await;
                }
            });
        }
    });
    (address, Serving(serving))
}

/// Files for one test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn write(&self, name: &str, content: String) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Settings to reach `address` under the name in its certificate, trusting `authority`.
pub(crate) fn config(address: SocketAddr, files: &Files, authority: &Authority) -> CollectorConfig {
    let mut config = configuration(&format!("https://{address}"));
    config.prometheus.trust.server_name = Some(NAME.to_owned());
    config.prometheus.trust.ca_cert_path = Some(files.write("ca.pem", authority.0.pem()));
    config
}

/// The message of a fetch that TLS refuses. It is tried again, as a restart may be behind it: hence the shorter timeout.
async fn refusal(config: &CollectorConfig) -> String {
    let mut config = config.clone();
    config.prometheus.query_timeout = Duration::from_secs(2);
    let error = refresh(&config).await.unwrap_err();
    assert!(matches!(error, CollectorError::Unreachable { .. }), "{error:?}");
    error.to_string()
}

async fn refresh(config: &CollectorConfig) -> Result<(), CollectorError> {
    Collecting::new(config).unwrap().collector.refresh().await
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_named_and_only_under_the_right_server_name() {
    let (authority, files) = (Authority::new(), Files::new());
    let (address, _serving) = serve(&authority, None, ANYWHERE, knowing_nothing()).await;
    let trusting = config(address, &files, &authority);
    assert_eq!(refresh(&trusting).await, Ok(()));

    let mut other_name = trusting.clone();
    other_name.prometheus.trust.server_name = Some("grafana.monitoring.svc".to_owned());
    let mut no_name = trusting.clone();
    no_name.prometheus.trust.server_name = None;
    let mut system_trust = trusting.clone();
    system_trust.prometheus.trust.ca_cert_path = None;
    for message in join_all([&other_name, &no_name, &system_trust].map(refusal)).await {
        assert!(message.contains("certificate"), "{message}");
    }
    system_trust.prometheus.trust.insecure_skip_verify = true;
    assert_eq!(refresh(&system_trust).await, Ok(()), "verification can be turned off, explicitly");
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let (authority, files) = (Authority::new(), Files::new());
    let (address, _serving) = serve(&authority, Some(&authority), ANYWHERE, knowing_nothing()).await;
    let mut config = config(address, &files, &authority);
    refusal(&config).await;
    let (certificate, key) = authority.issue("wva");
    config.prometheus.trust.client_certificate = Some(CertificatePaths {
        certificate: files.write("tls.crt", certificate.pem()),
        key: files.write("tls.key", key.serialize_pem()),
    });
    assert_eq!(refresh(&config).await, Ok(()));
}

#[tokio::test]
async fn rotated_authorities_are_taken_up_and_a_broken_file_changes_nothing() {
    let (old, new, files) = (Authority::new(), Authority::new(), Files::new());
    let (address, _serving) = serve(&new, None, ANYWHERE, knowing_nothing()).await;
    let mut config = config(address, &files, &old);
    config.prometheus.query_timeout = Duration::from_secs(2);
    let collecting = Collecting::new(&config).unwrap();
    assert!(collecting.collector.refresh().await.is_err(), "signed by an authority not yet trusted");
    files.write("ca.pem", new.0.pem());
    assert_eq!(collecting.collector.refresh().await, Ok(()));
    files.write("ca.pem", "half a fi".to_owned());
    assert_eq!(collecting.collector.refresh().await, Ok(()));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_the_start_by_name() {
    let (authority, files) = (Authority::new(), Files::new());
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut config = config(address, &files, &authority);
    config.prometheus.trust.ca_cert_path = Some(files.0.path().join("absent.pem"));
    let error = Collecting::new(&config).err().unwrap().to_string();
    assert!(error.contains("prometheus.caCertPath") && error.contains("absent.pem"), "{error}");
    config.prometheus.trust.ca_cert_path = Some(files.write("ca.pem", "no certificate".to_owned()));
    let error = Collecting::new(&config).err().unwrap().to_string();
    assert!(error.contains("caCertPath holds no PEM certificate"), "{error}");
}
