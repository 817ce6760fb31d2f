//! Load on a model: requests in order of time, generated or read from a trace. The same specification gives the same
//! requests.

mod arrivals;
mod lengths;
mod rows;
mod trace;

use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

pub use self::{
    arrivals::Step,
    lengths::TokenLengths,
    rows::{TraceError, TraceRows},
    trace::TraceSpec,
};
use self::{
    arrivals::{ArrivalTimes, Spacing},
    lengths::LengthSampler,
};
use super::{request::Request, time::Picoseconds};

/// What arrives. In YAML:
///
/// ```yaml
/// poisson:
///   seed: 7
///   steps:
///   - { rate: 5, duration: 1m }
///   - { rate: 5, to: 20, duration: 2m }
///   - { rate: 20 }
///   promptTokens: { lognormal: { mean: 1155, sigma: 0.9, max: 32000 } }
///   outputTokens: { uniform: { min: 50, max: 350 } }
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum LoadSpec {
    /// Evenly spaced arrivals.
    Regular(GeneratedLoad),
    /// A Poisson process whose rate follows the steps.
    Poisson(GeneratedLoad),
    /// Recorded requests.
    Trace(TraceSpec),
}

/// Load by rate and token lengths.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeneratedLoad {
    /// Seed of arrivals and lengths.
    #[serde(default)]
    pub seed: u64,
    /// The rate over time; the load ends with the last step that has a duration.
    pub steps: Vec<Step>,
    /// Length of prompts.
    pub prompt_tokens: TokenLengths,
    /// Length of outputs.
    pub output_tokens: TokenLengths,
}

impl GeneratedLoad {
    /// A constant rate without end.
    pub fn constant(rate: f64, prompt_tokens: TokenLengths, output_tokens: TokenLengths) -> Self {
        Self { seed: 0, steps: vec![Step { rate, to: None, duration: None }], prompt_tokens, output_tokens }
    }
}

/// Why a load cannot be generated.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A step makes no sense.
    #[error("load step {number}: {problem}")]
    Step {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it and what would be right.
        problem: &'static str,
    },
    /// A distribution of lengths makes no sense.
    #[error("{field}: {problem}")]
    Lengths {
        /// `promptTokens` or `outputTokens`.
        field: &'static str,
        /// What is wrong with it and what would be right.
        problem: &'static str,
    },
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Requests in order of arrival, which is counted from the start of the load.
#[derive(Debug)]
pub struct Load(Source);

#[derive(Debug)]
enum Source {
    Generated(Box<Generator>),
    Trace(std::vec::IntoIter<Request>),
}

#[derive(Debug)]
struct Generator {
    times: ArrivalTimes,
    prompts: LengthSampler,
    outputs: LengthSampler,
}

impl Load {
    /// Prepares the load; reads the whole trace, if it is one.
    ///
    /// # Errors
    /// When the specification makes no sense or the trace cannot be read.
    pub fn new(spec: &LoadSpec) -> Result<Self, LoadError> {
        let (generated, spacing) = match spec {
            LoadSpec::Trace(trace) => return Ok(Self(Source::Trace(trace::read(trace)?.into_iter()))),
            LoadSpec::Regular(generated) => (generated, Spacing::Regular),
            LoadSpec::Poisson(generated) => (generated, Spacing::Poisson),
        };
        // Streams of their own, so that a change of one distribution leaves the other draws as they were.
        let stream = |number: u64| generated.seed.wrapping_mul(3).wrapping_add(number);
        Ok(Self(Source::Generated(Box::new(Generator {
            times: ArrivalTimes::new(generated.steps.clone(), spacing, stream(0))?,
            prompts: LengthSampler::new("promptTokens", &generated.prompt_tokens, stream(1))?,
            outputs: LengthSampler::new("outputTokens", &generated.output_tokens, stream(2))?,
        }))))
    }
}

impl Iterator for Load {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        match &mut self.0 {
            Source::Trace(requests) => requests.next(),
            Source::Generated(generator) => {
                let arrival = Picoseconds::from_secs_f64(generator.times.next()?);
                Some(Request::new(arrival, generator.prompts.sample(), generator.outputs.sample()))
            }
        }
    }
}

impl TraceSpec {
    /// The trace in `file` as it was recorded.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POISSON: &str = "
poisson:
  seed: 7
  steps:
  - { rate: 5, duration: 1m }
  - { rate: 5, to: 20, duration: 2m }
  promptTokens: { lognormal: { mean: 1155, sigma: 0.9, max: 32000 } }
  outputTokens: { uniform: { min: 50, max: 350 } }
";

    fn parse(text: &str) -> Result<LoadSpec, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_specification_is_read_from_yaml_and_gives_the_same_requests_each_time() {
        let spec = parse(POISSON).unwrap();
        let requests: Vec<_> = Load::new(&spec).unwrap().collect();
        assert_eq!(requests, Load::new(&spec).unwrap().collect::<Vec<_>>());
        assert!(requests.is_sorted_by_key(|request| request.arrival));
        assert!((1600..2000).contains(&requests.len()), "{}", requests.len());
    }

    #[test]
    fn json_is_read_as_well_and_a_trace_by_its_file_alone() {
        let regular = parse(
            r#"{"regular": {"steps": [{"rate": 2.5}], "promptTokens": {"fixed": 100}, "outputTokens": {"fixed": 20}}}"#,
        );
        let lengths = (TokenLengths::Fixed(100), TokenLengths::Fixed(20));
        assert_eq!(regular.unwrap(), LoadSpec::Regular(GeneratedLoad::constant(2.5, lengths.0, lengths.1)));
        assert_eq!(parse("trace: { file: a.csv }").unwrap(), LoadSpec::Trace(TraceSpec::new("a.csv")));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = parse(&POISSON.replace("seed", "sede")).unwrap_err();
        assert!(error.contains("sede"), "{error}");
        let error = parse("trace: { file: a.csv, copys: 3 }").unwrap_err();
        assert!(error.contains("copys"), "{error}");
    }

    #[test]
    fn changing_one_distribution_leaves_the_other_draws_as_they_were() {
        let other = POISSON.replace("mean: 1155", "mean: 10");
        let times = |text: &str| {
            let load = Load::new(&parse(text).unwrap()).unwrap();
            load.map(|request| (request.arrival, request.output_tokens)).collect::<Vec<_>>()
        };
        assert_eq!(times(POISSON), times(&other));
    }
}
