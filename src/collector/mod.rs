//! Collection of engine signals: what the engines export, read in the background, kept in memory.
//!
//! ```text
//!  background::run ─► MetricsCollector::refresh
//!                        transport ─► ingest (pure) ─► cache ─► fetch_saturation_metrics
//!                        (HTTP, TLS)  (three states,            (enriched with the variant
//!                                      sample times)             through the PodDirectory)
//! ```
//!
//! A fetch reads all models at once, so its cost does not grow with their number. A failed fetch leaves the cache as it
//! was: signals then degrade by the age of their samples, not at once. Freshness is the reader's to judge.

pub mod background;
mod bearer;
pub mod cache;
mod config;
mod exposition;
mod factory;
pub mod history;
pub mod mapping;
mod merge;
mod needed;
pub mod prometheus;
pub mod scrape;
mod tracking;
mod trust;

pub use config::{CollectorConfig, InvalidCollectorConfig};
pub use factory::{Source, Sources, new_metrics_collector};
pub use merge::MergedCollector;
pub use tracking::{CollectionTracker, QueryStatistics};

/// An error with its causes, which reqwest leaves out of its own text.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
