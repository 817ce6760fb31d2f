//! The audit log, and who else collects its events, where the configuration wants them.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, StatusCode, Uri, header::CONTENT_TYPE};
use kube::{
    Client,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::{
    apiserver::{
        self, AuditFile, AuditLog, AuditMetrics, AuditPolicy, AuditWebhook, Auditor, EventCollector, PostError,
        WebhookLimits,
    },
    config::{AuditFormat, AuditLogSettings, AuditSettings, AuditWebhookSettings, Config},
    telemetry::MetricsRegistry,
};

/// Notes requests until `stop`, and writes and sends what waits then.
///
/// # Errors
/// When the policy is none, the log cannot be written, or it cannot be told who collects.
pub(super) async fn auditor(
    config: &Config,
    registry: &mut MetricsRegistry,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Auditor>> {
    let Some(AuditSettings { policy_file, log, webhook }) = config.audit.clone() else { return Ok(None) };
    let policy = AuditPolicy::read(&policy_file).await?;
    let mut auditor = Auditor::new(policy, AuditMetrics::register(registry.registry_mut()));
    if let Some(settings) = log {
        let waiting;
        (auditor, waiting) = auditor.with_buffer(settings.buffer);
        let (file, format) = log_file(settings);
        tasks.spawn("audit log", AuditLog::open(waiting, file, format)?.run(stop.clone()));
    }
    if let Some(AuditWebhookSettings { config_file, batch, wait, backoff, buffer }) = webhook {
        let waiting;
        (auditor, waiting) = auditor.with_buffer(buffer);
        let collector = Arc::new(Webhook::new(&config_file).await?);
        let limits = WebhookLimits { batch, wait, backoff };
        tasks.spawn("audit webhook", AuditWebhook::new(waiting, collector, limits).run(stop.clone()));
    }
    Ok(Some(auditor))
}

fn log_file(settings: AuditLogSettings) -> (AuditFile, apiserver::AuditFormat) {
    let AuditLogSettings { path, format, max_size, max_backups, max_age, compress, buffer: _ } = settings;
    let format = match format {
        AuditFormat::Json => apiserver::AuditFormat::Json,
        AuditFormat::Legacy => apiserver::AuditFormat::Legacy,
    };
    (AuditFile { path, max_size, max_backups, max_age, compress }, format)
}

/// Where lists of events are posted to, with the credentials of a kubeconfig.
struct Webhook {
    client: Client,
    path: Uri,
}

impl Webhook {
    async fn new(path: &Path) -> anyhow::Result<Self> {
        let problem = || format!("audit.webhookConfigFile: cannot use {} as a kubeconfig", path.display());
        let read = Kubeconfig::read_from(path).with_context(problem)?;
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
        let mut config = config.with_context(problem)?;
        // Whoever sends tries again, and counts.
        config.default_retry = false;
        // The client would join its own path to the server's by a slash; the server's is meant as it is.
        let mut parts = config.cluster_url.clone().into_parts();
        let path = parts.path_and_query.replace(http::uri::PathAndQuery::from_static("/"));
        config.cluster_url = Uri::from_parts(parts).with_context(problem)?;
        let path = path.map_or(Uri::from_static("/"), Uri::from);
        Ok(Self { client: Client::try_from(config).with_context(problem)?, path })
    }
}

impl EventCollector for Webhook {
    fn post(&self, list: Vec<u8>) -> BoxFuture<'_, Result<(), PostError>> {
        async move {
            let request =
                Request::post(self.path.clone()).header(CONTENT_TYPE, "application/json").body(Body::from(list));
            let request = request.map_err(|error| PostError { reason: error.to_string(), is_momentary: false })?;
            let answer = self.client.send(request).await;
            let status = answer.map_err(|error| PostError { reason: error.to_string(), is_momentary: true })?.status();
            if status.is_success() {
                return Ok(());
            }
            // Nobody follows a redirect: what is sent elsewhere was not meant for there.
            let is_momentary = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            Err(PostError { reason: format!("the collector answers {status}"), is_momentary })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{body_string, header, method, path, query_param},
    };

    use super::*;

    fn kubeconfig(server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: '{server}'}}}}]\nusers: [{{name: a, user: {{token: t0ken}}}}]\n"
        )
    }

    #[tokio::test]
    async fn lists_go_to_the_very_url_of_the_kubeconfig_with_its_credentials_and_failures_tell_whether_to_try_again() {
        let server = MockServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        for (place, template, expected) in [
            ("/audit/events", ResponseTemplate::new(200), None),
            ("/busy", ResponseTemplate::new(503).set_body_string("busy"), Some(true)),
            ("/moved", ResponseTemplate::new(308).insert_header("location", "/audit/events"), Some(false)),
            ("/refused", ResponseTemplate::new(403).set_body_string("no"), Some(false)),
        ] {
            let file = folder.path().join("kubeconfig");
            std::fs::write(&file, kubeconfig(&format!("{}{place}?timeout=30s", server.uri()))).unwrap();
            let mock = Mock::given(method("POST")).and(path(place)).and(query_param("timeout", "30s"));
            let mock = mock.and(header("authorization", "Bearer t0ken")).and(body_string("{}"));
            let mock = mock.respond_with(template).expect(1).mount_as_scoped(&server).await;
            let answer = Webhook::new(&file).await.unwrap().post(b"{}".to_vec()).await;
            assert_eq!(answer.as_ref().err().map(|error| error.is_momentary), expected, "{place}: {answer:?}");
            drop(mock);
        }
        let file = folder.path().join("absent");
        let error = Webhook::new(&file).await.err().unwrap().to_string();
        assert!(error.contains("audit.webhookConfigFile") && error.contains("absent"), "{error}");
    }
}
