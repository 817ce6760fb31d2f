//! A whole API server on a loopback port, with test authorities, a scripted Kubernetes behind it and clients in front.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use wva::{
    apiserver::{
        Api, ApiServer, AuditMetrics, AuditPolicy, Auditor, Delegate, MetricsProvider, ObjectReference, Of, Readiness,
        Refusal, Sample, Series, SeriesQuery, Summary, UnknownMetric,
    },
    auth::{
        AccessRequest, AccessReviewer, AccessVerdict, Attributes, Authenticator, Authorizer, Identity, ReviewError,
        TokenAuthenticator, TokenReviewer, Trust, TrustBundle,
    },
    constants::MetricsGroup,
    serving::{Bound, CertificateSource, Certificates, Handler, Peer, ServingOptions},
};

pub(crate) const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
pub(crate) const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/wva_desired_replicas";

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A client's certificate and key.
#[derive(Clone)]
pub(crate) struct ClientCertificate {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl ClientCertificate {
    /// As the server sees it.
    pub(crate) fn chain(&self) -> Certificates {
        [self.certificate.clone()].into_iter().collect()
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn client(&self, common_name: &str, organization: &str) -> ClientCertificate {
        self.issue(common_name, organization, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A client certificate with whatever `change` makes of it.
    pub(crate) fn issue(
        &self,
        common_name: &str,
        organization: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        ClientCertificate { certificate, key: key.serialize_der() }
    }
}

/// The authorities of a cluster, as kube-apiserver publishes them.
pub(crate) fn trust_bundle(cluster: &Authority, front_proxy: &Authority) -> TrustBundle {
    let data = [
        ("client-ca-file", cluster.pem.as_str()),
        ("requestheader-client-ca-file", &front_proxy.pem),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
    ];
    let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    TrustBundle::from_config_map(&data).unwrap()
}

/// Knows one token.
struct Tokens;

impl TokenReviewer for Tokens {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        let prometheus = Identity::new("system:serviceaccount:monitoring:prometheus", ["system:serviceaccounts"]);
        Box::pin(async move { Ok((token == "prometheus").then_some(prometheus)) })
    }
}

/// A cluster's usual bindings, and one for alice.
struct Bindings;

impl AccessReviewer for Bindings {
    fn review<'a>(&'a self, request: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        let allowed = match &*request.attributes {
            // ClusterRole system:discovery.
            Attributes::NonResource { path, verb }
                if path.starts_with("/apis") || path.starts_with("/openapi") || path == "/version" =>
            {
                verb == "get" && request.identity.in_group("system:authenticated")
            }
            Attributes::NonResource { path, .. } => path == "/metrics" && request.identity.user.ends_with("prometheus"),
            Attributes::Resource(_) => ["alice", HPA].contains(&request.identity.user.as_str()),
        };
        let verdict = if allowed { AccessVerdict::Allowed } else { AccessVerdict::Denied { reason: String::new() } };
        Box::pin(async move { Ok(verdict) })
    }
}

/// Three variants in namespace `llm`, one of them without a value.
struct Values;

impl MetricsProvider for Values {
    fn metric_names(&self) -> &'static [&'static str] {
        &["wva_desired_replicas"]
    }

    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        if query.metric != "wva_desired_replicas" {
            return Err(UnknownMetric);
        }
        let variants = [
            ("llama-h100", Ok(21_000)),
            ("llama-a100", Ok(20_500)),
            ("qwen-l4", Err("variant llm/qwen-l4: metrics are 130 s old, check its ServiceMonitor")),
        ];
        let series = variants.map(|(variant, value)| Series {
            namespace: "llm".into(),
            subject: variant.into(),
            object: object(query.of, variant),
            labels: [("variant_name", variant)].into_iter().collect(),
            value: value
                .map(|milli| Sample { milli, timestamp: "2026-11-23T19:29:37Z".parse().unwrap(), window: None })
                .map_err(|message| Refusal { message: message.to_owned() }),
        });
        let here = query.namespace.is_none_or(|namespace| namespace == "llm");
        let meant = |one: &Series| match query.of {
            Of::Any => true,
            Of::Subject(name) => name == &*one.subject,
            Of::Object { name, .. } => one.object.is_some() && name.is_none_or(|name| name == &*one.subject),
        };
        Ok(series.into_iter().filter(|one| here && meant(one) && query.selector.matches(&one.labels)).collect())
    }

    fn subjects(&self, namespace: &str) -> Vec<Arc<str>> {
        let known = ["llama-a100", "llama-h100", "qwen-l4"].map(Into::into).to_vec();
        if namespace == "llm" { known } else { Vec::new() }
    }

    fn summary(&self, _: &str, subject: &str) -> Option<Summary> {
        Some(Summary {
            model: "meta/llama".into(),
            accelerator: Some("H100".into()),
            desired: (subject != "qwen-l4").then_some(21),
            current: Some(20),
            reason: "saturation: busy".to_owned(),
            age: Duration::from_secs(7),
        })
    }

    fn explain(&self, namespace: &str, subject: &str) -> Option<Value> {
        (namespace == "llm" && subject == "llama-h100").then(|| serde_json::json!({"summary": {"desired": 21}}))
    }
}

/// The Deployment of the same name.
fn object(of: Of<'_>, variant: &str) -> Option<ObjectReference> {
    let deployment =
        || ObjectReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: variant.into() };
    matches!(of, Of::Object { group: "apps", kind: "Deployment", .. }).then(deployment)
}

/// What a server answers with, and a front proxy that asks it; without sockets.
pub(crate) fn api_for_tests(extra_routes: Router) -> (Api, Peer) {
    let (cluster, front_proxy) = (Authority::new("kubernetes"), Authority::new("front-proxy-ca"));
    let trust = Trust::new(trust_bundle(&cluster, &front_proxy));
    let authenticator = Authenticator::new(trust, TokenAuthenticator::new(Tokens));
    let api = ApiServer::new(Arc::new(Values), authenticator, Authorizer::new(Bindings));
    // Every request is noted, and nothing written.
    let everything = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]";
    let (auditor, _) = Auditor::new(AuditPolicy::parse(everything).unwrap(), AuditMetrics::default()).with_buffer(1);
    let api = ApiServer { extra_routes, auditor: Some(auditor), ..api }.api();
    let certificates = front_proxy.client("front-proxy-client", "").chain();
    (api, Peer::new((Ipv4Addr::LOCALHOST, 1).into(), certificates))
}

/// A running server, and the authorities it trusts.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) cluster: Authority,
    pub(crate) front_proxy: Authority,
    pub(crate) trust: Trust,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    certificate: Vec<CertificateDer<'static>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(Router::new(), |_| {}).await
    }

    /// With routes and options of its own.
    pub(crate) async fn start_with(extra_routes: Router, change: impl FnOnce(&mut ServingOptions)) -> Self {
        let (tokens, authorizer) = (TokenAuthenticator::new(Tokens), Authorizer::new(Bindings));
        Self::run(tokens, authorizer, &MetricsGroup::ALL, extra_routes, change).await
    }

    /// With these API groups.
    pub(crate) async fn start_serving(groups: &[MetricsGroup]) -> Self {
        let (tokens, authorizer) = (TokenAuthenticator::new(Tokens), Authorizer::new(Bindings));
        Self::run(tokens, authorizer, groups, Router::new(), |_| {}).await
    }

    /// With reviewers of its own.
    pub(crate) async fn start_as(tokens: TokenAuthenticator, reviewer: impl AccessReviewer) -> Self {
        Self::run(tokens, Authorizer::new(reviewer), &MetricsGroup::ALL, Router::new(), |_| {}).await
    }

    /// Beside another adapter.
    pub(crate) async fn start_beside(delegate: Arc<dyn Delegate>) -> Self {
        let (tokens, authorizer) = (TokenAuthenticator::new(Tokens), Authorizer::new(Bindings));
        Self::run_with(Some(delegate), tokens, authorizer, &MetricsGroup::ALL, Router::new(), |_| {}).await
    }

    /// With an audit log.
    pub(crate) async fn start_audited(auditor: Auditor, extra_routes: Router) -> Self {
        let (cluster, front_proxy) = (Authority::new("kubernetes"), Authority::new("front-proxy-ca"));
        let trust = Trust::new(trust_bundle(&cluster, &front_proxy));
        let readiness = Readiness::default();
        let authenticator = Authenticator::new(trust.clone(), TokenAuthenticator::new(Tokens));
        let api = ApiServer {
            auditor: Some(auditor),
            readiness: readiness.clone(),
            extra_routes,
            ..ApiServer::new(Arc::new(Values), authenticator, Authorizer::new(Bindings))
        };
        Self::listen(api.api(), (cluster, front_proxy), trust, readiness, |_| {}).await
    }

    async fn run(
        tokens: TokenAuthenticator,
        authorizer: Authorizer,
        groups: &[MetricsGroup],
        extra_routes: Router,
        change: impl FnOnce(&mut ServingOptions),
    ) -> Self {
        Self::run_with(None, tokens, authorizer, groups, extra_routes, change).await
    }

    async fn run_with(
        delegate: Option<Arc<dyn Delegate>>,
        tokens: TokenAuthenticator,
        authorizer: Authorizer,
        groups: &[MetricsGroup],
        extra_routes: Router,
        change: impl FnOnce(&mut ServingOptions),
    ) -> Self {
        let (cluster, front_proxy) = (Authority::new("kubernetes"), Authority::new("front-proxy-ca"));
        let trust = Trust::new(trust_bundle(&cluster, &front_proxy));
        let readiness = Readiness::default();
        let api = ApiServer {
            delegate,
            readiness: readiness.clone(),
            groups: groups.to_vec(),
            extra_routes,
            ..ApiServer::new(Arc::new(Values), Authenticator::new(trust.clone(), tokens), authorizer)
        }
        .api();
        Self::listen(api, (cluster, front_proxy), trust, readiness, change).await
    }

    /// With a handler of its own, whom no authority is of concern.
    pub(crate) async fn start_handling(handler: impl Handler) -> Self {
        let authorities = (Authority::new("kubernetes"), Authority::new("front-proxy-ca"));
        Self::listen(handler, authorities, Trust::default(), Readiness::default(), |_| {}).await
    }

    async fn listen(
        handler: impl Handler,
        (cluster, front_proxy): (Authority, Authority),
        trust: Trust,
        readiness: Readiness,
        change: impl FnOnce(&mut ServingOptions),
    ) -> Self {
        let names = vec!["localhost".to_owned()];
        let mut options = ServingOptions::new((Ipv4Addr::LOCALHOST, 0).into(), CertificateSource::SelfSigned { names });
        change(&mut options);
        let bound = Bound::bind(options).await.unwrap();
        let (address, certificate) = (bound.local_address(), bound.certificate_chain());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(bound.serve(handler, shutdown.clone()));
        Self { address, cluster, front_proxy, trust, readiness, shutdown, served, certificate }
    }

    /// A client with this certificate; it speaks HTTP/2, as kube-apiserver does.
    pub(crate) fn client(&self, certificate: Option<&ClientCertificate>) -> Client {
        self.client_over(certificate, &[b"h2"])
    }

    pub(crate) fn client_over(&self, certificate: Option<&ClientCertificate>, protocols: &[&[u8]]) -> Client {
        let tls = tls_client(&self.certificate, certificate, protocols);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Client { http, base: format!("https://localhost:{}", self.address.port()) }
    }

    /// A connection with nothing on it yet.
    pub(crate) async fn connect(
        &self,
        certificate: Option<&ClientCertificate>,
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.address, tls_client(&self.certificate, certificate, &[protocol])).await
    }

    /// What clients must trust.
    pub(crate) fn certificate(&self) -> &[CertificateDer<'static>] {
        &self.certificate
    }

    /// kube-apiserver, which passes on requests of its users.
    pub(crate) fn kube_apiserver(&self) -> Client {
        self.client(Some(&self.front_proxy.client("front-proxy-client", "")))
    }
}

/// TLS as a client has it that trusts `server` alone.
pub(crate) fn tls_client(
    server: &[CertificateDer<'static>],
    certificate: Option<&ClientCertificate>,
    protocols: &[&[u8]],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(server.iter().cloned());
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match certificate {
        None => builder.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
            builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
    };
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    tls
}

/// A connection to `localhost` at `address`.
pub(crate) async fn connect(address: SocketAddr, tls: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await
}

/// A client of one server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, read in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: http::Version,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    /// For requests that are unlike others.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        self.send(http::Method::GET, path, headers).await
    }

    pub(crate) async fn send(&self, method: http::Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        self.try_send(method, path, headers).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        method: http::Method,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> reqwest::Result<Answer> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap()))
            .collect();
        let response = self.http.request(method, self.url(path)).headers(headers).send().await?;
        let (status, version, headers) = (response.status().as_u16(), response.version(), response.headers().clone());
        let bytes = response.bytes().await?.to_vec();
        Ok(Answer { status, version, headers, text: String::from_utf8_lossy(&bytes).into_owned(), bytes })
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}
