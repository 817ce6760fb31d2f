//! Who is asking, and may they: delegated authentication and authorisation, as every aggregated API server does it.
//!
//! ```text
//!  Peer, headers ─► Authenticator ─► Identity ─┐
//!                     front proxy              ├─► Authorizer ─► allowed, or why not
//!                     client certificate       │      system:masters
//!                     bearer token     Attributes      SubjectAccessReview (cached)
//!                     anonymous
//! ```
//!
//! Both lean on Kubernetes through two small traits, [`TokenReviewer`] and [`AccessReviewer`]; the authorities that
//! certificates are checked against are a [`Trust`], which [`watch_trust`] keeps equal to a ConfigMap of kube-apiserver and
//! the files that are configured instead.
//! `Impersonate-*` headers are never honoured: kube-apiserver has dealt with them before it forwards a request.

mod access;
mod authenticator;
mod authorizer;
mod certificate_authority;
mod front_proxy;
mod identity;
#[cfg(test)]
mod kube_tests;
mod metrics;
mod static_policy;
#[cfg(test)]
pub(crate) mod test_authority;
mod token;
mod trust;
mod trust_sources;
mod trust_watch;
mod vouched;

pub use access::{
    AccessRequest, AccessReviewer, AccessVerdict, Attributes, KubeAccessReviewer, ResourceAttributes, ReviewError,
};
pub use authenticator::{Authenticated, Authenticator, Rejection, Unauthenticated};
pub use authorizer::{AuthorizationRules, Authorizer, Judgement};
pub use certificate_authority::{CertificateAuthority, CertificateRejected, Subject};
pub use front_proxy::{FrontProxy, FrontProxyRejected};
pub use identity::{
    ANONYMOUS_USER, AUTHENTICATED_GROUP, HPA_CONTROLLER_USERS, Identity, MASTERS_GROUP, UNAUTHENTICATED_GROUP,
};
pub use metrics::AuthMetrics;
pub use static_policy::{StaticAccessReviewer, StaticTokenReviewer};
pub use token::{KubeTokenReviewer, TokenAuthenticator, TokenRejected, TokenReviewer};
pub use trust::{RequestHeaders, Trust, TrustBundle, TrustError};
pub use trust_sources::{FrontProxyFile, Lookup, TrustFileError, TrustSources};
pub use trust_watch::{TrustWatchError, watch_trust};
pub use vouched::Vouched;
