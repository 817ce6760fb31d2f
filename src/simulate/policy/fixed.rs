//! `static`: as many replicas as at the start, for ever.

use std::time::Duration;

use jiff::Timestamp;

use super::{Actuation, ModelSample, Policy, Rhythm};
use crate::interfaces::ScaleObservation;

/// Never changes anything.
#[derive(Debug)]
pub(in crate::simulate) struct Fixed;

impl Policy for Fixed {
    fn rhythm(&self) -> Rhythm {
        Rhythm { sample_every: Duration::from_secs(3600), delay: Duration::ZERO, decide_every: None }
    }

    fn actuation(&self) -> Actuation {
        Actuation::Direct
    }

    fn sample(&mut self, _: Timestamp, _: &[ModelSample<'_>]) {}

    fn decide(&mut self, _: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        scales.iter().map(|scale| Ok(f64::from(scale.spec))).collect()
    }
}
