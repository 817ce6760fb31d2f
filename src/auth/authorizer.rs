//! May they: `system:masters`, then Kubernetes, with its answers remembered.

use std::{fmt, sync::Arc, time::Duration, time::Instant};

use ahash::RandomState;
use moka::{Expiry, sync::Cache};
use tokio::time;

use super::{AccessRequest, AccessReviewer, AccessVerdict, Attributes, Identity, MASTERS_GROUP};

/// Twice the HPA's period, so that its reads find the answer; kube-apiserver's own 10 s never would.
const ALLOWED_FOR: Duration = Duration::from_secs(30);
/// Short, so that a new binding helps soon.
const DENIED_FOR: Duration = Duration::from_secs(10);
/// Verdicts kept, as in kube-apiserver.
const VERDICTS: u64 = 8192;
/// Longer questions are asked, but not remembered: their size is the caller's choice.
const LONGEST_REMEMBERED: usize = 10_000;

/// Decides whether requests may proceed.
#[derive(Clone)]
pub struct Authorizer {
    reviewer: Arc<dyn AccessReviewer>,
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
    /// Asks `reviewer` about whoever is not in `system:masters`.
    pub fn new(reviewer: impl AccessReviewer) -> Self {
        let verdicts = Cache::builder().max_capacity(VERDICTS).expire_after(VerdictAge);
        let verdicts = verdicts.build_with_hasher(RandomState::new());
        Self { reviewer: Arc::new(reviewer), verdicts }
    }

    /// Whether `identity` may do `attributes`. When nobody can tell, it may not, and the reason says why.
    pub async fn authorize(&self, identity: Arc<Identity>, attributes: Arc<Attributes>) -> Judgement {
        if identity.in_group(MASTERS_GROUP) {
            return judged(AccessVerdict::Allowed);
        }
        let request = AccessRequest { identity, attributes };
        let counts = |kept: &Judgement| kept.until.is_some_and(|until| time::Instant::now() < until);
        if let Some(kept) = self.verdicts.get(&request).filter(counts) {
            return kept;
        }
        match self.reviewer.review(&request).await {
            Ok(verdict) if length(&request) <= LONGEST_REMEMBERED => {
                let judgement = judged(verdict);
                self.verdicts.insert(request, judgement.clone());
                judgement
            }
            Ok(verdict) => Judgement { verdict, until: None },
            Err(error) => Judgement { verdict: AccessVerdict::Denied { reason: error.to_string() }, until: None },
        }
    }
}

/// A verdict given now.
fn judged(verdict: AccessVerdict) -> Judgement {
    let until = time::Instant::now() + counts_for(&verdict);
    Judgement { verdict, until: Some(until) }
}

fn counts_for(verdict: &AccessVerdict) -> Duration {
    match verdict {
        AccessVerdict::Allowed => ALLOWED_FOR,
        AccessVerdict::Denied { .. } => DENIED_FOR,
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

/// Frees the place of what counts no more.
struct VerdictAge;

impl Expiry<AccessRequest, Judgement> for VerdictAge {
    fn expire_after_create(&self, _: &AccessRequest, judgement: &Judgement, _: Instant) -> Option<Duration> {
        Some(counts_for(&judgement.verdict))
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
