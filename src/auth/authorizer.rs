//! May they: `system:masters`, then Kubernetes, with its answers remembered.

use std::{fmt, sync::Arc, time::Duration, time::Instant};

use moka::{Expiry, sync::Cache};

use super::{AccessRequest, AccessReviewer, AccessVerdict, Attributes, Identity, MASTERS_GROUP};

/// Twice the HPA's period, so that its reads find the answer; kube-apiserver's own 10 s never would.
const ALLOWED_FOR: Duration = Duration::from_secs(30);
/// Short, so that a new binding helps soon.
const DENIED_FOR: Duration = Duration::from_secs(10);
/// Verdicts kept, as in kube-apiserver.
const VERDICTS: u64 = 8192;
/// Longer questions are asked, but not remembered: their size is the caller's choice.
const LONGEST_REMEMBERED: usize = 10_000;

/// Whether a request may proceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// It may not.
    Denied {
        /// Why, for the error message; may be empty.
        reason: String,
    },
}

/// Decides whether requests may proceed.
#[derive(Clone)]
pub struct Authorizer {
    reviewer: Arc<dyn AccessReviewer>,
    verdicts: Cache<AccessRequest, AccessVerdict>,
}

impl Authorizer {
    /// Asks `reviewer` about whoever is not in `system:masters`.
    pub fn new(reviewer: impl AccessReviewer) -> Self {
        let verdicts = Cache::builder().max_capacity(VERDICTS).expire_after(VerdictAge).build();
        Self { reviewer: Arc::new(reviewer), verdicts }
    }

    /// Whether `identity` may do `attributes`. When nobody can tell, it may not, and the reason says why.
    pub async fn authorize(&self, identity: Arc<Identity>, attributes: Arc<Attributes>) -> Decision {
        if identity.in_group(MASTERS_GROUP) {
            return Decision::Allowed;
        }
        let request = AccessRequest { identity, attributes };
        if let Some(verdict) = self.verdicts.get(&request) {
            return verdict.into();
        }
        match self.reviewer.review(&request).await {
            Ok(verdict) => {
                if length(&request) <= LONGEST_REMEMBERED {
                    self.verdicts.insert(request, verdict.clone());
                }
                verdict.into()
            }
            Err(error) => Decision::Denied { reason: error.to_string() },
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

impl From<AccessVerdict> for Decision {
    fn from(verdict: AccessVerdict) -> Self {
        match verdict {
            AccessVerdict::Allowed => Self::Allowed,
            AccessVerdict::Denied { reason } => Self::Denied { reason },
        }
    }
}

struct VerdictAge;

impl Expiry<AccessRequest, AccessVerdict> for VerdictAge {
    fn expire_after_create(&self, _: &AccessRequest, verdict: &AccessVerdict, _: Instant) -> Option<Duration> {
        Some(match verdict {
            AccessVerdict::Allowed => ALLOWED_FOR,
            AccessVerdict::Denied { .. } => DENIED_FOR,
        })
    }

    fn expire_after_update(
        &self,
        request: &AccessRequest,
        verdict: &AccessVerdict,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(request, verdict, now)
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
