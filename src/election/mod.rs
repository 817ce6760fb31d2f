//! One of several replicas leads: the one that holds a `Lease`.
//!
//! [`action`] is the whole rule, as client-go has it: a Lease whose record did not change for its duration, *by the
//! observer's own clock*, is free. [`Elector`] asks and answers kube-apiserver. A leader that cannot renew steps down
//! before anybody else may take over, so there are never two; what it still writes after that is refused by the term
//! ([`Leadership::Leader`]), which grows with every change of hands.

mod claim;
mod elector;

pub use claim::{Action, Record, action};
pub use elector::{Elector, ElectorOptions, Leadership};
