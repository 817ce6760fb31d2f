//! A certificate authority of our own: kube-apiserver verifies our certificate with no cert-manager in the cluster.
//!
//! ```text
//!  Secret (shared by all replicas) ──► material ──► step (pure: what is due) ──► issue ──► Secret
//!                                          ├─► serving pair ─► listener
//!                                          └─► trusted authorities ─► spec.caBundle of our APIServices
//! ```
//!
//! Each issue makes an authority that signs one serving certificate and whose key is then dropped, so there is no
//! signing key to steal. A rotation has three steps, so that no moment exists in which a replica serves a certificate that
//! kube-apiserver does not know: the new authority is *announced* beside the old one, its certificate is *adopted*, the
//! old authority is *retired*. Every replica takes the steps; the Secret's `resourceVersion` lets one of them win.
//!
//! Of an `APIService` only `spec.caBundle` is owned here, by server-side apply, and only where it points at our Service.

mod issue;
mod keeper;
mod material;
mod step;

pub use issue::{IssueError, issue};
pub use keeper::{Authority, AuthorityError, AuthorityOptions};
pub use material::{Material, Pair};
pub use step::{Step, step};
