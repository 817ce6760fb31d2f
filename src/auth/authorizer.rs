//! May they: `system:masters`, then Kubernetes, with its answers remembered.

use std::{fmt, sync::Arc, time::Duration, time::Instant};

use ahash::RandomState;
use moka::{Expiry, sync::Cache};
use tokio::time;

use super::{AccessRequest, AccessReviewer, AccessVerdict, Attributes, Identity, MASTERS_GROUP};

/// Verdicts kept, as in kube-apiserver.
const VERDICTS: u64 = 8192;
/// Longer questions are asked, but not remembered: their size is the caller's choice.
const LONGEST_REMEMBERED: usize = 10_000;

/// What is let in without a review, and how long reviews count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationRules {
    /// How long *allowed* counts. The default is twice the HPA's period, so that its reads find the answer; kube-apiserver's
    /// own 10 s never would.
    pub allowed_for: Duration,
    /// How long *denied* counts: short, so that a new binding helps soon.
    pub denied_for: Duration,
    /// Paths, of no API group, that anybody may ask: exactly these, or all that begin so where one ends in `*`.
    pub always_allow_paths: Vec<String>,
}

impl Default for AuthorizationRules {
    fn default() -> Self {
        Self {
            allowed_for: Duration::from_secs(30),
            denied_for: Duration::from_secs(10),
            always_allow_paths: ["/healthz", "/readyz", "/livez"].map(str::to_owned).to_vec(),
        }
    }
}

/// Decides whether requests may proceed.
#[derive(Clone)]
pub struct Authorizer {
    reviewer: Arc<dyn AccessReviewer>,
    rules: Arc<AuthorizationRules>,
    /// Keyed hashes that are quick for short names: each request looks here.
    verdicts: Cache<AccessRequest, Judgement, RandomState>,
}

/// A verdict, and how long it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it is allowed.
    pub verdict: AccessVerdict,
    /// Until when the same question need not be asked again; `None`: it must be.
    pub until: Option<time::Instant>,
}

impl Authorizer {
    /// Asks `reviewer` about whoever is not in `system:masters`, by the default rules.
    pub fn new(reviewer: impl AccessReviewer) -> Self {
        Self::by_rules(reviewer, AuthorizationRules::default())
    }

    /// Asks `reviewer` about whomever `rules` do not let in.
    pub fn by_rules(reviewer: impl AccessReviewer, rules: AuthorizationRules) -> Self {
        let rules = Arc::new(rules);
        let verdicts = Cache::builder().max_capacity(VERDICTS).expire_after(VerdictAge(Arc::clone(&rules)));
        let verdicts = verdicts.build_with_hasher(RandomState::new());
        Self { reviewer: Arc::new(reviewer), rules, verdicts }
    }

    /// Whether anybody may ask for `path`, which is of no API group.
    pub fn is_open(&self, path: &str) -> bool {
        // A leading slash is optional in a rule, as in k8s.io/apiserver.
        fn relative(path: &str) -> &str {
            path.strip_prefix('/').unwrap_or(path)
        }
        let path = relative(path);
        self.rules.always_allow_paths.iter().map(|rule| relative(rule)).any(|rule| match rule.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => rule == path,
        })
    }

    /// Whether `identity` may do `attributes`. When nobody can tell, it may not, and the reason says why.
    pub async fn authorize(&self, identity: Arc<Identity>, attributes: Arc<Attributes>) -> Judgement {
        let is_open = |attributes: &Attributes| match attributes {
            Attributes::NonResource { path, .. } => self.is_open(path),
            Attributes::Resource(_) => false,
        };
        if identity.in_group(MASTERS_GROUP) || is_open(&attributes) {
            return self.judged(AccessVerdict::Allowed);
        }
        let request = AccessRequest { identity, attributes };
        let counts = |kept: &Judgement| kept.until.is_some_and(|until| time::Instant::now() < until);
        if let Some(kept) = self.verdicts.get(&request).filter(counts) {
            return kept;
        }
        match self.reviewer.review(&request).await {
            Ok(verdict) if length(&request) <= LONGEST_REMEMBERED => {
                let judgement = self.judged(verdict);
                self.verdicts.insert(request, judgement.clone());
                judgement
            }
            Ok(verdict) => Judgement { verdict, until: None },
            Err(error) => Judgement { verdict: AccessVerdict::Denied { reason: error.to_string() }, until: None },
        }
    }

    /// A verdict given now.
    fn judged(&self, verdict: AccessVerdict) -> Judgement {
        let until = time::Instant::now() + self.rules.counts_for(&verdict);
        Judgement { verdict, until: Some(until) }
    }
}

impl AuthorizationRules {
    fn counts_for(&self, verdict: &AccessVerdict) -> Duration {
        match verdict {
            AccessVerdict::Allowed => self.allowed_for,
            AccessVerdict::Denied { .. } => self.denied_for,
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

/// Frees the place of what counts no more.
struct VerdictAge(Arc<AuthorizationRules>);

impl Expiry<AccessRequest, Judgement> for VerdictAge {
    fn expire_after_create(&self, _: &AccessRequest, judgement: &Judgement, _: Instant) -> Option<Duration> {
        Some(self.0.counts_for(&judgement.verdict))
    }

    fn expire_after_update(
        &self,
        request: &AccessRequest,
        judgement: &Judgement,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(request, judgement, now)
    }
}

fn length(request: &AccessRequest) -> usize {
    let identity = &request.identity;
    let extra = identity.extra.iter().flat_map(|(key, values)| values.iter().chain([key]));
    let attributes = match request.attributes.as_ref() {
        Attributes::Resource(attributes) => {
            let optional = [&attributes.namespace, &attributes.subresource, &attributes.name];
            attributes.resource.len() + optional.into_iter().flatten().map(String::len).sum::<usize>()
        }
        Attributes::NonResource { path, .. } => path.len(),
    };
    let identity = [&identity.user].into_iter().chain(&identity.groups).chain(&identity.uid).chain(extra);
    identity.map(String::len).sum::<usize>() + attributes
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;

    use super::*;
    use crate::auth::{ResourceAttributes, ReviewError};

    /// Allows `alice`, fails for `nobody`, denies the rest, and counts.
    #[derive(Clone, Default)]
    struct Reviewer(Arc<AtomicUsize>);

    impl AccessReviewer for Reviewer {
        fn review<'a>(&'a self, request: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let verdict = match request.identity.user.as_str() {
                "alice" => Ok(AccessVerdict::Allowed),
                "nobody" => Err(ReviewError::new("SubjectAccessReview", &"connection refused")),
                _ => Ok(AccessVerdict::Denied { reason: "no binding".to_owned() }),
            };
            Box::pin(async move { verdict })
        }
    }

    fn attributes(resource: &str) -> Arc<Attributes> {
        Arc::new(Attributes::Resource(ResourceAttributes {
            verb: "list".into(),
            resource: resource.to_owned(),
            ..ResourceAttributes::default()
        }))
    }

    fn user(name: &str) -> Arc<Identity> {
        Arc::new(Identity::new(name, [""; 0]))
    }

    fn denied(reason: &str) -> AccessVerdict {
        AccessVerdict::Denied { reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn masters_may_do_anything_without_a_review() {
        let reviewer = Reviewer::default();
        let masters = Arc::new(Identity::new("admin", [MASTERS_GROUP]));
        assert_eq!(
            Authorizer::new(reviewer.clone()).authorize(masters, attributes("x")).await.verdict,
            AccessVerdict::Allowed
        );
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn paths_that_are_always_allowed_are_no_question_and_resources_never_are_such() {
        let reviewer = Reviewer::default();
        let paths = ["/livez", "metrics*"].map(str::to_owned).to_vec();
        let rules = AuthorizationRules { always_allow_paths: paths, ..AuthorizationRules::default() };
        let authorizer = Authorizer::by_rules(reviewer.clone(), rules);
        let may =
            async |attributes| authorizer.authorize(user("bob"), attributes).await.verdict == AccessVerdict::Allowed;
        let path = |path: &str| Arc::new(Attributes::NonResource { path: path.to_owned(), verb: "get".into() });
        for (asked, allowed) in [
            ("/livez", true),
            ("/metrics", true),
            ("/metrics/slis", true),
            ("/livez/ping", false),
            ("//livez", false),
            ("/readyz", false),
            ("/", false),
        ] {
            assert_eq!(may(path(asked)).await, allowed, "{asked}");
        }
        assert!(!may(attributes("metrics")).await);
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts_count_as_long_as_the_rules_say() {
        let reviewer = Reviewer::default();
        let rules = AuthorizationRules {
            allowed_for: Duration::from_secs(60),
            denied_for: Duration::ZERO,
            ..AuthorizationRules::default()
        };
        let authorizer = Authorizer::by_rules(reviewer.clone(), rules);
        for expected in [2, 3, 4] {
            authorizer.authorize(user("alice"), attributes("x")).await;
            authorizer.authorize(user("bob"), attributes("x")).await;
            assert_eq!(reviewer.0.load(Ordering::SeqCst), expected, "a denial is asked about each time");
            time::advance(Duration::from_secs(20)).await;
        }
        time::advance(Duration::from_secs(1)).await;
        authorizer.authorize(user("alice"), attributes("x")).await;
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_verdict_is_asked_for_once_per_question() {
        let reviewer = Reviewer::default();
        let authorizer = Authorizer::new(reviewer.clone());
        for _ in 0..3 {
            assert_eq!(authorizer.authorize(user("alice"), attributes("x")).await.verdict, AccessVerdict::Allowed);
            assert_eq!(authorizer.authorize(user("bob"), attributes("x")).await.verdict, denied("no binding"));
        }
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 2);
        authorizer.authorize(user("alice"), attributes("y")).await;
        let grouped = Arc::new(Identity::new("alice", ["dev"]));
        authorizer.authorize(grouped, attributes("x")).await;
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 4, "another resource or other groups are another question");
    }

    #[tokio::test]
    async fn who_cannot_be_reviewed_may_not_and_is_asked_about_again() {
        let reviewer = Reviewer::default();
        let authorizer = Authorizer::new(reviewer.clone());
        for _ in 0..2 {
            let decision = authorizer.authorize(user("nobody"), attributes("x")).await;
            assert_eq!(
                (decision.verdict, decision.until),
                (denied("SubjectAccessReview failed: connection refused"), None)
            );
        }
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_huge_question_is_not_remembered() {
        let reviewer = Reviewer::default();
        let authorizer = Authorizer::new(reviewer.clone());
        let huge = "x".repeat(LONGEST_REMEMBERED + 1);
        for _ in 0..2 {
            let judgement = authorizer.authorize(user("alice"), attributes(&huge)).await;
            assert_eq!(judgement, Judgement { verdict: AccessVerdict::Allowed, until: None });
        }
        assert_eq!(reviewer.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_allowed_verdict_outlives_the_period_of_the_hpa_and_a_denied_one_does_not() {
        const PERIOD: Duration = Duration::from_secs(15);
        let reviewer = Reviewer::default();
        let authorizer = Authorizer::new(reviewer.clone());
        for (asked_of_alice, asked_of_bob) in [(1, 1), (1, 2), (2, 3)] {
            authorizer.authorize(user("alice"), attributes("x")).await;
            authorizer.authorize(user("bob"), attributes("x")).await;
            assert_eq!(reviewer.0.load(Ordering::SeqCst), asked_of_alice + asked_of_bob);
            time::advance(PERIOD).await;
        }
    }
}
