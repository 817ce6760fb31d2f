//! One query over HTTP: credentials, retries, and errors that keep the HTTP status.

use std::{error::Error, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prometheus_http_query::Client;

use super::{
    client::ReloadingClient,
    queries::Query,
    response::{self, Answer},
};
use crate::{
    collector::{
        InvalidCollectorConfig,
        bearer::{UnusableToken, authorization},
        config, with_causes,
    },
    config::PrometheusSettings,
    interfaces::CollectorError,
};

/// Pause before the second attempt; doubles after each further one, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How much of an unreadable answer goes into the message.
const EXCERPT: usize = 200;

/// Sends queries to one Prometheus.
#[derive(Debug)]
pub(super) struct Transport {
    client: ReloadingClient,
    settings: PrometheusSettings,
    headers: HeaderMap,
}

impl Transport {
    pub(super) fn new(settings: &PrometheusSettings) -> Result<Self, InvalidCollectorConfig> {
        let headers = config::headers(settings)?;
        let client = ReloadingClient::new(settings)?;
        if settings.trust.insecure_skip_verify {
            tracing::warn!(server = client.address(), "the certificate of Prometheus is not verified");
        }
        Ok(Self { client, settings: settings.clone(), headers })
    }

    /// The source as messages name it.
    pub(super) fn source_name(&self) -> String {
        format!("Prometheus at {}", self.client.address())
    }

    /// Takes up rotated TLS files.
    pub(super) fn reload(&self) {
        self.client.reload();
    }

    /// What `promql` is now, with retries until the query timeout.
    pub(super) async fn query(&self, promql: &str) -> Result<Answer, Failure> {
        let client = self.client.get();
        let retries = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_jitter().without_max_times();
        let mut last_failure = None;
        let attempts = (|| self.attempt(&client, promql)).retry(retries).when(Failure::is_transient).notify(
            |failure: &Failure, pause: Duration| {
                tracing::debug!(%failure, ?pause, "query failed; trying again");
                last_failure = Some(failure.clone());
            },
        );
        let answer = tokio::time::timeout(self.settings.query_timeout, attempts).await;
        // Running out of time says less than what the attempts ran into.
        answer.unwrap_or_else(|_| Err(last_failure.unwrap_or(Failure::Timeout(self.settings.query_timeout))))
    }

    async fn attempt(&self, client: &Client, promql: &str) -> Result<Answer, Failure> {
        let timeout = i64::try_from(self.settings.query_timeout.as_millis()).unwrap_or(i64::MAX);
        let mut request = client.query(promql).timeout(timeout);
        for (name, value) in &self.headers {
            request = request.header(name, value.clone());
        }
        if let Some(token) = &self.settings.bearer_token {
            request = request.header(header::AUTHORIZATION, authorization(token).await?);
        }
        let answer = if fits_url(promql) { request.get_raw().await } else { request.post_raw().await };
        let answer = answer.map_err(|error| Failure::Unreachable(cause(&error)))?;
        let status = answer.status();
        let location = answer.headers().get(header::LOCATION).cloned();
        let body = answer.bytes().await.map_err(|error| Failure::Unreachable(with_causes(&error.without_url())))?;
        read_answer(status, location.as_ref(), &body)
    }
}

/// Whether a query can be asked by GET, which is all that a role for reading has to allow. Servers and proxies take 8 KiB of
/// a request's first line; queries pass that only where many engines of one's own are configured.
fn fits_url(promql: &str) -> bool {
    const LONGEST: usize = 7_500;
    url::form_urlencoded::byte_serialize(promql.as_bytes()).map(str::len).sum::<usize>() <= LONGEST
}

/// Why a query brought no series.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Failure {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("HTTP status {0}")]
    Unauthorized(StatusCode),
    #[error("{0}; check prometheus.bearerTokenPath")]
    BearerToken(#[from] UnusableToken),
    #[error("it answers {status} and refers to {location}; set prometheus.url to the address of the API itself")]
    Redirect { status: StatusCode, location: String },
    #[error("{kind}: {message} (HTTP status {status})")]
    Api { status: StatusCode, kind: String, message: String },
    #[error("the answer is no query result ({message}; HTTP status {status}): {excerpt}")]
    Unreadable { status: StatusCode, message: String, excerpt: String },
}

impl Failure {
    /// Whether another attempt may succeed without anybody changing anything.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) => true,
            Self::Api { status, .. } | Self::Unreadable { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Unauthorized(_) | Self::BearerToken(_) | Self::Redirect { .. } => false,
        }
    }

    /// One word for the `reason` label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Unauthorized(_) | Self::BearerToken(_) => "unauthorized",
            Self::Api { .. } => "query_failed",
            Self::Redirect { .. } | Self::Unreadable { .. } => "bad_response",
        }
    }

    /// The failure as the contract of collectors has it.
    pub(super) fn into_error(self, source_name: &str, query: Query) -> CollectorError {
        let source_name = source_name.to_owned();
        match self {
            Self::Unreachable(message) => CollectorError::Unreachable { source_name, message },
            Self::Timeout(_) => CollectorError::Unreachable { source_name, message: self.to_string() },
            Self::Unauthorized(status) => CollectorError::Unauthorized { source_name, status: status.as_u16() },
            Self::BearerToken(_) | Self::Redirect { .. } | Self::Api { .. } | Self::Unreadable { .. } => {
                CollectorError::Query { source_name, query: query.name(), message: self.to_string() }
            }
        }
    }
}

/// Why a request failed, without the URL that reqwest puts into its text: it holds the whole query.
fn cause(error: &prometheus_http_query::Error) -> String {
    match error {
        prometheus_http_query::Error::Client(error) => error.inner().and_then(Error::source).map(with_causes),
        _ => None,
    }
    .unwrap_or_else(|| with_causes(error))
}

fn read_answer(status: StatusCode, location: Option<&HeaderValue>, body: &[u8]) -> Result<Answer, Failure> {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Err(Failure::Unauthorized(status));
    }
    if status.is_redirection() {
        let location =
            location.map_or_else(|| "nowhere".into(), |location| String::from_utf8_lossy(location.as_bytes()));
        return Err(Failure::Redirect { status, location: location.into_owned() });
    }
    match response::parse(body) {
        Ok(Ok(answer)) if status.is_success() => Ok(answer),
        Ok(Err(error)) => Err(Failure::Api { status, kind: error.kind, message: error.message }),
        Ok(Ok(_)) => Err(unreadable(status, "a result under a status of failure".to_owned(), body)),
        Err(error) => Err(unreadable(status, error.to_string(), body)),
    }
}

fn unreadable(status: StatusCode, message: String, body: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::Unreadable { status, message, excerpt: words.chars().take(EXCERPT).collect() }
}
