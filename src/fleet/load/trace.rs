//! A whole trace as a load, multiplied.

use std::{path::PathBuf, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;

use super::rows::{TraceError, TraceRows};
use crate::fleet::{request::Request, time::Picoseconds};

/// A trace and how it is played.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TraceSpec {
    /// The file; a relative name counts from the working directory.
    pub file: PathBuf,
    /// How many copies arrive together: 20 makes twenty times the load.
    pub copies: u32,
    /// Each copy after the first starts this much later than the one before, and wraps around at the end of the trace.
    #[serde(with = "friendly")]
    pub shift: Duration,
    /// Requests of all copies but the first move by up to this much, earlier or later.
    #[serde(with = "friendly")]
    pub jitter: Duration,
    /// Seed of the jitter.
    pub seed: u64,
    /// Whether tokens of the fourth column come from the prefix cache.
    pub prefix_caching: bool,
}

impl Default for TraceSpec {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            copies: 1,
            shift: Duration::ZERO,
            jitter: Duration::ZERO,
            seed: 0,
            prefix_caching: false,
        }
    }
}

/// The requests of a trace in order of arrival.
pub(super) fn read(spec: &TraceSpec) -> Result<Vec<Request>, TraceError> {
    Ok(multiply(&collect(TraceRows::open(&spec.file, spec.prefix_caching)?)?, spec))
}

fn collect(mut rows: TraceRows) -> Result<Vec<Request>, TraceError> {
    let mut requests = Vec::new();
    while let Some(request) = rows.next_row()? {
        requests.push(request);
    }
    if requests.is_empty() { Err(rows.at_line("no request follows".to_owned())) } else { Ok(requests) }
}

fn multiply(recorded: &[Request], spec: &TraceSpec) -> Vec<Request> {
    let span = recorded.last().map_or(0.0, |request| request.arrival.as_secs_f64());
    let jitter = spec.jitter.as_secs_f64();
    let mut random = StdRng::seed_from_u64(spec.seed);
    let mut requests = recorded.to_vec();
    for copy in 1..spec.copies {
        let shift = spec.shift.as_secs_f64() * f64::from(copy);
        requests.extend(recorded.iter().map(|request| {
            let shifted = request.arrival.as_secs_f64() + shift;
            let wrapped = if shifted > span && span > 0.0 { shifted % span } else { shifted };
            let moved = if jitter > 0.0 { random.random_range(-jitter..=jitter) } else { 0.0 };
            Request { arrival: Picoseconds::from_secs_f64(wrapped + moved), ..*request }
        }));
    }
    if spec.copies > 1 {
        requests.sort_by_key(|request| request.arrival);
    }
    requests
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, path::Path};

    use super::*;

    const GOOD: &str = "t_seconds,prompt_tokens,output_tokens\n0.0,374,44\n4.3146,396,109\n";

    fn parsed(text: &str) -> Result<Vec<Request>, TraceError> {
        parse(text, false)
    }

    fn parse(text: &str, prefix_caching: bool) -> Result<Vec<Request>, TraceError> {
        let reader = Box::new(std::io::Cursor::new(text.to_owned()));
        collect(TraceRows::new(reader, Path::new("some.csv"), prefix_caching)?)
    }

    #[test]
    fn a_trace_is_read_plain_and_gzipped() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, gzipped) = (folder.path().join("t.csv"), folder.path().join("t.csv.gz"));
        std::fs::write(&plain, GOOD).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gzipped).unwrap(), flate2::Compression::fast());
        encoder.write_all(GOOD.as_bytes()).unwrap();
        encoder.finish().unwrap();

        let expected =
            [Request::new(Picoseconds::ZERO, 374, 44), Request::new(Picoseconds::from_secs_f64(4.3146), 396, 109)];
        assert_eq!(read(&TraceSpec::new(plain)).unwrap(), expected);
        assert_eq!(read(&TraceSpec::new(gzipped)).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_named_with_its_file_and_its_problem() {
        let header = "t_seconds,prompt_tokens,output_tokens\n";
        for (text, message) in [
            ("time,prompt,output\n", r#"some.csv line 1: the header is "time,prompt,output""#),
            ("", "some.csv line 1: no request follows"),
            (header, "some.csv line 1: no request follows"),
            (&format!("{header}0,1,1\nx,1,1\n"), r#"some.csv line 3: t_seconds is "x", expected seconds"#),
            (&format!("{header}NaN,1,1\n"), r#"some.csv line 2: t_seconds is "NaN""#),
            (&format!("{header}-1,1,1\n"), r#"some.csv line 2: t_seconds is "-1""#),
            (&format!("{header}5,1,1\n4,1,1\n"), "some.csv line 3: t_seconds is 4, before the line above"),
            (&format!("{header}1,0,1\n"), r#"some.csv line 2: prompt_tokens is "0""#),
            (&format!("{header}1,1,1.5\n"), r#"some.csv line 2: output_tokens is "1.5""#),
            (&format!("{header}1,1\n"), "some.csv line 2: output_tokens is missing"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nshould contain {message}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_cut_short_is_named() {
        let missing = read(&TraceSpec::new("no/such.csv")).unwrap_err().to_string();
        assert!(missing.starts_with("trace no/such.csv: "), "{missing}");
        let folder = tempfile::tempdir().unwrap();
        let cut = folder.path().join("cut.csv.gz");
        std::fs::write(&cut, [0x1f, 0x8b, 8, 0]).unwrap();
        assert!(matches!(read(&TraceSpec::new(cut)), Err(TraceError::Read { .. })));
    }

    #[test]
    fn the_prefix_column_counts_only_when_asked_for() {
        let text = "t_seconds,prompt_tokens,output_tokens,prefix_hit_tokens_infinite_cache\n0.0,2290,316,512\n";
        assert_eq!(parsed(text).unwrap()[0].cached_tokens, 0);
        assert_eq!(parse(text, true).unwrap()[0].cached_tokens, 512);
        let error = parse(GOOD, true).unwrap_err().to_string();
        assert!(error.contains("line 1: prefix caching needs the fourth column"), "{error}");
    }

    #[test]
    fn copies_multiply_the_load_stay_sorted_and_repeat_by_seed() {
        let recorded = parsed(GOOD).unwrap();
        let spec = TraceSpec {
            copies: 3,
            shift: Duration::from_secs(2),
            jitter: Duration::from_secs(1),
            ..TraceSpec::default()
        };
        let requests = multiply(&recorded, &spec);
        assert_eq!(requests.len(), 6);
        assert!(requests.is_sorted_by_key(|request| request.arrival));
        assert!(requests.iter().all(|request| request.arrival <= Picoseconds::from_secs_f64(5.4)));
        assert_eq!(requests, multiply(&recorded, &spec));
        assert_ne!(requests, multiply(&recorded, &TraceSpec { seed: 1, ..spec }));
    }
}
