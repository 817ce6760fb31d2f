//! What `wva` tells about itself: logs with correlation ids, and its own metrics.
//!
//! Logs go to standard error through `tracing`. Metrics are kept by one [`MetricsRegistry`] and read from `/metrics`.

mod correlation;
mod decisions;
mod engines;
mod inventory;
mod logging;
mod registry;
#[doc(hidden)]
pub mod testing;

pub use correlation::CorrelationId;
pub use decisions::DecisionMetrics;
pub use inventory::register_inventory;
pub use logging::{LoggingError, LoggingHandle, init_logging};
pub use registry::{MetricsRegistry, OPENMETRICS_CONTENT_TYPE};
