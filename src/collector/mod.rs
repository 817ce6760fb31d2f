//! Metric sources.
pub mod scrape;
