//! Where requests come from: a trace that is streamed, or a generator.

use super::trace::{Requests as TraceRequests, TraceSource};
use crate::fleet::{Load, LoadError, LoadSpec, Picoseconds, Request, TraceError};

/// What arrives at a model.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadSource {
    /// A trace file.
    Trace(TraceSource),
    /// A generator; the seed of the simulation is added to its own.
    Generated(LoadSpec),
}

/// Why there are no requests.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The generator makes no sense.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Requests in order of arrival.
#[derive(Debug)]
pub(super) enum Requests {
    Trace(TraceRequests),
    Generated(Load),
}

impl LoadSource {
    /// Opens it; the same seed gives the same requests.
    pub(super) fn open(&self, seed: u64) -> Result<Requests, SourceError> {
        Ok(match self {
            Self::Trace(trace) => Requests::Trace(trace.open(seed)?),
            Self::Generated(spec) => Requests::Generated(Load::new(&seeded(spec, seed))?),
        })
    }

    /// When the last request arrives, by a pass over all of them.
    pub(super) fn last_arrival(&self, seed: u64) -> Result<Picoseconds, SourceError> {
        if let Self::Trace(trace) = self {
            return Ok(trace.summary()?.last_arrival);
        }
        let mut requests = self.open(seed)?;
        let mut last = Picoseconds::ZERO;
        while let Some(request) = requests.next_request()? {
            last = request.arrival;
        }
        Ok(last)
    }
}

impl Requests {
    /// The next request; `None` after the last.
    pub(super) fn next_request(&mut self) -> Result<Option<Request>, SourceError> {
        match self {
            Self::Trace(requests) => Ok(requests.next_request()?),
            Self::Generated(load) => Ok(load.next()),
        }
    }
}

fn seeded(spec: &LoadSpec, seed: u64) -> LoadSpec {
    let mut spec = spec.clone();
    match &mut spec {
        LoadSpec::Regular(generated) | LoadSpec::Poisson(generated) => {
            generated.seed = generated.seed.wrapping_add(seed);
        }
        LoadSpec::Trace(trace) => trace.seed = trace.seed.wrapping_add(seed),
    }
    spec
}
