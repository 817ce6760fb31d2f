//! Passing a read on.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT},
};
use reqwest::Certificate;
use thiserror::Error;
use url::Url;

use super::{Breaker, Passage, Rules};
use crate::{
    apiserver::{Delegate, Refusal, Selector},
    clock::Clock,
};

/// Says that a request was passed on by a `wva` already.
const DELEGATED: HeaderName = HeaderName::from_static("x-wva-delegated");
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Where the other adapter is, and what is its.
#[derive(Clone, Debug)]
pub struct AdapterOptions {
    /// Its address, without a path.
    pub url: Url,
    /// PEM file of the authorities of its certificate; the system's where unset.
    pub authority: Option<PathBuf>,
    /// File of the bearer token to show, read anew for each request: it rotates.
    pub token: PathBuf,
    /// Longest time an answer may take.
    pub timeout: Duration,
    /// What is its.
    pub rules: Rules,
}

/// The other adapter cannot be used as configured.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The file of authorities cannot be read or used.
    #[error("delegation.caCertPath: {path} cannot be used: {reason}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No client can be made.
    #[error("delegation: cannot set up a client of {url}: {source}")]
    Client {
        /// The address.
        url: Url,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// Another adapter.
pub struct Adapter {
    http: reqwest::Client,
    options: AdapterOptions,
    breaker: Mutex<Breaker>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Adapter {
    /// The adapter that `options` describe; it is not asked yet.
    ///
    /// # Errors
    /// When a file is not usable.
    pub fn new(options: AdapterOptions, clock: Arc<dyn Clock>) -> Result<Self, AdapterError> {
        // Its bytes are passed on as they are, compressed or not, and a redirect is an answer like others.
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(options.timeout)
            .connect_timeout(options.timeout);
        if let Some(path) = &options.authority {
            let unusable = |reason: String| AdapterError::Authority { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(|source| AdapterError::Client { url: options.url.clone(), source })?;
        Ok(Self { http, options, breaker: Mutex::default(), clock })
    }

    async fn pass_on(&self, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
        if headers.contains_key(DELEGATED) {
            return Err(self.refusal("the request was passed on by wva already; delegation.url leads back to wva"));
        }
        let token = tokio::fs::read_to_string(&self.options.token).await.map_err(|error| {
            self.refusal(&format!("the token in {} cannot be read: {error}", self.options.token.display()))
        })?;
        if let Passage::Closed(until) = self.breaker().ask(self.clock.now()) {
            return Err(
                self.refusal(&format!("it failed several times in a row and is not asked again before {until}"))
            );
        }
        let answer = self.ask(uri, headers, token.trim()).await;
        let is_up = answer.as_ref().is_ok_and(|answer| {
            !matches!(
                answer.status(),
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            )
        });
        self.breaker().tell(is_up, self.clock.now());
        match answer {
            Ok(answer) => Ok(passed_on(answer)),
            Err(error) if error.is_timeout() => {
                Err(self.refusal(&format!("it did not answer within {:?}", self.options.timeout)))
            }
            // The address is in our message already.
            Err(error) => Err(self.refusal(&chain(&error.without_url()))),
        }
    }

    async fn ask(&self, uri: &Uri, headers: &HeaderMap, token: &str) -> reqwest::Result<reqwest::Response> {
        let mut url = self.options.url.clone();
        url.set_path(uri.path());
        url.set_query(uri.query());
        let mut request = self.http.get(url).bearer_auth(token).header(DELEGATED, HeaderValue::from_static("true"));
        for name in [ACCEPT, ACCEPT_ENCODING, USER_AGENT, AUDIT_ID] {
            for value in headers.get_all(&name) {
                request = request.header(&name, value);
            }
        }
        request.send().await
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, problem: &str) -> Refusal {
        Refusal { message: format!("this metric is read from the adapter at {}: {problem}", self.options.url) }
    }
}

impl Delegate for Adapter {
    fn claims(&self, metric: &str, selector: &Selector) -> bool {
        self.options.rules.claim(metric, selector.keys())
    }

    fn forward<'a>(&'a self, uri: &'a Uri, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Response, Refusal>> {
        Box::pin(self.pass_on(uri, headers))
    }
}

/// The answer as it came, without what belongs to the connection it came on, and without `Retry-After`, which would block
/// a worker of the HPA.
fn passed_on(answer: reqwest::Response) -> Response {
    let mut response = http::Response::from(answer).map(Body::new);
    for name in [CONNECTION, TRANSFER_ENCODING, RETRY_AFTER] {
        response.headers_mut().remove(name);
    }
    *response.version_mut() = http::Version::default();
    response
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
