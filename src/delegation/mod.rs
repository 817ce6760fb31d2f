//! Metrics that are not ours, read from the adapter that was there before: a cluster has one external metrics API, and this
//! lets two adapters share it.
//!
//! ```text
//!  read of a metric ─► authorised as the caller ─► ours? ─► from memory
//!                                                   └─► claimed by a rule? ─► breaker ─► the other adapter, as ourselves
//! ```
//!
//! The other adapter's answer is passed on as it comes. When it fails, its metrics fail, and nothing else: it has a time
//! limit, and after some failures in a row it is left alone for a while. A request that another `wva` already passed on
//! is not passed on again.

mod breaker;
mod forward;
mod rules;

pub use breaker::{Breaker, Passage};
pub use forward::{Adapter, AdapterError, AdapterOptions};
pub use rules::Rules;
