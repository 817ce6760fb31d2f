//! Which certificate is served, and who keeps it.

use std::{net::SocketAddr, sync::Arc};

use kube::Client;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{DEFAULT_NAMESPACE, tasks::Tasks};
use crate::{
    authority::{Authority, AuthorityError, AuthorityOptions, Pair},
    clock::Clock,
    config::{Config, SniCertificatePaths, TlsVersion},
    constants::MetricsGroup,
    serving::{
        Bound, CertificateHandle, CertificateOfNames, CertificateSource, ServingMetrics, ServingOptions, TlsOptions,
        default_certificate_names,
    },
};

/// Name of our Service.
const SERVICE: &str = "wva";

/// Our own authority, where the configuration asks for one.
///
/// # Errors
/// When its Secret cannot be read or written.
pub(super) async fn own_authority(
    config: &Config,
    client: &Client,
    clock: Arc<dyn Clock>,
) -> Result<Option<Authority>, AuthorityError> {
    // A certificate from files goes first.
    let (Some(secret), None) = (&config.server.certificate_secret, &config.server.tls) else { return Ok(None) };
    let options = AuthorityOptions {
        namespace: namespace(config).to_owned(),
        secret: secret.clone(),
        service: SERVICE.to_owned(),
        names: names(config),
        validity: config.server.certificate_validity,
        api_services: config
            .server
            .groups
            .iter()
            .flat_map(|group| api_services(*group))
            .map(|name| (*name).to_owned())
            .collect(),
    };
    Authority::open(client.clone(), options, clock).await.map(Some)
}

/// Where to listen and what to serve there.
pub(super) fn serving_options(
    config: &Config,
    authority: Option<&Authority>,
    metrics: &ServingMetrics,
) -> ServingOptions {
    let server = &config.server;
    let certificate = match (&server.tls, authority) {
        (Some(pair), _) => CertificateSource::Files { certificate: pair.certificate.clone(), key: pair.key.clone() },
        (None, Some(authority)) => {
            let pair = authority.serving();
            CertificateSource::Pem { certificate: pair.certificate.clone(), key: pair.key.clone() }
        }
        (None, None) => CertificateSource::SelfSigned { names: names(config) },
    };
    let mut options = ServingOptions::new(SocketAddr::new(server.bind_address, server.port), certificate);
    options.grace_period = server.shutdown_grace;
    options.named_certificates = server.transport.sni.iter().map(of_names).collect();
    options.tls = TlsOptions {
        only_tls13: server.transport.min_version == TlsVersion::Tls13,
        cipher_suites: server.transport.cipher_suites.clone(),
        key_exchanges: server.transport.curve_preferences.clone(),
    };
    options.disable_http2 = server.disable_http2;
    options.limits.max_concurrent_streams = server.http2_max_streams;
    options.metrics = metrics.clone();
    options
}

fn of_names(paths: &SniCertificatePaths) -> CertificateOfNames {
    let SniCertificatePaths { certificate, key, domains } = paths.clone();
    CertificateOfNames { certificate, key, names: domains }
}

/// Keeps the certificate of all `listeners` the authority's current one, where there is an authority.
pub(super) fn keep<'a>(
    authority: Option<Authority>,
    listeners: impl Iterator<Item = &'a Bound>,
    tasks: &Tasks,
    stop: &CancellationToken,
) {
    let Some(authority) = authority else { return };
    let listeners: Vec<CertificateHandle> = listeners.map(Bound::certificate).collect();
    let install = move |pair: &Pair| {
        for listener in &listeners {
            match listener.replace(&pair.certificate, &pair.key) {
                Ok(()) => info!("serving certificate replaced"),
                Err(error) => warn!(%error, "serving certificate not replaced, the old one stays"),
            }
        }
    };
    tasks.spawn("serving certificate", authority.run(install, stop.clone()));
}

/// Names of the `APIService`s of a group.
fn api_services(group: MetricsGroup) -> &'static [&'static str] {
    match group {
        MetricsGroup::External => &["v1beta1.external.metrics.k8s.io"],
        MetricsGroup::Custom => &["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"],
        MetricsGroup::Own => &["v1beta1.external.metrics.llmd.ai"],
    }
}

/// The namespace of everything that is ours.
pub(super) fn namespace(config: &Config) -> &str {
    config.pod_namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
}

fn names(config: &Config) -> Vec<String> {
    let mut names = default_certificate_names(namespace(config));
    names.push("127.0.0.1".to_owned());
    names
}
