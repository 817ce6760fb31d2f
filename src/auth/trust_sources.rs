//! Where trusted authorities come from: files that the configuration names, and for what they leave open the ConfigMap that
//! kube-apiserver publishes. The rules are those of `k8s.io/apiserver`: the authority of users and what is known of front
//! proxies are two items, and of each the one that is given counts alone.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::trust::{CLIENT_CA, FRONT_PROXY, FRONT_PROXY_CA, RequestHeaders, TrustBundle, TrustError};

/// Data of a ConfigMap, by key.
pub(super) type Data = BTreeMap<String, String>;

/// What is trusted instead of what kube-apiserver publishes, and whether that is looked up at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustSources {
    /// PEM file of the authorities of users' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Front proxies.
    pub front_proxy: Option<FrontProxyFile>,
    /// The ConfigMap of kube-apiserver.
    pub lookup: Lookup,
}

/// Front proxies of an authority in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxyFile {
    /// PEM file of their authorities.
    pub client_ca_file: PathBuf,
    /// Their names and headers.
    pub headers: RequestHeaders,
}

/// Whether the ConfigMap of kube-apiserver is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// It must be there.
    #[default]
    Required,
    /// It may come later: until then, nobody is known by what it would say.
    Tolerated,
    /// It is left alone.
    Skipped,
}

/// Why a file of authorities cannot be used.
#[derive(Debug, Error)]
pub enum TrustFileError {
    /// It cannot be read.
    #[error("cannot read {path}, the file of {key}: {source}; check that it is mounted and readable")]
    Read {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It holds no authority.
    #[error("{path}, the file of {key}, {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// Why.
        reason: String,
    },
}

impl TrustSources {
    /// Whether there is anything to look up in the ConfigMap.
    pub(super) fn need_lookup(&self) -> bool {
        self.lookup != Lookup::Skipped && (self.client_ca_file.is_none() || self.front_proxy.is_none())
    }

    /// Whether there are files that may change.
    pub(super) fn have_files(&self) -> bool {
        self.client_ca_file.is_some() || self.front_proxy.is_some()
    }

    /// What the files hold now.
    ///
    /// # Errors
    /// When one cannot be read or used.
    pub(super) async fn read(&self) -> Result<Given, TrustFileError> {
        let mut given = Given { client: self.client_ca_file.is_some(), front_proxy: None, data: Data::new() };
        let front_proxy = self.front_proxy.as_ref();
        let files =
            [(CLIENT_CA, &self.client_ca_file), (FRONT_PROXY_CA, &front_proxy.map(|of| of.client_ca_file.clone()))];
        for (key, path) in files {
            let Some(path) = path else { continue };
            given.data.insert(key.to_owned(), read(key, path).await?);
        }
        given.front_proxy = front_proxy.map(|of| of.headers.clone());
        given.check(self)?;
        Ok(given)
    }

    fn path_of(&self, key: &'static str) -> PathBuf {
        let front_proxy = self.front_proxy.as_ref().map(|of| &of.client_ca_file);
        let path = if key == CLIENT_CA { self.client_ca_file.as_ref() } else { front_proxy };
        path.cloned().unwrap_or_default()
    }
}

/// What files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    client: bool,
    front_proxy: Option<RequestHeaders>,
    data: Data,
}

impl Given {
    /// What is trusted by this and, for the items that it leaves open, by `published`.
    ///
    /// # Errors
    /// When a value cannot be used.
    pub(super) fn over(&self, published: &Data) -> Result<TrustBundle, TrustError> {
        let is_open = |key: &str| if key.starts_with(FRONT_PROXY) { self.front_proxy.is_none() } else { !self.client };
        let mut data: Data = published.iter().filter(|(key, _)| is_open(key)).map(owned).collect();
        data.extend(self.data.iter().map(owned));
        match &self.front_proxy {
            Some(headers) => TrustBundle::read(&data, Some(headers)),
            None => TrustBundle::from_config_map(&data),
        }
    }

    fn check(&self, sources: &TrustSources) -> Result<(), TrustFileError> {
        let unusable =
            |TrustError { key, reason }| TrustFileError::Unusable { path: sources.path_of(key), key, reason };
        let empty = self.data.iter().find(|(_, pem)| pem.trim().is_empty());
        if let Some((key, _)) = empty {
            let key = if key == CLIENT_CA { CLIENT_CA } else { FRONT_PROXY_CA };
            return Err(unusable(TrustError { key, reason: "is empty".to_owned() }));
        }
        self.over(&Data::new()).map(drop).map_err(unusable)
    }
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

async fn read(key: &'static str, path: &Path) -> Result<String, TrustFileError> {
    tokio::fs::read_to_string(path).await.map_err(|source| TrustFileError::Read { path: path.into(), key, source })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use rustls_pki_types::UnixTime;
    use tempfile::TempDir;

    use super::*;
    use crate::auth::test_authority::{Authority, peer};

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn file(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    fn headers(user: &'static str) -> RequestHeaders {
        RequestHeaders {
            allowed_names: vec!["gateway".to_owned()],
            username_headers: vec![HeaderName::from_static(user)],
            ..RequestHeaders::default()
        }
    }

    fn published(client: &Authority, proxy: &Authority) -> Data {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Data::from([
            entry(CLIENT_CA, &client.pem),
            entry(FRONT_PROXY_CA, &proxy.pem),
            entry("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            entry("requestheader-username-headers", r#"["X-Remote-User"]"#),
            entry("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
        ])
    }

    fn trusts_user(bundle: &TrustBundle, authority: &Authority) -> bool {
        let chain = [authority.client("bob", None)].into_iter().collect();
        bundle.client.as_ref().is_some_and(|client| client.verify(&chain, UnixTime::now()).is_ok())
    }

    fn trusts_proxy(bundle: &TrustBundle, authority: &Authority, name: &str) -> bool {
        let peer = peer([authority.client(name, None)]);
        bundle.front_proxy.as_ref().is_some_and(|proxy| proxy.vouches(&peer, UnixTime::now()).is_ok())
    }

    #[tokio::test]
    async fn of_each_item_what_is_given_counts_alone_and_what_is_not_is_looked_up() {
        let place = Place::new();
        let [cluster, proxy, own, gateway] = ["cluster", "proxy", "own", "gateway"].map(Authority::new);
        let published = published(&cluster, &proxy);

        let client_ca_file = Some(place.file("client.pem", &own.pem));
        let client_only = TrustSources { client_ca_file: client_ca_file.clone(), ..TrustSources::default() };
        let bundle = client_only.read().await.unwrap().over(&published).unwrap();
        assert!(trusts_user(&bundle, &own) && !trusts_user(&bundle, &cluster));
        assert!(trusts_proxy(&bundle, &proxy, "front-proxy-client"), "front proxies are looked up");
        assert!(client_only.need_lookup());

        let client_ca = place.file("proxy.pem", &gateway.pem);
        let front_proxy = Some(FrontProxyFile { client_ca_file: client_ca, headers: headers("x-user") });
        let both = TrustSources { client_ca_file, front_proxy: front_proxy.clone(), lookup: Lookup::Required };
        assert!(!both.need_lookup());
        let proxy_only = TrustSources { front_proxy, ..TrustSources::default() };
        let bundle = proxy_only.read().await.unwrap().over(&published).unwrap();
        assert!(trusts_user(&bundle, &cluster) && !trusts_user(&bundle, &own));
        assert!(trusts_proxy(&bundle, &gateway, "gateway"));
        assert!(!trusts_proxy(&bundle, &gateway, "front-proxy-client"), "the names are the given ones");
        assert!(!trusts_proxy(&bundle, &proxy, "front-proxy-client"));
        let front_proxy = bundle.front_proxy.unwrap();
        assert_eq!(front_proxy.headers.username_headers, ["x-user"]);
        assert!(front_proxy.headers.uid_headers.is_empty(), "no header is looked up beside a given authority");
    }

    #[tokio::test]
    async fn nothing_given_is_what_is_published_and_nothing_at_all_trusts_nobody() {
        let [cluster, proxy] = ["cluster", "proxy"].map(Authority::new);
        let nothing = TrustSources::default().read().await.unwrap();
        let bundle = nothing.over(&published(&cluster, &proxy)).unwrap();
        assert!(trusts_user(&bundle, &cluster) && trusts_proxy(&bundle, &proxy, "front-proxy-client"));
        let bundle = nothing.over(&Data::new()).unwrap();
        assert!(bundle.client.is_none() && bundle.front_proxy.is_none());
        assert!(!TrustSources { lookup: Lookup::Skipped, ..TrustSources::default() }.need_lookup());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_with_its_setting() {
        let place = Place::new();
        let absent = place.0.path().join("absent.pem");
        for (path, expected) in [
            (absent, "cannot read"),
            (place.file("garbage.pem", "garbage"), "holds no usable certificate"),
            (place.file("empty.pem", " \n"), "is empty"),
        ] {
            let client = TrustSources { client_ca_file: Some(path.clone()), ..TrustSources::default() };
            let proxy = FrontProxyFile { client_ca_file: path.clone(), headers: RequestHeaders::default() };
            let proxy = TrustSources { front_proxy: Some(proxy), ..TrustSources::default() };
            for (sources, key) in [(client, CLIENT_CA), (proxy, FRONT_PROXY_CA)] {
                let error = sources.read().await.unwrap_err().to_string();
                let names = [expected, key, path.file_name().unwrap().to_str().unwrap()];
                assert!(names.iter().all(|name| error.contains(name)), "{error}");
            }
        }
    }
}
