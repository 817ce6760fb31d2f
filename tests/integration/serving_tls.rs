//! Which TLS a listener speaks, and with which certificate, as it is set.

use std::{path::Path, sync::Arc, time::Duration};

use axum::Router;
use rcgen::generate_simple_self_signed;
use rustls::{
    CipherSuite, ClientConfig, NamedGroup, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use wva::serving::{Bound, CertificateOfNames, CertificateSource, ServingOptions, TlsOptions};

use crate::apiserver_harness::TestServer;

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const ECDSA_128: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";

/// A client of certain cryptography that trusts `roots` and asks for `name`.
async fn greet(
    server: &TestServer,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    roots: &[CertificateDer<'static>],
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
    let mut tls = builder.with_root_certificates(store).with_no_client_auth();
    tls.alpn_protocols = [b"h2".to_vec(), b"http/1.1".to_vec()].into();
    let stream = TcpStream::connect(server.address).await?;
    TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from(name).unwrap(), stream).await
}

async fn greet_local(
    server: &TestServer,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    greet(server, provider, versions, server.certificate(), "localhost").await
}

async fn start(tls: TlsOptions) -> TestServer {
    TestServer::start_with(Router::new(), |options| options.tls = tls).await
}

#[tokio::test]
async fn an_older_version_than_the_least_is_refused() {
    let usual = start(TlsOptions::default()).await;
    let strict = start(TlsOptions { only_tls13: true, ..TlsOptions::default() }).await;
    let provider = aws_lc_rs::default_provider;
    assert!(greet_local(&usual, provider(), &[&TLS12]).await.is_ok());
    assert!(greet_local(&strict, provider(), &[&TLS12]).await.is_err());
    let agreed = greet_local(&strict, provider(), BOTH).await.unwrap();
    assert_eq!(agreed.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_cipher_suite_that_is_not_listed_is_refused() {
    let server = start(TlsOptions { cipher_suites: vec![ECDSA_128.to_owned()], ..TlsOptions::default() }).await;
    let with = |suite: CipherSuite| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|of| of.suite() == suite);
        provider
    };
    let listed = with(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    assert!(greet_local(&server, listed, &[&TLS12]).await.is_ok());
    let other = with(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    assert!(greet_local(&server, other, &[&TLS12]).await.is_err());
    let of_13 = with(CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert!(greet_local(&server, of_13, &[&TLS13]).await.is_ok(), "those of TLS 1.3 are always on");
}

#[tokio::test]
async fn a_key_exchange_that_is_not_listed_is_refused() {
    let server = start(TlsOptions { key_exchanges: vec![23], ..TlsOptions::default() }).await;
    let with = |group: NamedGroup| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups.retain(|of| of.name() == group);
        provider
    };
    assert!(greet_local(&server, with(NamedGroup::secp256r1), BOTH).await.is_ok());
    assert!(greet_local(&server, with(NamedGroup::X25519), BOTH).await.is_err());
}

#[tokio::test]
async fn what_is_not_offered_stops_the_start() {
    let names = vec!["localhost".to_owned()];
    let mut options = ServingOptions::new(([127, 0, 0, 1], 0).into(), CertificateSource::SelfSigned { names });
    options.tls.cipher_suites = vec!["TLS_RSA_WITH_RC4_128_SHA".to_owned()];
    let error = Bound::bind(options).await.unwrap_err().to_string();
    assert!(error.contains("TLS_RSA_WITH_RC4_128_SHA") && error.contains(ECDSA_128), "{error}");
}

#[tokio::test]
async fn without_http2_everybody_is_served_over_http_1_1() {
    let server = TestServer::start_with(Router::new(), |options| options.disable_http2 = true).await;
    let agreed = greet_local(&server, aws_lc_rs::default_provider(), BOTH).await.unwrap();
    assert_eq!(agreed.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = server.client_over(None, &[b"h2", b"http/1.1"]).get("/livez", &[]).await;
    assert_eq!((answer.status, answer.version), (200, http::Version::HTTP_11));
}

/// Writes a new pair for `names`; its certificate.
fn write_pair(folder: &Path, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_that_it_asks_for_and_the_new_one_once_it_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_pair(folder.path(), &["metrics.example.com"]);
    let [certificate, key] = ["tls.crt", "tls.key"].map(|file| folder.path().join(file));
    let server = TestServer::start_with(Router::new(), |options| {
        options.named_certificates = vec![CertificateOfNames { certificate, key, names: Vec::new() }];
        options.certificate_poll = Duration::from_millis(10);
    })
    .await;
    let greet = async |name, root: &CertificateDer<'static>| {
        greet(&server, aws_lc_rs::default_provider(), BOTH, std::slice::from_ref(root), name).await.is_ok()
    };
    assert!(greet("metrics.example.com", &first).await);
    assert!(greet("localhost", &server.certificate()[0]).await);
    assert!(!greet("localhost", &first).await, "that one is for its own name alone");

    let second = write_pair(folder.path(), &["metrics.example.com"]);
    while !greet("metrics.example.com", &second).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!greet("metrics.example.com", &first).await);
    assert!(greet("localhost", &server.certificate()[0]).await, "the other stays");
}
