//! Identity handed on by a front proxy: kube-apiserver has authenticated the user and says so in headers.
//!
//! The headers are believed only from a peer whose certificate verifies under the front proxy's own authority *and* bears
//! an allowed name; anybody else's are ignored. Follows `k8s.io/apiserver`'s request header authenticator: the first
//! non-empty user name counts, all group headers are collected, extra keys are percent-decoded.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{CertificateAuthority, CertificateRejected, Identity};
use crate::serving::Peer;

/// Which front proxies are believed, and in which headers they speak.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Authorities of their certificates.
    pub authority: CertificateAuthority,
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
        if peer.certificates.is_empty() {
            return Ok(None);
        }
        let subject = self.authority.verify(&peer.certificates, now)?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&subject.common_name) {
            return Err(FrontProxyRejected::NotAllowed { common_name: subject.common_name.clone() });
        }
        Ok(first_value(headers, &self.username_headers).map(|user| Identity {
            user,
            groups: all_values(headers, &self.group_headers),
            uid: first_value(headers, &self.uid_headers),
            extra: self.extra(headers),
        }))
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for prefix in &self.extra_header_prefixes {
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
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
