//! Who may ask: the configuration as sources of trust, reviews and rules.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use http::HeaderName;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::{
    auth::{
        AuthMetrics, Authenticator, AuthorizationRules, Authorizer, FrontProxyFile, KubeAccessReviewer,
        KubeTokenReviewer, Lookup, RequestHeaders, TokenAuthenticator, TrustSources, watch_trust,
    },
    config::{AuthenticationSettings, AuthorizationSettings, Config, RequestHeaderSettings},
};

/// Who asks, as configured; follows the authorities until `stop`.
///
/// # Errors
/// When there is nothing to authenticate against.
pub(super) async fn authenticator(
    config: &Config,
    client: &Client,
    metrics: &AuthMetrics,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Authenticator> {
    let settings = &config.authentication;
    let client = of(settings.kubeconfig.as_deref(), client, "authentication.kubeconfig").await?;
    let (trust, follow) = watch_trust(client.clone(), sources(settings)?, stop.clone()).await?;
    tasks.spawn("trust watch", follow);
    let reviewer = KubeTokenReviewer::new(client).counted_by(metrics);
    let tokens = TokenAuthenticator::remembering(reviewer, settings.token_cache_ttl);
    Ok(Authenticator::new(trust, tokens).counted_by(metrics))
}

/// Who may do what, as configured.
///
/// # Errors
/// When the cluster that is to be asked cannot be.
pub(super) async fn authorizer(config: &Config, client: &Client, metrics: &AuthMetrics) -> anyhow::Result<Authorizer> {
    let AuthorizationSettings { kubeconfig, authorized_ttl, unauthorized_ttl, always_allow_paths } =
        config.authorization.clone();
    let client = of(kubeconfig.as_deref(), client, "authorization.kubeconfig").await?;
    let reviewer = KubeAccessReviewer::new(client).counted_by(metrics);
    let rules = AuthorizationRules { allowed_for: authorized_ttl, denied_for: unauthorized_ttl, always_allow_paths };
    Ok(Authorizer::by_rules(reviewer, rules))
}

/// A client of the cluster in `kubeconfig`, which the setting `key` names; `own` where there is none.
async fn of(kubeconfig: Option<&Path>, own: &Client, key: &str) -> anyhow::Result<Client> {
    let Some(path) = kubeconfig else { return Ok(own.clone()) };
    let problem = || format!("{key}: cannot use {} as the kubeconfig of a cluster", path.display());
    let read = Kubeconfig::read_from(path).with_context(problem)?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    Client::try_from(config.with_context(problem)?).with_context(problem)
}

fn sources(settings: &AuthenticationSettings) -> anyhow::Result<TrustSources> {
    let lookup = match settings {
        AuthenticationSettings { skip_lookup: true, .. } => Lookup::Skipped,
        AuthenticationSettings { tolerate_lookup_failure: true, .. } => Lookup::Tolerated,
        _ => Lookup::Required,
    };
    let front_proxy = settings.request_header.as_ref().map(front_proxy).transpose()?;
    Ok(TrustSources { client_ca_file: settings.client_ca_file.clone(), front_proxy, lookup })
}

fn front_proxy(settings: &RequestHeaderSettings) -> anyhow::Result<FrontProxyFile> {
    let client_ca_file: PathBuf = settings.client_ca_file.clone();
    let names =
        |names: &[String]| names.iter().map(|name| Ok(name.parse::<HeaderName>()?)).collect::<anyhow::Result<_>>();
    let headers = RequestHeaders {
        allowed_names: settings.allowed_names.clone(),
        username_headers: names(&settings.username_headers)?,
        group_headers: names(&settings.group_headers)?,
        uid_headers: names(&settings.uid_headers)?,
        extra_header_prefixes: settings.extra_headers_prefix.iter().map(|prefix| prefix.to_ascii_lowercase()).collect(),
    };
    Ok(FrontProxyFile { client_ca_file, headers })
}
