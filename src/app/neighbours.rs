//! Other autoscaling APIs of the cluster: an adapter whose metrics are read through us, and KEDA, which reads ours.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{certificate, tasks::Tasks};
use crate::{
    apiserver::{Delegate, MetricsProvider},
    auth::{CertificateAuthority, Trust, TrustBundle},
    authority::Authority,
    clock::Clock,
    config::Config,
    delegation::{Adapter, AdapterOptions, Rules},
    keda,
    serving::{Bound, ServingMetrics},
};

/// How often the file of KEDA's authorities is read.
const AUTHORITY_POLL: Duration = Duration::from_secs(10);

/// Both, as far as the configuration asks for them.
///
/// # Errors
/// When one cannot be used as configured.
pub(super) async fn bind(
    config: &Config,
    authority: Option<&Authority>,
    connections: &ServingMetrics,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(Option<Keda>, Option<Arc<dyn Delegate>>)> {
    Ok((Keda::bind(config, authority, connections).await?, delegate(config, clock)?))
}

/// The adapter that reads of its metrics are passed on to, where the configuration names one.
///
/// # Errors
/// When it cannot be used as configured.
fn delegate(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Option<Arc<dyn Delegate>>> {
    let settings = &config.delegation;
    let Some(url) = settings.url.clone() else { return Ok(None) };
    let rules = Rules {
        metrics: settings.metrics.clone(),
        prefixes: settings.prefixes.clone(),
        label_keys: settings.label_keys.clone(),
    };
    info!(%url, ?rules, "reads of another adapter's metrics are passed on");
    let options = AdapterOptions {
        url,
        authority: settings.ca_cert_path.clone(),
        token: settings.bearer_token_path.clone(),
        timeout: settings.timeout,
        rules,
    };
    Ok(Some(Arc::new(Adapter::new(options, clock)?)))
}

/// A listener for KEDA that does not serve yet.
pub(super) struct Keda {
    pub(super) bound: Bound,
    clients: Trust,
    path: PathBuf,
}

impl Keda {
    /// Binds it, where the configuration asks for it.
    ///
    /// # Errors
    /// When the port is taken, or a file is not usable.
    async fn bind(
        config: &Config,
        authority: Option<&Authority>,
        connections: &ServingMetrics,
    ) -> anyhow::Result<Option<Self>> {
        let (true, Some(path)) = (config.keda.enabled, config.keda.client_ca_path.clone()) else { return Ok(None) };
        let mut options = certificate::serving_options(config, authority, connections);
        options.address = SocketAddr::new(config.server.bind_address, config.keda.port);
        // gRPC is HTTP/2, whatever else is served.
        options.disable_http2 = false;
        let clients = Trust::new(read(&path).await.context("keda.clientCaPath")?);
        Ok(Some(Self { bound: Bound::bind(options).await?, clients, path }))
    }
}

/// Serves KEDA until `serving` is cancelled.
pub(super) fn start(
    keda: Option<Keda>,
    provider: Arc<dyn MetricsProvider>,
    tasks: &Tasks,
    serving: &CancellationToken,
    stop: &CancellationToken,
) {
    let Some(Keda { bound, clients, path }) = keda else { return };
    info!(address = %bound.local_address(), "serving KEDA");
    tasks.spawn_once(bound.serve(keda::router(provider, clients.clone()), serving.clone()));
    let stop = stop.clone();
    tasks.spawn("authorities of KEDA", async move {
        stop.run_until_cancelled(follow(path, clients)).await;
    });
}

/// Keeps `clients` what the file says; never ends.
async fn follow(path: PathBuf, clients: Trust) {
    let mut seen = tokio::fs::read(&path).await.ok();
    loop {
        tokio::time::sleep(AUTHORITY_POLL).await;
        let now = tokio::fs::read(&path).await.ok();
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path).await {
            Ok(bundle) => {
                clients.replace(bundle);
                info!("authorities of KEDA reloaded");
            }
            Err(error) => warn!("authorities of KEDA not reloaded, the old ones stay: {error:#}"),
        }
    }
}

async fn read(path: &PathBuf) -> anyhow::Result<TrustBundle> {
    let pem = tokio::fs::read_to_string(path).await.with_context(|| format!("cannot read {}", path.display()))?;
    let authority =
        CertificateAuthority::from_pem(&pem).map_err(|reason| anyhow::anyhow!("{} {reason}", path.display()))?;
    Ok(TrustBundle { client: Some(authority), front_proxy: None })
}
