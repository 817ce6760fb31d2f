//! The authorities certificates are checked against, as kube-apiserver publishes them.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use http::HeaderName;
use thiserror::Error;

use super::{CertificateAuthority, FrontProxy};

/// Authorities of users' certificates.
pub(super) const CLIENT_CA: &str = "client-ca-file";
/// How all keys about front proxies begin.
pub(super) const FRONT_PROXY: &str = "requestheader-";
/// Authorities of front proxies' certificates.
pub(super) const FRONT_PROXY_CA: &str = "requestheader-client-ca-file";
const ALLOWED_NAMES: &str = "requestheader-allowed-names";
const USERNAME_HEADERS: &str = "requestheader-username-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const UID_HEADERS: &str = "requestheader-uid-headers";
const EXTRA_HEADER_PREFIXES: &str = "requestheader-extra-headers-prefix";

/// What is trusted at the moment; clones share one state, which can be replaced under live connections.
#[derive(Clone, Debug, Default)]
pub struct Trust(Arc<ArcSwap<TrustBundle>>);

impl Trust {
    /// Trusts `bundle` until it is replaced.
    pub fn new(bundle: TrustBundle) -> Self {
        Self::from(Arc::new(bundle))
    }

    /// Trusts `bundle` from now on; requests on open connections are judged by it too.
    pub fn replace(&self, bundle: TrustBundle) {
        self.0.store(Arc::new(bundle));
    }

    /// What is trusted now.
    pub fn current(&self) -> Arc<TrustBundle> {
        self.0.load_full()
    }

    /// Whether `bundle` is what is trusted now; an equal one that replaced it is not.
    pub(super) fn is_current(&self, bundle: &Arc<TrustBundle>) -> bool {
        Arc::ptr_eq(&self.0.load(), bundle)
    }
}

impl From<Arc<TrustBundle>> for Trust {
    fn from(bundle: Arc<TrustBundle>) -> Self {
        Self(Arc::new(ArcSwap::new(bundle)))
    }
}

/// Authorities by what their certificates may do. The default trusts nobody.
#[derive(Clone, Debug, Default)]
pub struct TrustBundle {
    /// Signs certificates of users.
    pub client: Option<CertificateAuthority>,
    /// Signs certificates of front proxies.
    pub front_proxy: Option<FrontProxy>,
}

/// Which front proxies of an authority are believed, and in which headers they speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders {
    /// Common names they may have; empty allows any.
    pub allowed_names: Vec<String>,
    /// Headers with the user name.
    pub username_headers: Vec<HeaderName>,
    /// Headers with groups.
    pub group_headers: Vec<HeaderName>,
    /// Headers with the user's UID; not believed unless configured.
    pub uid_headers: Vec<HeaderName>,
    /// Prefixes, in lower case, of headers with extra information.
    pub extra_header_prefixes: Vec<String>,
}

/// Why the published authorities cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key} {reason}")]
pub struct TrustError {
    /// The key.
    pub key: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

impl TrustBundle {
    /// The authorities in `data` of ConfigMap `extension-apiserver-authentication`. Absent keys trust nobody.
    ///
    /// # Errors
    /// When a value cannot be read; it names the key.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        Self::read(data, None)
    }

    /// The authorities in `data`, and front proxies with `headers` if they are given, else with those in `data`.
    pub(super) fn read(data: &BTreeMap<String, String>, headers: Option<&RequestHeaders>) -> Result<Self, TrustError> {
        let front_proxy = match authority(data, FRONT_PROXY_CA)? {
            None => None,
            Some(authority) => {
                let headers = headers.cloned().map_or_else(|| RequestHeaders::from_config_map(data), Ok)?;
                Some(FrontProxy { authority, headers })
            }
        };
        Ok(Self { client: authority(data, CLIENT_CA)?, front_proxy })
    }
}

impl RequestHeaders {
    fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        Ok(Self {
            allowed_names: strings(data, ALLOWED_NAMES)?,
            username_headers: headers(data, USERNAME_HEADERS)?,
            group_headers: headers(data, GROUP_HEADERS)?,
            uid_headers: headers(data, UID_HEADERS)?,
            extra_header_prefixes: strings(data, EXTRA_HEADER_PREFIXES)?
                .into_iter()
                .map(|prefix| prefix.to_ascii_lowercase())
                .collect(),
        })
    }
}

fn authority(data: &BTreeMap<String, String>, key: &'static str) -> Result<Option<CertificateAuthority>, TrustError> {
    data.get(key)
        .filter(|pem| !pem.trim().is_empty())
        .map(|pem| CertificateAuthority::from_pem(pem).map_err(|reason| TrustError { key, reason }))
        .transpose()
}

/// A JSON array of strings, as kube-apiserver writes its lists.
fn strings(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, TrustError> {
    match data.get(key).map(|value| value.trim()) {
        None | Some("") => Ok(Vec::new()),
        Some(value) => serde_json::from_str(value)
            .map_err(|error| TrustError { key, reason: format!("is not a JSON array of strings: {error}") }),
    }
}

fn headers(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<HeaderName>, TrustError> {
    strings(data, key)?
        .into_iter()
        .map(|name| {
            HeaderName::try_from(&name)
                .map_err(|_| TrustError { key, reason: format!("holds {name:?}, which is not a header name") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn pem() -> String {
        rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn the_config_map_of_kubeadm_is_read_in_full() {
        let pem = pem();
        let bundle = TrustBundle::from_config_map(&data(&[
            ("client-ca-file", &pem),
            ("requestheader-client-ca-file", &pem),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]))
        .unwrap();
        assert!(bundle.client.is_some());
        let front_proxy = bundle.front_proxy.unwrap();
        assert_eq!(front_proxy.headers.allowed_names, ["front-proxy-client"]);
        assert_eq!(front_proxy.headers.username_headers, ["x-remote-user"]);
        assert_eq!(front_proxy.headers.group_headers, ["x-remote-group"]);
        assert_eq!(front_proxy.headers.extra_header_prefixes, ["x-remote-extra-"]);
        assert!(front_proxy.headers.uid_headers.is_empty(), "X-Remote-Uid is believed only when configured");
    }

    #[test]
    fn an_empty_config_map_trusts_nobody() {
        let bundle = TrustBundle::from_config_map(&data(&[("client-ca-file", " \n")])).unwrap();
        assert!(bundle.client.is_none() && bundle.front_proxy.is_none());
    }

    #[test]
    fn an_unusable_value_is_an_error_that_names_its_key() {
        let pem = pem();
        for (key, value) in [
            ("client-ca-file", "not PEM"),
            ("client-ca-file", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-username-headers", r#"["X Remote User"]"#),
            ("requestheader-group-headers", r#"{"a": 1}"#),
            ("requestheader-uid-headers", "[1]"),
            ("requestheader-extra-headers-prefix", "["),
        ] {
            let error = TrustBundle::from_config_map(&data(&[("requestheader-client-ca-file", &pem), (key, value)]))
                .unwrap_err();
            assert_eq!(error.key, key, "{value}");
        }
    }
}
