//! Measures the product's own parts, for `hack/bench-*`: figures are printed, never asserted.

mod scale;

pub use scale::{Allocated, run as scale};
