//! Bearer tokens: Kubernetes says whose they are.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use http::{HeaderMap, header::AUTHORIZATION};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use moka::sync::Cache;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{AuthMetrics, Identity, ReviewError, access::answer};

/// How long a verdict on a token is kept; kube-apiserver's own default for delegated authentication.
const VERDICT_FOR: Duration = Duration::from_secs(10);
/// Verdicts kept; a cluster has few clients that come with a token. The cache's admission policy keeps those in regular
/// use when somebody floods it with others.
const VERDICTS: u64 = 1024;

/// Tokens asked about at a time.
const QUESTIONS: usize = 64;

/// Knows whose a token is.
pub trait TokenReviewer: Send + Sync + 'static {
    /// The identity behind `token`; `None` when the token is not valid.
    ///
    /// # Errors
    /// When nobody can tell at the moment.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>>;
}

/// Why a bearer token does not authenticate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenRejected {
    /// It is not valid.
    #[error("bearer token is not valid")]
    Invalid,
    /// Nobody could tell.
    #[error("bearer token cannot be checked: {0}")]
    Unchecked(#[from] ReviewError),
}

/// Longest bearer token that is asked about; those of service accounts have one to two thousand characters.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Authenticates requests that carry a bearer token.
#[derive(Clone)]
pub struct TokenAuthenticator {
    reviewer: Arc<dyn TokenReviewer>,
    verdicts: Cache<String, Option<Identity>>,
    /// Questions under way: a flood of invented tokens must not reach kube-apiserver as one.
    questions: Arc<Semaphore>,
    metrics: AuthMetrics,
}

impl TokenAuthenticator {
    /// Asks `reviewer`, and remembers its answers for ten seconds.
    pub fn new(reviewer: impl TokenReviewer) -> Self {
        Self::remembering(reviewer, VERDICT_FOR)
    }

    /// Asks `reviewer`, and remembers its answers for so long; for no time at all, not even between two requests.
    pub fn remembering(reviewer: impl TokenReviewer, time: Duration) -> Self {
        let verdicts = Cache::builder().max_capacity(VERDICTS).time_to_live(time).build();
        let questions = Arc::new(Semaphore::new(QUESTIONS));
        Self { reviewer: Arc::new(reviewer), verdicts, questions, metrics: AuthMetrics::default() }
    }

    /// The same, counted by `metrics`.
    #[must_use]
    pub(super) fn counted_by(self, metrics: &AuthMetrics) -> Self {
        Self { metrics: metrics.clone(), ..self }
    }

    /// The identity behind the request's bearer token; `None` when it has none.
    ///
    /// # Errors
    /// When its token is not valid or cannot be checked.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, TokenRejected> {
        let Some(token) = bearer_token(headers) else { return Ok(None) };
        // The cache is bounded in number; this bounds it in size.
        if token.len() > LONGEST_TOKEN {
            return Err(TokenRejected::Invalid);
        }
        let since = Instant::now();
        let remembered = self.verdicts.get(token);
        let is_remembered = remembered.is_some();
        let verdict = match remembered {
            Some(verdict) => Ok(verdict),
            None => self.ask(token).await,
        };
        self.metrics.token(is_remembered, since.elapsed());
        verdict?.map(Some).ok_or(TokenRejected::Invalid)
    }

    async fn ask(&self, token: &str) -> Result<Option<Identity>, ReviewError> {
        let _place = self.questions.try_acquire().map_err(|_| {
            ReviewError::new("TokenReview", &format_args!("{QUESTIONS} other tokens are being reviewed"))
        })?;
        let in_flight = self.metrics.token_in_flight();
        let verdict = self.reviewer.review(token).await;
        drop(in_flight);
        self.metrics.token_fetched(verdict.is_ok());
        let verdict = verdict?;
        self.verdicts.insert(token.to_owned(), verdict.clone());
        Ok(verdict)
    }
}

impl fmt::Debug for TokenAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAuthenticator").finish_non_exhaustive()
    }
}

/// Another scheme, such as `Basic`, is no credential here and leaves the request anonymous, as in kube-apiserver.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut words = headers.get(AUTHORIZATION)?.to_str().ok()?.split(' ');
    let scheme = words.next()?;
    words.next().filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// Asks kube-apiserver by `TokenReview`; needs cluster role `system:auth-delegator`.
#[derive(Clone)]
pub struct KubeTokenReviewer {
    client: Client,
    metrics: AuthMetrics,
}

impl KubeTokenReviewer {
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

impl fmt::Debug for KubeTokenReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeTokenReviewer").finish_non_exhaustive()
    }
}

impl TokenReviewer for KubeTokenReviewer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        Box::pin(async move {
            let review = TokenReview {
                spec: TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() },
                ..TokenReview::default()
            };
            let api = Api::<TokenReview>::all(self.client.clone());
            let options = PostParams::default();
            let ask = || api.create(&options, &review);
            answer("TokenReview", self.metrics.token_reviews(), ask).await.map(identity)
        })
    }
}

fn identity(review: TokenReview) -> Option<Identity> {
    let status = review.status.filter(|status| status.authenticated == Some(true))?;
    let user = status.user?;
    Some(Identity {
        user: user.username.filter(|name| !name.is_empty())?,
        groups: user.groups.unwrap_or_default(),
        uid: user.uid.filter(|uid| !uid.is_empty()),
        extra: user.extra.unwrap_or_default(),
    })
}
