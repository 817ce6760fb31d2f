//! Keeps a [`Trust`] equal to what kube-apiserver publishes and the configured files hold. Distributions rotate these
//! authorities as often as daily; a stale one turns every forwarded request into a 401 and takes the `APIService` down.

use std::{
    future::{Future, pending},
    pin::pin,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Lookup, Trust, TrustBundle, TrustError, TrustFileError, TrustSources,
    trust_sources::{Data, Given},
};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
/// How often files are compared with what is trusted.
const FILE_POLL: Duration = Duration::from_secs(10);

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
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] TrustFileError),
}

/// Reads the authorities of `sources`. Run the returned future to follow their changes until `shutdown`; what cannot be
/// used is logged, and the last good authorities stay.
///
/// # Errors
/// When they cannot be read or used at the start, unless that is tolerated.
pub async fn watch_trust(
    client: Client,
    sources: TrustSources,
    shutdown: CancellationToken,
) -> Result<(Trust, impl Future<Output = ()> + Send + 'static), TrustWatchError> {
    let given = sources.read().await?;
    let api = sources.need_lookup().then(|| Api::<ConfigMap>::namespaced(client, NAMESPACE));
    let (published, bundle) = match &api {
        None => (Data::new(), given.over(&Data::new())?),
        Some(api) => match look_up(api, &given).await {
            Err(error) if sources.lookup == Lookup::Tolerated => {
                tracing::warn!(%error, "going on without what kube-apiserver publishes: whom only that knows is refused");
                (Data::new(), given.over(&Data::new())?)
            }
            found => found?,
        },
    };
    if bundle.front_proxy.is_none() {
        tracing::warn!("no front proxy is trusted: requests through kube-apiserver will be refused");
    }
    let trust = Trust::new(bundle);
    let followed = Followed { trust: trust.clone(), sources, given, published };
    let follow = followed.follow(api);
    Ok((trust, async move { shutdown.run_until_cancelled(follow).await.unwrap_or_default() }))
}

async fn look_up(api: &Api<ConfigMap>, given: &Given) -> Result<(Data, TrustBundle), TrustWatchError> {
    let found = api.get_opt(NAME).await.map_err(|error| TrustWatchError::Read(Box::new(error)))?;
    let published = found.ok_or(TrustWatchError::Missing)?.data.unwrap_or_default();
    let bundle = given.over(&published)?;
    Ok((published, bundle))
}

/// What is trusted, and what that was made of.
struct Followed {
    trust: Trust,
    sources: TrustSources,
    /// The last good content of the files.
    given: Given,
    /// The last good content of the ConfigMap.
    published: Data,
}

impl Followed {
    async fn follow(mut self, api: Option<Api<ConfigMap>>) {
        let mut changes = match api {
            Some(api) => watcher::watch_object(api, NAME).default_backoff().boxed(),
            None => stream::pending().boxed(),
        };
        let mut ticks = interval(FILE_POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What failed last, so that it is told once.
        let mut told = None;
        loop {
            let has_files = self.sources.have_files();
            let tick = async {
                if has_files {
                    ticks.tick().await;
                } else {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => self.published(change),
                    None => return,
                },
                () = pin!(tick) => self.files(&mut told).await,
            }
        }
    }

    fn published(&mut self, change: Result<Option<ConfigMap>, watcher::Error>) {
        match change {
            Ok(Some(config_map)) => {
                let published = config_map.data.unwrap_or_default();
                match self.given.over(&published) {
                    Ok(bundle) => {
                        self.published = published;
                        self.trust(bundle);
                    }
                    Err(error) => {
                        tracing::error!(%error, "trusted certificate authorities not reloaded, the old ones stay");
                    }
                }
            }
            Ok(None) => tracing::error!("ConfigMap {NAMESPACE}/{NAME} was deleted, its last content stays trusted"),
            Err(error) => tracing::warn!(%error, "watch of ConfigMap {NAMESPACE}/{NAME} interrupted, retrying"),
        }
    }

    async fn files(&mut self, told: &mut Option<String>) {
        let bundle = match self.sources.read().await {
            Ok(given) if given == self.given => {
                *told = None;
                return;
            }
            Ok(given) => given.over(&self.published).map(|bundle| (given, bundle)).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match bundle {
            Ok((given, bundle)) => {
                self.given = given;
                *told = None;
                self.trust(bundle);
            }
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    tracing::error!(error, "trusted certificate authorities not reloaded, the old ones stay");
                }
                *told = Some(error);
            }
        }
    }

    fn trust(&self, bundle: TrustBundle) {
        self.trust.replace(bundle);
        tracing::info!("trusted certificate authorities loaded");
    }
}
