//! One token and one user, for a server without a cluster (the demo). It replaces the reviews, not the checks: a caller
//! without the token is anonymous and may do nothing.

use std::fmt;

use futures::future::BoxFuture;

use super::{AccessRequest, AccessReviewer, AccessVerdict, Identity, ReviewError, TokenReviewer};

/// Accepts one bearer token.
pub struct StaticTokenReviewer {
    token: String,
    identity: Identity,
}

impl StaticTokenReviewer {
    /// `token` is that of `identity`; an empty one is never valid.
    pub fn new(token: impl Into<String>, identity: Identity) -> Self {
        Self { token: token.into(), identity }
    }
}

impl fmt::Debug for StaticTokenReviewer {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokenReviewer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl TokenReviewer for StaticTokenReviewer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        let valid = !self.token.is_empty() && same(self.token.as_bytes(), token.as_bytes());
        Box::pin(async move { Ok(valid.then(|| self.identity.clone())) })
    }
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Allows one user everything, and everybody else nothing.
#[derive(Clone, Debug)]
pub struct StaticAccessReviewer {
    user: String,
}

impl StaticAccessReviewer {
    /// Allows `user`.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into() }
    }
}

impl AccessReviewer for StaticAccessReviewer {
    fn review<'a>(&'a self, request: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        let verdict = if request.identity.user == self.user {
            AccessVerdict::Allowed
        } else {
            AccessVerdict::Denied { reason: format!("only user {:?} has access", self.user) }
        };
        Box::pin(async move { Ok(verdict) })
    }
}
