//! Metrics of who asks and whether they may, under the names of `k8s.io/apiserver`.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Seconds that a review takes.
const REVIEWS: [f64; 8] = [0.25, 0.5, 0.7, 1.0, 1.5, 3.0, 5.0, 10.0];
/// Seconds that a question about a token takes, with and without its review.
const TOKENS: [f64; 9] = [0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0];
/// Seconds until a certificate expires: none, half an hour, 1, 2, 6 and 12 hours, 1, 2 and 4 days, a week, 1, 3 and 6 months,
/// a year.
const EXPIRATIONS: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];
/// Label of a review that Kubernetes did not answer.
const NO_ANSWER: &str = "<error>";
/// Users that have a label of their own, as upstream has them; others could be as many as callers like.
const KNOWN_USERS: [&str; 5] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];

/// Counts authentication and authorisation; clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct AuthMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    token_reviews: ReviewMetrics,
    access_reviews: ReviewMetrics,
    users: Family<User, Counter>,
    /// The series of [`Self::users`] that almost all are counted in.
    other_users: Counter,
    certificate_expiration: Histogram,
    token_requests: Family<TokenRequest, Counter>,
    token_durations: DurationFamily<TokenRequest>,
    token_fetches: Family<TokenRequest, Counter>,
    tokens_in_flight: Family<TokenRequest, Gauge>,
}

type DurationFamily<L> = Family<L, Histogram, fn() -> Histogram>;

impl Default for Families {
    fn default() -> Self {
        let users = Family::<User, Counter>::default();
        let other_users = users.get_or_create(&User { username: "other" }).clone();
        Self {
            token_reviews: ReviewMetrics::default(),
            access_reviews: ReviewMetrics::default(),
            users,
            other_users,
            certificate_expiration: Histogram::new(EXPIRATIONS),
            token_requests: Family::default(),
            token_durations: Family::new_with_constructor(|| Histogram::new(TOKENS)),
            token_fetches: Family::default(),
            tokens_in_flight: Family::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct User {
    username: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenRequest {
    status: &'static str,
}

impl AuthMetrics {
    /// Metrics shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families = &metrics.0;
        families.token_reviews.register(registry, "authn", "TokenReviews");
        families.access_reviews.register(registry, "authz", "SubjectAccessReviews");
        registry.register(
            "authenticated_user_requests",
            "Requests with a valid credential, by users whose names are known everywhere",
            families.users.clone(),
        );
        registry.register(
            "apiserver_client_certificate_expiration_seconds",
            "Time left of the certificates that requests came with, those of front proxies included, in seconds",
            families.certificate_expiration.clone(),
        );
        registry.register(
            "authentication_token_cache_request",
            "Bearer tokens by whether their review was remembered",
            families.token_requests.clone(),
        );
        registry.register(
            "authentication_token_cache_request_duration_seconds",
            "Time until it was known whose a bearer token is, in seconds",
            families.token_durations.clone(),
        );
        registry.register(
            "authentication_token_cache_fetch",
            "Bearer tokens that were asked about, by whether Kubernetes could tell",
            families.token_fetches.clone(),
        );
        registry.register(
            "authentication_token_cache_active_fetch_count",
            "Bearer tokens that are being asked about",
            families.tokens_in_flight.clone(),
        );
        metrics
    }

    pub(super) fn token_reviews(&self) -> &ReviewMetrics {
        &self.0.token_reviews
    }

    pub(super) fn access_reviews(&self) -> &ReviewMetrics {
        &self.0.access_reviews
    }

    /// A request came with a valid credential of `user`.
    pub(super) fn authenticated(&self, user: &str) {
        match KNOWN_USERS.iter().find(|known| **known == user) {
            Some(username) => self.0.users.get_or_create(&User { username }).inc(),
            None if user.contains('@') => self.0.users.get_or_create(&User { username: "email_id" }).inc(),
            None => self.0.other_users.inc(),
        };
    }

    /// A request came with a valid certificate that has this much time left.
    pub(super) fn certificate(&self, remaining: Duration) {
        self.0.certificate_expiration.observe(remaining.as_secs_f64());
    }

    /// It took so long to tell whose a token is.
    pub(super) fn token(&self, is_remembered: bool, duration: Duration) {
        let status = TokenRequest { status: if is_remembered { "hit" } else { "miss" } };
        self.0.token_requests.get_or_create(&status).inc();
        self.0.token_durations.get_or_create(&status).observe(duration.as_secs_f64());
    }

    /// Kubernetes could or could not tell whose a token is.
    pub(super) fn token_fetched(&self, is_known: bool) {
        let status = if is_known { "ok" } else { "error" };
        self.0.token_fetches.get_or_create(&TokenRequest { status }).inc();
    }

    /// A token is asked about until the answer is dropped.
    pub(super) fn token_in_flight(&self) -> InFlight {
        let gauge = self.0.tokens_in_flight.get_or_create(&TokenRequest { status: "in_flight" }).clone();
        gauge.inc();
        InFlight(gauge)
    }
}

/// Counted as under way until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts reviews of one kind.
#[derive(Debug)]
pub(super) struct ReviewMetrics {
    total: Family<Code, Counter>,
    duration: DurationFamily<Code>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: String,
}

impl Default for ReviewMetrics {
    fn default() -> Self {
        Self { total: Family::default(), duration: Family::new_with_constructor(|| Histogram::new(REVIEWS)) }
    }
}

impl ReviewMetrics {
    fn register(&self, registry: &mut Registry, what: &str, reviews: &str) {
        registry.register(
            format!("apiserver_delegated_{what}_request"),
            format!("{reviews} by the status that kube-apiserver answered with"),
            self.total.clone(),
        );
        registry.register(
            format!("apiserver_delegated_{what}_request_duration_seconds"),
            format!("Time of {reviews}, in seconds"),
            self.duration.clone(),
        );
    }

    /// A review took so long; `None` where there was no answer in time.
    pub(super) fn count<T>(&self, answer: Option<&kube::Result<T>>, duration: Duration) {
        let code = match answer {
            Some(Ok(_)) => "201".to_owned(),
            Some(Err(kube::Error::Api(status))) => status.code.to_string(),
            Some(Err(_)) | None => NO_ANSWER.to_owned(),
        };
        let code = Code { code };
        self.total.get_or_create(&code).inc();
        self.duration.get_or_create(&code).observe(duration.as_secs_f64());
    }
}
