//! The seam between the API server and another adapter, whose metrics are read through ours.

use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderMap, Uri};

use super::{Refusal, Selector};

/// Answers reads of external metrics that are not ours.
pub trait Delegate: Send + Sync + 'static {
    /// Whether a read of `metric` with `selector` is for it. It is not asked about our own metrics.
    fn claims(&self, metric: &str, selector: &Selector) -> bool;

    /// Its answer to the read of `uri`, whose author may read it.
    ///
    /// # Errors
    /// When it has none to give; the message is for the reader of `kubectl describe hpa`.
    fn forward<'a>(&'a self, uri: &'a Uri, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Response, Refusal>>;
}
