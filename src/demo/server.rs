//! The real API server on loopback, with one token instead of a cluster to ask.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use axum::Router;
use rustls_pki_types::CertificateDer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    apiserver::{ApiServer, Readiness, RequestMetrics, router},
    auth::{Authenticator, Authorizer, Identity, StaticAccessReviewer, StaticTokenReviewer, TokenAuthenticator, Trust},
    constants::{EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, MetricsGroup, WVA_DESIRED_REPLICAS},
    decisions::DecisionStore,
    serving::{Bound, CertificateSource, ServingOptions},
    telemetry::MetricsRegistry,
};

const USER: &str = "demo";

/// A running server and what a client needs.
pub(super) struct DemoServer {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    /// The certificate as a file, for curl and kubectl; removed at the end.
    certificate_file: PathBuf,
    token: String,
}

impl DemoServer {
    /// Binds 127.0.0.1 and serves.
    pub(super) async fn start(
        port: u16,
        store: Arc<DecisionStore>,
        registry: MetricsRegistry,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let options = ServingOptions::new(([127, 0, 0, 1], port).into(), CertificateSource::SelfSigned { names });
        let bound = Bound::bind(options).await?;
        let address = bound.local_address();
        let certificate = bound.certificate_chain().into_iter().next().context("the server has no certificate")?;
        let certificate_file = std::env::temp_dir().join(format!("wva-demo-{}.crt", address.port()));
        std::fs::write(&certificate_file, pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec())))
            .with_context(|| format!("cannot write {}", certificate_file.display()))?;

        let token = uuid::Uuid::new_v4().simple().to_string();
        let identity = Identity::new(USER, Vec::<String>::new());
        let tokens = TokenAuthenticator::new(StaticTokenReviewer::new(token.clone(), identity));
        let readiness = Readiness::default();
        let routes = router(ApiServer {
            provider: store,
            delegate: None,
            authenticator: Authenticator::new(Trust::default(), tokens),
            authorizer: Authorizer::new(StaticAccessReviewer::new(USER)),
            readiness,
            groups: MetricsGroup::ALL.to_vec(),
            requests: RequestMetrics::default(),
            metrics_text: Arc::new(move || registry.encode().unwrap_or_default()),
            extra_routes: Router::new(),
        });
        tasks.spawn(bound.serve(routes, stop.clone()));
        Ok(Self { address, certificate, certificate_file, token })
    }

    /// A client that trusts the server and shows the token, as an HPA's would.
    pub(super) fn client(&self) -> anyhow::Result<MetricClient> {
        let certificate = reqwest::Certificate::from_der(&self.certificate)?;
        let http = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().build()?;
        Ok(MetricClient { http, base: format!("https://{}", self.address), token: self.token.clone() })
    }

    /// Commands with which a person reads the same value while the demo runs.
    pub(super) fn read_commands(&self) -> [String; 2] {
        let Self { address, certificate_file, token, .. } = self;
        let (path, file) = (path("demo", ""), certificate_file.display());
        [
            format!("curl --cacert {file} -H 'Authorization: Bearer {token}' https://{address}{path}"),
            format!(
                "kubectl --kubeconfig /dev/null --server https://{address} --certificate-authority {file} --token {token} get --raw {path}"
            ),
        ]
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = std::fs::remove_file(&self.certificate_file);
    }
}

/// Path of the desired replicas in a namespace, narrowed by `query`.
fn path(namespace: &str, query: &str) -> String {
    format!(
        "/apis/{EXTERNAL_METRICS_GROUP}/{EXTERNAL_METRICS_VERSION}/namespaces/{namespace}/{WVA_DESIRED_REPLICAS}{query}"
    )
}

/// Reads desired replicas over HTTPS.
#[derive(Clone, Debug)]
pub(super) struct MetricClient {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl MetricClient {
    /// Items of a variant's desired replicas in thousandths, or the error's message, as the HPA controller gets them.
    pub(super) async fn read(&self, namespace: &str, variant: &str) -> Result<Vec<u64>, String> {
        let url = format!("{}{}", self.base, path(namespace, &format!("?labelSelector=variant_name%3D{variant}")));
        let answer = self.http.get(url).bearer_auth(&self.token).send().await.map_err(|error| error.to_string())?;
        let body: serde_json::Value = answer.json().await.map_err(|error| error.to_string())?;
        if body["kind"] == "Status" {
            return Err(body["message"].as_str().unwrap_or("an error without a message").to_owned());
        }
        let items = body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| milli(item["value"].as_str().unwrap_or_default())).collect()
    }
}

/// A quantity as our server writes replica counts: whole, in thousands (`k`), or in thousandths (`m`).
fn milli(quantity: &str) -> Result<u64, String> {
    let (digits, factor) = match quantity.strip_suffix(['m', 'k']) {
        Some(digits) if quantity.ends_with('m') => (digits, 1),
        Some(digits) => (digits, 1_000_000),
        None => (quantity, 1000),
    };
    digits.parse::<u64>().map(|value| value * factor).map_err(|_| format!("{quantity:?} is not a quantity"))
}
