//! Demand that is to come, from demand that was: what a replica asked for now will face when it is ready.
//!
//! ```text
//! rates ─► DemandHistory (8 days of 10 minutes) ─► candidates: naive, trend, season and trend
//!                                    └► rolling backtest on the last day ─► the one that errs least, and by how much
//!                                                                            └► DemandForecast with quantiles
//! ```
//!
//! The models are `augurs`': MSTL takes a daily season off, ETS forecasts what is left, on logarithms, because demand
//! grows and errs by factors. A candidate counts only if it beats "it stays as it is" by [`WORTH_IT`] on the model's own
//! last day; quantiles are those of its own errors there, not of a distribution that somebody assumed. Pure: no clock, no
//! I/O, and the same history gives the same forecast. Fitting models takes long for a cycle, so it belongs beside it.

mod backtest;
mod forecaster;
mod history;
mod models;

pub use backtest::{Backtest, Errors, HORIZONS, backtest};
pub use forecaster::{Forecaster, WORTH_IT};
pub use history::{BUCKET, BUCKETS_PER_DAY, DemandHistory, KEPT};
pub use models::STEPS;

#[cfg(test)]
mod tests;
