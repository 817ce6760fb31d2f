//! Who is asking: the authenticators, in the order of `k8s.io/apiserver`.

use std::{fmt, sync::Arc};

use http::HeaderMap;
use rustls_pki_types::UnixTime;
use thiserror::Error;
use tokio::time::Instant;

use super::{
    AuthMetrics, CertificateRejected, FrontProxyRejected, Identity, Subject, TokenAuthenticator, TokenRejected, Trust,
    TrustBundle, Vouched,
};
use crate::serving::Peer;

/// Finds out who a request is from.
#[derive(Clone, Debug)]
pub struct Authenticator {
    trust: Trust,
    tokens: TokenAuthenticator,
    metrics: AuthMetrics,
}

/// Who a request is from.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who.
    pub identity: Arc<Identity>,
    /// By which certificate and headers, where that may be kept. Tokens are not: their verdicts have a cache of their own.
    pub vouched: Option<Vouched>,
}

/// Credentials were presented, and none of them is valid. One line per credential, for the log: the caller learns only
/// `Unauthorized`.
#[derive(Clone, Debug, Error, PartialEq)]
pub struct Unauthenticated(pub Vec<Rejection>);

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&reasons.join("; "))
    }
}

/// Why one credential is not valid.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Rejection {
    /// As a front proxy.
    #[error(transparent)]
    FrontProxy(#[from] FrontProxyRejected),
    /// As a user's certificate.
    #[error(transparent)]
    ClientCertificate(#[from] CertificateRejected),
    /// As a bearer token.
    #[error(transparent)]
    Token(#[from] TokenRejected),
}

impl Authenticator {
    /// Checks certificates against `trust` and bearer tokens with `tokens`.
    pub fn new(trust: Trust, tokens: TokenAuthenticator) -> Self {
        Self { trust, tokens, metrics: AuthMetrics::default() }
    }

    /// The same, counted by `metrics`.
    #[must_use]
    pub fn counted_by(self, metrics: &AuthMetrics) -> Self {
        let tokens = self.tokens.counted_by(metrics);
        Self { tokens, metrics: metrics.clone(), ..self }
    }

    /// Who a request with `headers` from `peer` (`None`: not over TLS) is from. The first valid credential counts, even
    /// after invalid ones; a request without any is anonymous.
    ///
    /// # Errors
    /// When it has credentials, but none that is valid.
    pub async fn authenticate(
        &self,
        peer: Option<&Peer>,
        headers: &HeaderMap,
    ) -> Result<Authenticated, Unauthenticated> {
        let mut rejections = Vec::new();
        let by_certificate = self.by_certificate(peer, headers, &mut rejections);
        let found = match by_certificate {
            Some((identity, vouched)) => Some((identity, vouched)),
            None => keep(self.tokens.identify(headers).await, &mut rejections).map(|identity| (identity, None)),
        };
        let (identity, vouched) = match found {
            Some((identity, vouched)) => {
                self.metrics.authenticated(&identity.user);
                (identity.authenticated(), vouched)
            }
            None if rejections.is_empty() => (Identity::anonymous(), None),
            None => return Err(Unauthenticated(rejections)),
        };
        Ok(Authenticated { identity: Arc::new(identity), vouched })
    }

    /// Whether a request with `headers` is from `identity`, whom `vouched` was kept of on the same connection. If so, it is
    /// counted as by [`Self::authenticate`]; if not, that must look.
    pub fn recognises(&self, vouched: &Vouched, identity: &Identity, headers: &HeaderMap, now: Instant) -> bool {
        let date = UnixTime::now();
        let Some(subject) = vouched.holds(&self.trust, headers, now, date) else { return false };
        self.metrics.certificate(subject.remaining(date));
        self.metrics.authenticated(&identity.user);
        true
    }

    /// Whether `peer` is a front proxy, which passes on the requests of others.
    pub fn is_front_proxy(&self, peer: &Peer) -> bool {
        let trust = self.trust.current();
        trust.front_proxy.as_ref().is_some_and(|front_proxy| front_proxy.vouches(peer, UnixTime::now()).is_ok())
    }

    fn by_certificate(
        &self,
        peer: Option<&Peer>,
        headers: &HeaderMap,
        rejections: &mut Vec<Rejection>,
    ) -> Option<(Identity, Option<Vouched>)> {
        let peer = peer.filter(|peer| !peer.certificates.is_empty())?;
        let trust = self.trust.current();
        let now = UnixTime::now();
        if let Some(front_proxy) = &trust.front_proxy
            && let Some((identity, subject)) = keep(front_proxy.passed_on(peer, headers, now), rejections)
        {
            self.metrics.certificate(subject.remaining(now));
            return Some((identity, Vouched::new(&trust, &subject, headers)));
        }
        let (identity, subject) = keep(user_of(&trust, peer, now), rejections)?;
        self.metrics.certificate(subject.remaining(now));
        Some((identity, Vouched::new(&trust, &subject, headers)))
    }
}

/// The user a certificate of the cluster's own authority names: common name and organisations.
fn user_of(
    trust: &TrustBundle,
    peer: &Peer,
    now: UnixTime,
) -> Result<Option<(Identity, Arc<Subject>)>, CertificateRejected> {
    let Some(authority) = &trust.client else { return Ok(None) };
    let subject = authority.verify(&peer.certificates, now)?;
    let named = !subject.common_name.is_empty();
    Ok(named.then(|| (Identity::new(&subject.common_name, &subject.organizations), subject)))
}

fn keep<T, E: Into<Rejection>>(attempt: Result<Option<T>, E>, rejections: &mut Vec<Rejection>) -> Option<T> {
    attempt.unwrap_or_else(|error| {
        rejections.push(error.into());
        None
    })
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::auth::{
        StaticTokenReviewer,
        test_authority::{Authority, peer, trust_bundle},
    };

    fn tokens() -> TokenAuthenticator {
        TokenAuthenticator::new(StaticTokenReviewer::new("secret", Identity::new("prometheus", ["monitoring"])))
    }

    fn headers(authorization: Option<&str>, user: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        }
        if let Some(user) = user {
            headers.insert("x-remote-user", user.parse().unwrap());
            headers.insert("x-remote-group", "system:masters".parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn credentials_are_tried_in_order_and_a_bad_one_alone_is_refused() {
        let (cluster, proxy, unknown) = (Authority::new("cluster"), Authority::new("proxy"), Authority::new("unknown"));
        let authenticator = Authenticator::new(Trust::new(trust_bundle(&cluster, &proxy)), tokens());
        let user = || peer([cluster.client("bob", Some("dev"))]);
        let front_proxy = || peer([proxy.client("front-proxy-client", None)]);
        let stranger = || peer([unknown.client("eve", None)]);
        let (token, garbage) = (Some("Bearer secret"), Some("Bearer garbage"));
        for (case, peer, headers, expected) in [
            ("unknown authority", Some(stranger()), headers(None, Some("root")), None),
            ("front proxy without headers", Some(front_proxy()), headers(None, None), None),
            ("garbage token", None, headers(garbage, None), None),
            ("garbage token, spoofed headers", Some(peer([])), headers(garbage, Some("root")), None),
            ("unknown authority, garbage token", Some(stranger()), headers(garbage, None), None),
            (
                "spoofed headers without certificate",
                Some(peer([])),
                headers(None, Some("root")),
                Some("system:anonymous"),
            ),
            ("spoofed headers under a user's certificate", Some(user()), headers(None, Some("root")), Some("bob")),
            ("spoofed headers with a token", Some(peer([])), headers(token, Some("root")), Some("prometheus")),
            ("no credential", None, headers(None, None), Some("system:anonymous")),
            ("another scheme", None, headers(Some("Basic c2VjcmV0"), None), Some("system:anonymous")),
            ("empty token", None, headers(Some("Bearer "), None), Some("system:anonymous")),
            ("a certificate wins over a token", Some(user()), headers(garbage, None), Some("bob")),
            ("a token makes up for a foreign certificate", Some(stranger()), headers(token, None), Some("prometheus")),
            ("scheme in lower case", None, headers(Some("bearer secret"), None), Some("prometheus")),
            ("front proxy", Some(front_proxy()), headers(None, Some("alice")), Some("alice")),
        ] {
            let identity = authenticator.authenticate(peer.as_ref(), &headers).await;
            let user = identity.as_ref().map(|found| found.identity.user.as_str()).ok();
            assert_eq!(user, expected, "{case}: {identity:?}");
        }
    }

    #[tokio::test]
    async fn valid_credentials_are_counted_and_the_time_their_certificates_have_left() {
        let mut registry = Registry::default();
        let metrics = AuthMetrics::register(&mut registry);
        let (cluster, proxy) = (Authority::new("cluster"), Authority::new("proxy"));
        let authenticator =
            Authenticator::new(Trust::new(trust_bundle(&cluster, &proxy)), tokens()).counted_by(&metrics);
        let (user, front_proxy) =
            (peer([cluster.client("a@b", None)]), peer([proxy.client("front-proxy-client", None)]));
        for (peer, headers) in [
            (Some(&user), headers(None, None)),
            (Some(&front_proxy), headers(None, Some("kubelet"))),
            (None, headers(Some("Bearer secret"), None)),
            (None, headers(None, None)),
        ] {
            authenticator.authenticate(peer, &headers).await.unwrap();
        }
        let expired = peer([cluster.expired("bob")]);
        authenticator.authenticate(Some(&expired), &HeaderMap::new()).await.unwrap_err();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"authenticated_user_requests_total{username="email_id"} 1"#,
            r#"authenticated_user_requests_total{username="kubelet"} 1"#,
            r#"authenticated_user_requests_total{username="other"} 1"#,
            "apiserver_client_certificate_expiration_seconds_count 2",
            r#"apiserver_client_certificate_expiration_seconds_bucket{le="31104000.0"} 0"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[tokio::test]
    async fn a_certificate_names_user_and_groups() {
        let (cluster, proxy) = (Authority::new("cluster"), Authority::new("proxy"));
        let authenticator = Authenticator::new(Trust::new(trust_bundle(&cluster, &proxy)), tokens());
        let bob = peer([cluster.client("bob", Some("dev"))]);
        let identity = authenticator.authenticate(Some(&bob), &HeaderMap::new()).await.unwrap();
        assert_eq!(*identity.identity, Identity::new("bob", ["dev", "system:authenticated"]));
    }

    #[tokio::test]
    async fn a_rotated_authority_changes_the_meaning_of_open_connections() {
        let (old, new, proxy) = (Authority::new("cluster"), Authority::new("cluster"), Authority::new("proxy"));
        let trust_handle = Trust::new(trust_bundle(&old, &proxy));
        let authenticator = Authenticator::new(trust_handle.clone(), tokens());
        let bob = peer([old.client("bob", None)]);
        assert!(authenticator.authenticate(Some(&bob), &HeaderMap::new()).await.is_ok());
        trust_handle.replace(trust_bundle(&new, &proxy));
        assert!(authenticator.authenticate(Some(&bob), &HeaderMap::new()).await.is_err());
    }

    #[tokio::test]
    async fn nobody_is_trusted_by_default_and_reasons_are_kept_for_the_log() {
        let authenticator = Authenticator::new(Trust::default(), tokens());
        let stranger = peer([Authority::new("any").client("eve", None)]);
        let identity = authenticator.authenticate(Some(&stranger), &HeaderMap::new()).await.unwrap();
        assert_eq!(
            *identity.identity,
            Identity::anonymous(),
            "a certificate is no credential where no authority is trusted"
        );
        let error = authenticator.authenticate(None, &headers(Some("Bearer garbage"), None)).await.unwrap_err();
        assert_eq!(error.to_string(), "bearer token is not valid");
    }
}
