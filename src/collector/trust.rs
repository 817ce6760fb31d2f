//! HTTP clients with a trust of their own: authorities, identity and server name, made anew when the files behind them
//! change.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use rustls::crypto::CryptoProvider;

use super::{InvalidCollectorConfig, with_causes};
use crate::config::ServerTrust;

/// Clients for servers whose TLS files may be rotated.
pub(super) struct TrustedClients {
    trust: ServerTrust,
    /// Where the keys of the trust stand in the configuration.
    section: &'static str,
    /// A client without trust.
    builder: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    current: ArcSwap<Current>,
}

struct Current {
    /// What the files held when last looked at, whether or not it was usable.
    files: TlsFiles,
    /// What of the files is in use.
    used: TlsFiles,
    /// For every host; where a server name is set, for none.
    shared: Client,
    /// Where a server name is set, each host has its own: connections are kept by name.
    by_host: Mutex<HashMap<String, Client>>,
}

impl TrustedClients {
    /// Clients that `builder` begins, with the trust that stands in `section` of the configuration.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub(super) fn new(
        trust: ServerTrust,
        section: &'static str,
        builder: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Result<Self, InvalidCollectorConfig> {
        let builder = Box::new(builder);
        let files = TlsFiles::read(&trust, section)?;
        let current = Current::new(&files, &trust, section, builder())?;
        Ok(Self { trust, section, builder, current: ArcSwap::from_pointee(current) })
    }

    /// Takes up files that have changed. What cannot be used leaves what is in use in place: rotation may have been seen
    /// halfway. Whether there are new clients.
    pub(super) fn reload(&self) -> bool {
        let current = self.current.load();
        let (trust, section) = (&self.trust, self.section);
        let files = match TlsFiles::read(trust, section) {
            Ok(files) if files == current.files => return false,
            Ok(files) => files,
            Err(error) => {
                tracing::debug!(%error, "the TLS files cannot be read; keeping those in use");
                return false;
            }
        };
        let made = Current::new(&files, trust, section, (self.builder)());
        match made {
            Ok(next) => {
                tracing::info!(section, "the TLS files have changed and are in use");
                self.current.store(Arc::new(next));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the TLS files have changed but cannot be used; keeping the old ones");
                let kept = Current {
                    files,
                    used: current.used.clone(),
                    shared: current.shared.clone(),
                    by_host: Mutex::new(current.hosts().clone()),
                };
                self.current.store(Arc::new(kept));
                false
            }
        }
    }

    /// A client for `url`, and the URL to reach it by: that of the name which TLS verifies.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn reach(&self, url: &Url) -> Result<(Client, Url), String> {
        let current = self.current.load();
        let Some(name) = &self.trust.server_name else { return Ok((current.shared.clone(), url.clone())) };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let mut renamed = url.clone();
        let key = format!("{}.serverName", self.section);
        renamed.set_host(Some(name)).map_err(|error| format!("{key} {name:?}: {error}"))?;
        if let Some(client) = current.hosts().get(&host) {
            return Ok((client.clone(), renamed));
        }
        let resolver = ConnectTo { name: name.clone(), host: host.clone() };
        let builder = (self.builder)().dns_resolver(resolver);
        let client = build(&current.used, &self.trust, self.section, builder)?;
        current.hosts().insert(host, client.clone());
        Ok((client, renamed))
    }

    /// The client for every host. Not where a server name is set.
    pub(super) fn shared(&self) -> Option<Client> {
        self.trust.server_name.is_none().then(|| self.current.load().shared.clone())
    }
}

impl fmt::Debug for TrustedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedClients")
            .field("section", &self.section)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl Current {
    fn new(
        files: &TlsFiles,
        trust: &ServerTrust,
        section: &'static str,
        builder: ClientBuilder,
    ) -> Result<Self, InvalidCollectorConfig> {
        let shared = build(files, trust, section, builder)
            .map_err(|message| InvalidCollectorConfig::Client { section, message })?;
        Ok(Self { files: files.clone(), used: files.clone(), shared, by_host: Mutex::default() })
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Client>> {
        // Whole at any time: each is inserted at once.
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, PartialEq, Eq)]
struct TlsFiles {
    authorities: Option<Vec<u8>>,
    /// Certificate chain and key, one after the other.
    identity: Option<Vec<u8>>,
}

impl TlsFiles {
    fn read(trust: &ServerTrust, section: &str) -> Result<Self, InvalidCollectorConfig> {
        let file = |key, path: Option<&PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            std::fs::read(path).map(Some).map_err(|error| InvalidCollectorConfig::File {
                key: format!("{section}.{key}"),
                path: path.display().to_string(),
                message: error.to_string(),
            })
        };
        let identity = trust.client_certificate.as_ref();
        let certificate = file("clientCertPath", identity.map(|paths| &paths.certificate))?;
        let key = file("clientKeyPath", identity.map(|paths| &paths.key))?;
        Ok(Self {
            authorities: file("caCertPath", trust.ca_cert_path.as_ref())?,
            identity: certificate.zip(key).map(|(certificate, key)| [certificate, key].join(&b'\n')),
        })
    }
}

fn build(files: &TlsFiles, trust: &ServerTrust, section: &str, builder: ClientBuilder) -> Result<Client, String> {
    if CryptoProvider::get_default().is_none() {
        // reqwest would panic.
        return Err("no TLS provider is installed in this process".to_owned());
    }
    let mut builder = builder.tls_danger_accept_invalid_certs(trust.insecure_skip_verify);
    if let Some(pem) = &files.authorities {
        let authorities = Certificate::from_pem_bundle(pem).map_err(|error| with_causes(&error))?;
        if authorities.is_empty() {
            return Err(format!("the file of {section}.caCertPath holds no PEM certificate"));
        }
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(pem) = &files.identity {
        builder = builder.identity(Identity::from_pem(pem).map_err(|error| with_causes(&error))?);
    }
    builder.build().map_err(|error| with_causes(&error))
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
