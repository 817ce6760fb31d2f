//! What a request wants to do, and asking Kubernetes whether it may.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable as _};
use futures::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes as WireResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use thiserror::Error;
use tokio::time::timeout;

use super::{AuthMetrics, Identity, metrics::ReviewMetrics};

/// Longest a review may take: an HPA worker waits for the answer.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(3);
/// Times a review is asked for again.
const RETRIES: usize = 4;

/// What a request wants to do, in the terms of RBAC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// To a resource of an API group.
    Resource(ResourceAttributes),
    /// To a path that is none.
    NonResource {
        /// The path, as in `nonResourceURLs`.
        path: String,
        /// The method in lower case.
        verb: Cow<'static, str>,
    },
}

/// A verb on a resource of an API group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceAttributes {
    /// Such as `list`.
    pub verb: Cow<'static, str>,
    /// API group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Namespace; `None` is the whole cluster.
    pub namespace: Option<String>,
    /// Resource: here, the metric.
    pub resource: String,
    /// Subresource.
    pub subresource: Option<String>,
    /// Name of one object; `None` is all of them.
    pub name: Option<String>,
}

/// Somebody who wants to do something. The label selector of a read is left out: without it the question is broader, and
/// so the answer safe, and one answer serves all variants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessRequest {
    /// Who.
    pub identity: Arc<Identity>,
    /// What.
    pub attributes: Arc<Attributes>,
}

/// Whether it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessVerdict {
    /// Yes.
    Allowed,
    /// No.
    Denied {
        /// Why; may be empty.
        reason: String,
    },
}

/// Kubernetes could not be asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{review} failed: {reason}")]
pub struct ReviewError {
    review: &'static str,
    reason: String,
}

impl ReviewError {
    /// `review` failed with `reason`.
    pub fn new(review: &'static str, reason: &dyn fmt::Display) -> Self {
        Self { review, reason: reason.to_string() }
    }

    fn timeout(review: &'static str) -> Self {
        Self::new(review, &format_args!("kube-apiserver did not answer within {} s", REVIEW_TIMEOUT.as_secs()))
    }
}

/// Knows who may do what.
pub trait AccessReviewer: Send + Sync + 'static {
    /// Whether `request` is allowed.
    ///
    /// # Errors
    /// When nobody can tell at the moment.
    fn review<'a>(&'a self, request: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>>;
}

/// The answer to a review, which is asked for again where kube-apiserver fails for a moment; each attempt is counted.
///
/// # Errors
/// When there is none within [`REVIEW_TIMEOUT`].
pub(super) async fn answer<T, F>(
    review: &'static str,
    metrics: &ReviewMetrics,
    ask: impl Fn() -> F,
) -> Result<T, ReviewError>
where
    F: Future<Output = kube::Result<T>>,
{
    let attempt = || async {
        let since = Instant::now();
        let answer = ask().await;
        metrics.count(Some(&answer), since.elapsed());
        answer
    };
    // As in k8s.io/apiserver, but sooner: an HPA worker waits.
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_factor(1.5)
        .with_jitter()
        .with_max_times(RETRIES);
    let since = Instant::now();
    let Ok(answer) = timeout(REVIEW_TIMEOUT, attempt.retry(pauses).when(is_momentary)).await else {
        metrics.count::<T>(None, since.elapsed());
        return Err(ReviewError::timeout(review));
    };
    answer.map_err(|error| ReviewError::new(review, &error))
}

/// Whether a question that failed so may be answered a moment later.
fn is_momentary(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::Service(_) | kube::Error::HyperError(_) => true,
        _ => false,
    }
}

/// Asks kube-apiserver by `SubjectAccessReview`; needs cluster role `system:auth-delegator`.
#[derive(Clone)]
pub struct KubeAccessReviewer {
    client: Client,
    metrics: AuthMetrics,
}

impl KubeAccessReviewer {
    /// Asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client, metrics: AuthMetrics::default() }
    }

    /// The same, counted by `metrics`.
    #[must_use]
    pub fn counted_by(self, metrics: &AuthMetrics) -> Self {
        Self { metrics: metrics.clone(), ..self }
    }
}

impl fmt::Debug for KubeAccessReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeAccessReviewer").finish_non_exhaustive()
    }
}

impl AccessReviewer for KubeAccessReviewer {
    fn review<'a>(&'a self, request: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        Box::pin(async move {
            let review = SubjectAccessReview { spec: spec(request), ..SubjectAccessReview::default() };
            let api = Api::<SubjectAccessReview>::all(self.client.clone());
            let options = PostParams::default();
            let ask = || api.create(&options, &review);
            answer("SubjectAccessReview", self.metrics.access_reviews(), ask).await.map(verdict)
        })
    }
}

fn spec(request: &AccessRequest) -> SubjectAccessReviewSpec {
    let AccessRequest { identity, attributes } = request;
    let (resource_attributes, non_resource_attributes) = match attributes.as_ref() {
        Attributes::Resource(attributes) => (Some(wire(attributes)), None),
        Attributes::NonResource { path, verb } => {
            (None, Some(NonResourceAttributes { path: Some(path.clone()), verb: Some(verb.to_string()) }))
        }
    };
    SubjectAccessReviewSpec {
        user: Some(identity.user.clone()),
        groups: Some(identity.groups.clone()),
        uid: identity.uid.clone(),
        extra: (!identity.extra.is_empty()).then(|| identity.extra.clone()),
        resource_attributes,
        non_resource_attributes,
    }
}

fn wire(attributes: &ResourceAttributes) -> WireResourceAttributes {
    WireResourceAttributes {
        verb: Some(attributes.verb.to_string()),
        group: Some(attributes.group.clone()),
        version: Some(attributes.version.clone()),
        namespace: attributes.namespace.clone(),
        resource: Some(attributes.resource.clone()),
        subresource: attributes.subresource.clone(),
        name: attributes.name.clone(),
        ..WireResourceAttributes::default()
    }
}

fn verdict(review: SubjectAccessReview) -> AccessVerdict {
    let status = review.status.unwrap_or_default();
    if status.allowed && status.denied != Some(true) {
        return AccessVerdict::Allowed;
    }
    let reasons = [status.reason, status.evaluation_error];
    let reason = reasons.into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    AccessVerdict::Denied { reason }
}
