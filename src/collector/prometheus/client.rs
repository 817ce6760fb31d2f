//! The client of Prometheus' query API.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus_http_query::Client;
use reqwest::{Url, redirect};

use crate::{
    collector::{InvalidCollectorConfig, trust::TrustedClients, with_causes},
    config::PrometheusSettings,
};

/// Where the keys of Prometheus stand in the configuration.
const SECTION: &str = "prometheus";

/// A client for one server whose TLS files may be rotated.
pub(super) struct ReloadingClient {
    url: Url,
    clients: TrustedClients,
    current: ArcSwap<Client>,
}

impl ReloadingClient {
    pub(super) fn new(settings: &PrometheusSettings) -> Result<Self, InvalidCollectorConfig> {
        let url = settings.url.clone().ok_or(InvalidCollectorConfig::MissingUrl)?;
        let timeout = settings.query_timeout;
        let builder = move || {
            reqwest::Client::builder()
                .user_agent(concat!("wva/", env!("CARGO_PKG_VERSION")))
                // Leaves room for another attempt, perhaps at another address.
                .connect_timeout(timeout / 3)
                .pool_idle_timeout(Duration::from_secs(90))
                // A redirect is a login page or a wrong address; following it would take our headers elsewhere.
                .redirect(redirect::Policy::none())
        };
        let clients = TrustedClients::new(settings.trust.clone(), SECTION, builder)?;
        let client = client(&clients, &url)?;
        Ok(Self { url, clients, current: ArcSwap::from_pointee(client) })
    }

    /// The server's address as messages show it.
    pub(super) fn address(&self) -> &str {
        address(&self.url)
    }

    /// The client as of the last [`Self::reload`].
    pub(super) fn get(&self) -> Client {
        Client::clone(&self.current.load())
    }

    /// Makes a new client if a file has changed and can be used.
    pub(super) fn reload(&self) {
        if self.clients.reload() {
            match client(&self.clients, &self.url) {
                Ok(client) => self.current.store(Arc::new(client)),
                Err(error) => tracing::warn!(%error, "keeping the old client"),
            }
        }
    }
}

impl fmt::Debug for ReloadingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadingClient").field("clients", &self.clients).finish_non_exhaustive()
    }
}

fn client(clients: &TrustedClients, url: &Url) -> Result<Client, InvalidCollectorConfig> {
    let failed = |message| InvalidCollectorConfig::Client { section: SECTION, message };
    let (client, url) = clients.reach(url).map_err(failed)?;
    Client::from(client, address(&url)).map_err(|error| failed(with_causes(&error)))
}

/// Without the slash at the end: prometheus-http-query appends `/api/…` to a path as it stands.
fn address(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}
