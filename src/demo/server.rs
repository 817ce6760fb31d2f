//! The real API server on loopback, with one token instead of a cluster to ask.

use std::{
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use rustls_pki_types::CertificateDer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    apiserver::ApiServer,
    auth::{Authenticator, Authorizer, Identity, StaticAccessReviewer, StaticTokenReviewer, TokenAuthenticator, Trust},
    constants::{EXTERNAL_METRICS_GROUP, EXTERNAL_METRICS_VERSION, WVA_DESIRED_REPLICAS},
    decisions::DecisionStore,
    serving::{Bound, CertificateSource, ServingOptions},
    telemetry::MetricsRegistry,
};

const USER: &str = "demo";

/// A running server and what a client needs.
pub(super) struct DemoServer {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    /// What curl and kubectl need.
    access: AccessFiles,
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
        let token = uuid::Uuid::new_v4().simple().to_string();
        let access = AccessFiles::write(address, &certificate, &token)?;
        let identity = Identity::new(USER, Vec::<String>::new());
        let tokens = TokenAuthenticator::new(StaticTokenReviewer::new(token.clone(), identity));
        let authenticator = Authenticator::new(Trust::default(), tokens);
        let authorizer = Authorizer::new(StaticAccessReviewer::new(USER));
        let api = ApiServer {
            metrics_text: Arc::new(move || registry.encode().unwrap_or_default()),
            ..ApiServer::new(store, authenticator, authorizer)
        }
        .api();
        tasks.spawn(bound.serve(api, stop.clone()));
        Ok(Self { address, certificate, access, token })
    }

    /// A client that trusts the server and shows the token, as an HPA's would.
    pub(super) fn client(&self) -> anyhow::Result<MetricClient> {
        let certificate = reqwest::Certificate::from_der(&self.certificate)?;
        let http = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().build()?;
        Ok(MetricClient { http, base: format!("https://{}", self.address), token: self.token.clone() })
    }

    /// Commands with which a person reads the same value while the demo runs.
    pub(super) fn read_commands(&self) -> [String; 2] {
        let Self { address, access, token, .. } = self;
        let path = path("demo", "");
        [
            format!(
                "curl --cacert {} -H 'Authorization: Bearer {token}' https://{address}{path}",
                access.certificate().display()
            ),
            format!("kubectl --kubeconfig {} get --raw {path}", access.kubeconfig().display()),
        ]
    }
}

/// A folder of our own with the certificate and a kubeconfig; removed at the end.
#[derive(Debug)]
struct AccessFiles(PathBuf);

impl AccessFiles {
    fn write(address: SocketAddr, certificate: &CertificateDer<'_>, token: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("wva-demo-{}", std::process::id()));
        // An error if it exists: nobody else can have put anything into it.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot create {}; remove what is there", folder.display()))?;
        let files = Self(folder);
        let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()));
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "demo",
            "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
            "clusters": [{"name": "demo", "cluster": {
                "server": format!("https://{address}"), "certificate-authority": files.certificate()}}],
            "users": [{"name": "demo", "user": {"token": token}}],
        });
        for (file, text) in [(files.certificate(), certificate), (files.kubeconfig(), kubeconfig.to_string())] {
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(files)
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }
}

impl Drop for AccessFiles {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        let _ = fs::remove_dir_all(&self.0);
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
