//! The Prometheus text exposition format.

mod line;

pub(crate) use line::{Line, name};
