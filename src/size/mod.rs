//! `wva size`: how many replicas a load needs, and what its requests will see. The queueing model for people.

mod args;
mod output;
mod plan;
mod plot;
mod validation;

pub use args::{SizeArgs, run};
