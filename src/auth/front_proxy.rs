//! Identity handed on by a front proxy: kube-apiserver has authenticated the user and says so in headers.
//!
//! The headers are believed only from a peer whose certificate verifies under the front proxy's own authority *and* bears
//! an allowed name; anybody else's are ignored. Follows `k8s.io/apiserver`'s request header authenticator: the first
//! non-empty user name counts, all group headers are collected, extra keys are percent-decoded.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{CertificateAuthority, CertificateRejected, Identity, RequestHeaders, Subject};
use crate::serving::Peer;

/// Front proxies that are believed.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Authorities of their certificates.
    pub authority: CertificateAuthority,
    /// Their names, and the headers in which they speak.
    pub headers: RequestHeaders,
}

/// Why a front proxy is not believed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FrontProxyRejected {
    /// Its certificate does not verify.
    #[error("front proxy: {0}")]
    Certificate(#[from] CertificateRejected),
    /// Its certificate is valid, but names somebody else.
    #[error(
        "front proxy: certificate of {common_name:?} is valid, but that name is not in requestheader-allowed-names"
    )]
    NotAllowed {
        /// The name.
        common_name: String,
    },
}

impl FrontProxy {
    /// The identity `peer` vouches for; `None` when it sent no certificate or names no user, so that the next
    /// authenticator may try.
    ///
    /// # Errors
    /// When the peer's certificate is not that of a front proxy.
    pub fn identify(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Option<Identity>, FrontProxyRejected> {
        Ok(self.passed_on(peer, headers, now)?.map(|(identity, _)| identity))
    }

    /// As [`Self::identify`], with what is known of the front proxy's certificate.
    pub(super) fn passed_on(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Option<(Identity, Arc<Subject>)>, FrontProxyRejected> {
        if peer.certificates.is_empty() {
            return Ok(None);
        }
        let subject = self.vouches(peer, now)?;
        let Some(user) = first_value(headers, &self.headers.username_headers) else { return Ok(None) };
        let identity = Identity {
            user,
            groups: all_values(headers, &self.headers.group_headers),
            uid: first_value(headers, &self.headers.uid_headers),
            extra: self.extra(headers),
        };
        Ok(Some((identity, subject)))
    }

    /// What the certificate of `peer` says, if it may speak for others.
    ///
    /// # Errors
    /// When its certificate is not that of a front proxy.
    pub fn vouches(&self, peer: &Peer, now: UnixTime) -> Result<Arc<Subject>, FrontProxyRejected> {
        let subject = self.authority.verify(&peer.certificates, now)?;
        let allowed = &self.headers.allowed_names;
        if !allowed.is_empty() && !allowed.contains(&subject.common_name) {
            return Err(FrontProxyRejected::NotAllowed { common_name: subject.common_name.clone() });
        }
        Ok(subject)
    }

    /// Whether it tells anything of a user in the header `name`.
    pub(super) fn speaks_in(&self, name: &HeaderName) -> bool {
        let RequestHeaders { username_headers, group_headers, uid_headers, extra_header_prefixes, .. } = &self.headers;
        let mut names = username_headers.iter().chain(group_headers).chain(uid_headers);
        names.any(|of| of == name) || extra_header_prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for prefix in &self.headers.extra_header_prefixes {
            for (name, value) in headers {
                // Header names are in lower case already.
                if let Some(key) = name.as_str().strip_prefix(prefix.as_str()) {
                    extra.entry(decoded(key)).or_default().push(text(value));
                }
            }
        }
        extra
    }
}

fn first_value(headers: &HeaderMap, names: &[HeaderName]) -> Option<String> {
    names.iter().filter_map(|name| headers.get(name)).map(text).find(|value| !value.is_empty())
}

fn all_values(headers: &HeaderMap, names: &[HeaderName]) -> Vec<String> {
    names.iter().flat_map(|name| headers.get_all(name)).map(text).filter(|value| !value.is_empty()).collect()
}

/// A malformed key is kept as it is, as upstream does.
fn decoded(key: &str) -> String {
    let escaped = |escape: &str| escape.len() >= 2 && escape.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !key.split('%').skip(1).all(escaped) {
        return key.to_owned();
    }
    percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), Into::into)
}

fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::auth::test_authority::{Authority, peer};

    fn front_proxy(authority: &Authority) -> FrontProxy {
        FrontProxy {
            authority: CertificateAuthority::from_pem(&authority.pem).unwrap(),
            headers: RequestHeaders {
                allowed_names: vec!["front-proxy-client".to_owned()],
                username_headers: vec![HeaderName::from_static("x-remote-user"), HeaderName::from_static("x-user")],
                group_headers: vec![HeaderName::from_static("x-remote-group")],
                uid_headers: Vec::new(),
                extra_header_prefixes: vec!["x-remote-extra-".to_owned()],
            },
        }
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn nobody_but_a_front_proxy_is_believed() {
        let (ours, other) = (Authority::new("front-proxy-ca"), Authority::new("front-proxy-ca"));
        let front_proxy = front_proxy(&ours);
        let root = headers(&[("x-remote-user", "root"), ("x-remote-group", "system:masters")]);
        for (who, certificates) in [
            ("an authority of the same name but another key", vec![other.client("front-proxy-client", None)]),
            ("an expired certificate", vec![ours.expired("front-proxy-client")]),
            ("a server's certificate", vec![ours.server("front-proxy-client")]),
            ("a name that is not allowed", vec![ours.client("kubelet", None)]),
            ("a nameless certificate", vec![ours.client("", Some("front-proxy-client"))]),
            ("a name in another case", vec![ours.client("Front-Proxy-Client", None)]),
            (
                "a foreign certificate followed by a front proxy's",
                vec![other.client("eve", None), ours.client("front-proxy-client", None)],
            ),
            ("no certificate at all, but bytes", vec![CertificateDer::from(vec![0x30, 0x00])]),
        ] {
            let outcome = front_proxy.identify(&peer(certificates), &root, UnixTime::now());
            assert!(outcome.is_err(), "{who}: {outcome:?}");
        }
        assert_eq!(front_proxy.identify(&peer([]), &root, UnixTime::now()), Ok(None), "without a certificate");
    }

    #[test]
    fn an_accepted_certificate_is_not_taken_for_another_one() {
        let (ours, other) = (Authority::new("front-proxy-ca"), Authority::new("other"));
        let front_proxy = front_proxy(&ours);
        let alice = headers(&[("x-remote-user", "alice")]);
        for _ in 0..2 {
            let good = peer([ours.client("front-proxy-client", None)]);
            assert!(front_proxy.identify(&good, &alice, UnixTime::now()).unwrap().is_some());
            assert!(front_proxy.identify(&good, &alice, UnixTime::now()).unwrap().is_some());
            let bad = peer([other.client("front-proxy-client", None)]);
            assert!(front_proxy.identify(&bad, &alice, UnixTime::now()).is_err());
        }
    }

    #[test]
    fn any_name_will_do_when_none_is_listed() {
        let authority = Authority::new("front-proxy-ca");
        let mut front_proxy = front_proxy(&authority);
        front_proxy.headers.allowed_names.clear();
        let peer = peer([authority.client("aggregator", None)]);
        let identity = front_proxy.identify(&peer, &headers(&[("x-remote-user", "alice")]), UnixTime::now());
        assert_eq!(identity.unwrap().unwrap().user, "alice");
    }

    #[test]
    fn headers_are_read_as_upstream_reads_them() {
        let authority = Authority::new("front-proxy-ca");
        let front_proxy = front_proxy(&authority);
        let peer = peer([authority.client("front-proxy-client", None)]);
        for (given, expected) in [
            (vec![], None),
            (vec![("x-remote-group", "system:masters")], None),
            (vec![("x-remote-user", "")], None),
            (vec![("x-remote-user", "alice")], Some(Identity::new("alice", [""; 0]))),
            (vec![("x-remote-user", "alice"), ("x-remote-user", "eve")], Some(Identity::new("alice", [""; 0]))),
            (vec![("x-remote-user", ""), ("x-user", "bob")], Some(Identity::new("bob", [""; 0]))),
            (
                vec![
                    ("x-remote-user", "alice"),
                    ("x-remote-group", "a"),
                    ("x-remote-group", ""),
                    ("x-remote-group", "b"),
                ],
                Some(Identity::new("alice", ["a", "b"])),
            ),
            (vec![("x-remote-user", "alice"), ("x-remote-uid", "42")], Some(Identity::new("alice", [""; 0]))),
            (
                vec![
                    ("x-remote-user", "alice"),
                    ("x-remote-extra-authentication.kubernetes.io%2fcredential-id", "JTI=1"),
                    ("x-remote-extra-bad%zz", "kept%2f"),
                    ("x-remote-extra-scopes", "a"),
                    ("x-remote-extra-scopes", "b"),
                ],
                Some(Identity {
                    extra: BTreeMap::from([
                        ("authentication.kubernetes.io/credential-id".to_owned(), vec!["JTI=1".to_owned()]),
                        ("bad%zz".to_owned(), vec!["kept%2f".to_owned()]),
                        ("scopes".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
                    ]),
                    ..Identity::new("alice", [""; 0])
                }),
            ),
        ] {
            assert_eq!(front_proxy.identify(&peer, &headers(&given), UnixTime::now()), Ok(expected), "{given:?}");
        }
    }

    #[test]
    fn the_uid_is_believed_when_its_header_is_configured() {
        let authority = Authority::new("front-proxy-ca");
        let mut front_proxy = front_proxy(&authority);
        front_proxy.headers.uid_headers.push(HeaderName::from_static("x-remote-uid"));
        let peer = peer([authority.client("front-proxy-client", None)]);
        let headers = headers(&[("x-remote-user", "alice"), ("x-remote-uid", "42")]);
        let identity = front_proxy.identify(&peer, &headers, UnixTime::now()).unwrap().unwrap();
        assert_eq!(identity.uid.as_deref(), Some("42"));
    }
}
