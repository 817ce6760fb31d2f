//! Keeps a [`Trust`] equal to what kube-apiserver publishes. Distributions rotate these authorities as often as daily;
//! a stale one turns every forwarded request into a 401 and takes the `APIService` down.

use std::{collections::BTreeMap, future::Future, pin::pin};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{Trust, TrustBundle, TrustError};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Why there is nothing to authenticate against.
#[derive(Debug, Error)]
pub enum TrustWatchError {
    /// The ConfigMap does not exist.
    #[error(
        "ConfigMap {NAMESPACE}/{NAME} does not exist: kube-apiserver publishes it when it runs with --client-ca-file \
         and --requestheader-client-ca-file"
    )]
    Missing,
    /// The ConfigMap cannot be read.
    #[error(
        "cannot read ConfigMap {NAMESPACE}/{NAME}: {0}; bind Role {NAMESPACE}/{NAME}-reader to the service account"
    )]
    Read(#[source] Box<kube::Error>),
    /// The ConfigMap cannot be used.
    #[error("ConfigMap {NAMESPACE}/{NAME}: {0}")]
    Unusable(#[from] TrustError),
}

/// Reads the published authorities. Run the returned future to follow their changes until `shutdown`; what cannot be used
/// is logged, and the last good authorities stay.
///
/// # Errors
/// When they cannot be read or used at the start.
pub async fn watch_trust(
    client: Client,
    shutdown: CancellationToken,
) -> Result<(Trust, impl Future<Output = ()> + Send + 'static), TrustWatchError> {
    let api = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    let config_map = api
        .get_opt(NAME)
        .await
        .map_err(|error| TrustWatchError::Read(Box::new(error)))?
        .ok_or(TrustWatchError::Missing)?;
    let bundle = parse(config_map)?;
    if bundle.front_proxy.is_none() {
        tracing::warn!("no front proxy is trusted: requests through kube-apiserver will be refused");
    }
    let trust = Trust::new(bundle);
    let follow = follow(api, trust.clone());
    Ok((trust, async move { shutdown.run_until_cancelled(follow).await.unwrap_or_default() }))
}

async fn follow(api: Api<ConfigMap>, trust: Trust) {
    let mut changes = pin!(watcher::watch_object(api, NAME).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(Some(config_map)) => match parse(config_map) {
                Ok(bundle) => {
                    trust.replace(bundle);
                    tracing::info!("trusted certificate authorities loaded");
                }
                Err(error) => {
                    tracing::error!(%error, "trusted certificate authorities not reloaded, the old ones stay")
                }
            },
            Ok(None) => tracing::error!("ConfigMap {NAMESPACE}/{NAME} was deleted, its last content stays trusted"),
            Err(error) => tracing::warn!(%error, "watch of ConfigMap {NAMESPACE}/{NAME} interrupted, retrying"),
        }
    }
}

fn parse(config_map: ConfigMap) -> Result<TrustBundle, TrustError> {
    TrustBundle::from_config_map(&config_map.data.unwrap_or_else(BTreeMap::new))
}
