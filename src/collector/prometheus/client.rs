//! The HTTP client: trust, identity and server name, made anew when the files behind them change.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus_http_query::Client;
use reqwest::{
    Certificate, Identity, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use rustls::crypto::CryptoProvider;

use crate::{
    collector::{InvalidCollectorConfig, with_causes},
    config::PrometheusSettings,
};

/// A client for one server whose TLS files may be rotated.
pub(super) struct ReloadingClient {
    settings: PrometheusSettings,
    url: Url,
    current: ArcSwap<Current>,
}

struct Current {
    client: Client,
    /// What the files held when last looked at, whether or not it was usable.
    files: TlsFiles,
}

impl ReloadingClient {
    pub(super) fn new(settings: &PrometheusSettings) -> Result<Self, InvalidCollectorConfig> {
        let url = settings.url.clone().ok_or(InvalidCollectorConfig::MissingUrl)?;
        let files = TlsFiles::read(settings)?;
        let client = build(settings, &url, &files)?;
        Ok(Self { settings: settings.clone(), url, current: ArcSwap::from_pointee(Current { client, files }) })
    }

    /// The server's address as messages show it.
    pub(super) fn address(&self) -> &str {
        address(&self.url)
    }

    /// The client as of the last [`Self::reload`].
    pub(super) fn get(&self) -> Client {
        self.current.load().client.clone()
    }

    /// Makes a new client if a file has changed. What cannot be used leaves the old client in place: rotation may have
    /// been seen halfway.
    pub(super) fn reload(&self) {
        let current = self.current.load();
        let files = match TlsFiles::read(&self.settings) {
            Ok(files) if files == current.files => return,
            Ok(files) => files,
            Err(error) => return tracing::debug!(%error, "the TLS files cannot be read; keeping those in use"),
        };
        let client = match build(&self.settings, &self.url, &files) {
            Ok(client) => {
                tracing::info!(server = self.address(), "the TLS files have changed and are in use");
                client
            }
            Err(error) => {
                tracing::warn!(%error, "the TLS files have changed but cannot be used; keeping the old ones");
                current.client.clone()
            }
        };
        self.current.store(Arc::new(Current { client, files }));
    }
}

impl fmt::Debug for ReloadingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadingClient").field("address", &self.address()).finish_non_exhaustive()
    }
}

#[derive(PartialEq, Eq)]
struct TlsFiles {
    authorities: Option<Vec<u8>>,
    /// Certificate chain and key, one after the other.
    identity: Option<Vec<u8>>,
}

impl TlsFiles {
    fn read(settings: &PrometheusSettings) -> Result<Self, InvalidCollectorConfig> {
        let file = |key, path: Option<&PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            std::fs::read(path).map(Some).map_err(|error| InvalidCollectorConfig::File {
                key,
                path: path.display().to_string(),
                message: error.to_string(),
            })
        };
        let identity = settings.client_certificate.as_ref();
        let certificate = file("prometheus.clientCertPath", identity.map(|paths| &paths.certificate))?;
        let key = file("prometheus.clientKeyPath", identity.map(|paths| &paths.key))?;
        Ok(Self {
            authorities: file("prometheus.caCertPath", settings.ca_cert_path.as_ref())?,
            identity: certificate.zip(key).map(|(certificate, key)| [certificate, key].join(&b'\n')),
        })
    }
}

fn build(settings: &PrometheusSettings, url: &Url, files: &TlsFiles) -> Result<Client, InvalidCollectorConfig> {
    let failed = |message: String| InvalidCollectorConfig::Client { url: address(url).to_owned(), message };
    if CryptoProvider::get_default().is_none() {
        // reqwest would panic.
        return Err(failed("no TLS provider is installed in this process".to_owned()));
    }
    let mut url = url.clone();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("wva/", env!("CARGO_PKG_VERSION")))
        // Leaves room for another attempt, perhaps at another address.
        .connect_timeout(settings.query_timeout / 3)
        .pool_idle_timeout(Duration::from_secs(90))
        // A redirect is a login page or a wrong address; following it would take our headers elsewhere.
        .redirect(redirect::Policy::none())
        .tls_danger_accept_invalid_certs(settings.insecure_skip_verify);
    if let Some(pem) = &files.authorities {
        let authorities = Certificate::from_pem_bundle(pem).map_err(|error| failed(with_causes(&error)))?;
        if authorities.is_empty() {
            return Err(failed("the file of prometheus.caCertPath holds no PEM certificate".to_owned()));
        }
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(pem) = &files.identity {
        builder = builder.identity(Identity::from_pem(pem).map_err(|error| failed(with_causes(&error)))?);
    }
    if let Some(name) = &settings.server_name {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        builder = builder.dns_resolver(ConnectTo { name: name.clone(), host });
        url.set_host(Some(name)).map_err(|error| failed(format!("prometheus.serverName {name:?}: {error}")))?;
    }
    let client = builder.build().map_err(|error| failed(with_causes(&error)))?;
    Client::from(client, address(&url)).map_err(|error| failed(with_causes(&error)))
}

/// Without the slash at the end: prometheus-http-query appends `/api/…` to a path as it stands.
fn address(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// Finds the server of one `name` at another `host`, so that the name is what TLS verifies.
struct ConnectTo {
    name: String,
    host: String,
}

impl Resolve for ConnectTo {
    fn resolve(&self, name: Name) -> Resolving {
        // Other names are those of proxies.
        let host = if name.as_str() == self.name { self.host.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
