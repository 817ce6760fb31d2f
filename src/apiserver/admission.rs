//! What was let in lately on one connection: the reads of an HPA come over and over and differ in their selectors alone, so
//! that who asks, for what, and whether they may need not be found out for each of them.
//!
//! ```text
//!  path ─► Admission: by this certificate and these headers, until its access must be reviewed again
//!            │ certificate, authorities, headers and time are looked at for each request
//!            └─► anything differs: the request is judged as if nothing were known
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use ahash::RandomState;
use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::request_metrics::Cells;
use crate::auth::{Attributes, Authenticator, Identity, Vouched};

/// Paths remembered of one connection. There is one for each namespace and metric that HPAs read.
const MOST: usize = 128;
/// Longest path that is remembered, in bytes.
const LONGEST: usize = 512;

/// What was let in on one connection. It ends with the connection, because it holds for that one's certificate alone.
#[derive(Debug, Default)]
pub struct Admissions(Mutex<HashMap<Box<str>, Arc<Admission>, RandomState>>);

/// Somebody who may do something for a while.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) identity: Arc<Identity>,
    pub(super) attributes: Arc<Attributes>,
    /// By what they are known again.
    pub(super) vouched: Vouched,
    /// When their access must be reviewed again.
    pub(super) until: Instant,
    /// Where their successful reads are counted.
    pub(super) cells: OnceLock<Cells>,
}

impl Admissions {
    /// Remembers who may `GET` at `uri`; forgets all others where there are too many.
    pub(super) fn keep(&self, uri: &Uri, admission: Admission) {
        let path = uri.path();
        if path.len() > LONGEST {
            return;
        }
        let mut kept = self.kept();
        if kept.len() >= MOST && !kept.contains_key(path) {
            kept.clear();
        }
        kept.insert(path.into(), Arc::new(admission));
    }

    /// What a `GET` at `uri`, not to watch, was let in by before. Whether it still is must be asked of [`Admission::counts`].
    pub(super) fn find(&self, uri: &Uri) -> Option<Arc<Admission>> {
        self.kept().get(uri.path()).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Admission>, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Whether a request with `headers` is let in by this. If so, its author is counted as authenticated.
    pub(super) fn counts(&self, authenticator: &Authenticator, headers: &HeaderMap, now: Instant) -> bool {
        now < self.until && authenticator.recognises(&self.vouched, &self.identity, headers, now)
    }
}

#[cfg(test)]
mod tests;
