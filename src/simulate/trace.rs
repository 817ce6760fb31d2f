//! Requests of a trace file, streamed: memory holds those of one minute, however long the trace.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use thiserror::Error;

use crate::fleet::{Picoseconds, Request};

const HEADER: &str = "t_seconds,prompt_tokens,output_tokens";
const PREFIX_COLUMN: &str = "prefix_hit_tokens_infinite_cache";
/// Copies move by up to this many seconds, earlier or later.
const JITTER_SECONDS: f64 = 30.0;

/// Why a trace cannot be used.
#[derive(Debug, Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("trace {}: {source}: check the path and that the file is whole", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A line makes no sense.
    #[error("trace {} line {line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1, the header included.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A trace and how it is played.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSource {
    /// CSV, gzipped if the name ends in `.gz`.
    pub file: PathBuf,
    /// How often each request arrives; all but the first time moved by up to 30 s.
    pub repeat: u32,
    /// Each copy starts this much later than the one before, wrapping around at the end, instead of being moved.
    pub shift_seconds: f64,
    /// Whether the leading tokens of the fourth column come from the prefix cache.
    pub prefix_caching: bool,
}

impl TraceSource {
    /// The trace as it was recorded.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), repeat: 1, shift_seconds: 0.0, prefix_caching: false }
    }

    /// Opens it; the same seed gives the same requests.
    ///
    /// # Errors
    /// When the file cannot be read or its header is not that of a trace.
    pub(super) fn open(&self, seed: u64) -> Result<Requests, TraceError> {
        Requests::new(self, seed)
    }

    /// What a pass over the whole trace tells, without copies.
    ///
    /// # Errors
    /// When a line cannot be read or makes no sense.
    pub fn summary(&self) -> Result<TraceSummary, TraceError> {
        let mut summary = TraceSummary::default();
        let mut rows = Rows::open(&self.file, self.prefix_caching)?;
        while let Some(request) = rows.next_row()? {
            summary.requests += 1;
            summary.last_arrival = request.arrival;
        }
        Ok(summary)
    }
}

/// Size of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceSummary {
    /// Rows.
    pub requests: u64,
    /// When the last row arrives.
    pub last_arrival: Picoseconds,
}

/// Requests in order of arrival.
#[derive(Debug)]
pub(super) struct Requests {
    streams: Vec<Stream>,
    /// How often each row arrives.
    repeat: u32,
    /// How far copies may move.
    jitter: Picoseconds,
    random: SmallRng,
    /// Requests whose turn has not come.
    held: BinaryHeap<Reverse<Held>>,
    read: u64,
}

/// Arrival, number, and the lengths of prompt, output and cached prefix.
type Held = (Picoseconds, u64, u32, u32, u32);

impl Requests {
    fn new(source: &TraceSource, seed: u64) -> Result<Self, TraceError> {
        let open = || Rows::open(&source.file, source.prefix_caching);
        let mut streams = vec![Stream::new(open()?, Picoseconds::ZERO, Picoseconds::ZERO)?];
        if streams[0].next.is_none() {
            return Err(streams[0].rows.at_line("no request follows".to_owned()));
        }
        let is_shifted = source.shift_seconds > 0.0;
        if is_shifted && source.repeat > 1 {
            let span = source.summary()?.last_arrival;
            for copy in 1..source.repeat {
                let shift = Picoseconds::from_secs_f64(source.shift_seconds * f64::from(copy));
                let shift = Picoseconds::new(shift.get() % span.get().max(1));
                // What runs over the end comes at the start.
                streams.push(Stream::new(open()?, Picoseconds::ZERO, span.since(shift))?);
                streams.push(Stream::new(open()?, shift, Picoseconds::ZERO)?.until(span));
            }
        }
        Ok(Self {
            streams,
            repeat: if is_shifted { 1 } else { source.repeat.max(1) },
            jitter: Picoseconds::from_secs_f64(if source.repeat > 1 && !is_shifted { JITTER_SECONDS } else { 0.0 }),
            random: SmallRng::seed_from_u64(seed),
            held: BinaryHeap::new(),
            read: 0,
        })
    }

    /// The next request; `None` after the last.
    ///
    /// # Errors
    /// When a line cannot be read or makes no sense.
    pub(super) fn next_request(&mut self) -> Result<Option<Request>, TraceError> {
        // A copy may arrive before its row by the jitter: rows are read that far ahead.
        while let Some(stream) = self.streams.iter_mut().min_by_key(|stream| stream.next_arrival())
            && let Some(row) = stream.next
            && self.held.peek().is_none_or(|Reverse(held)| held.0 + self.jitter >= row.arrival)
        {
            stream.advance()?;
            self.hold(row);
        }
        Ok(self.held.pop().map(|Reverse((arrival, _, prompt_tokens, output_tokens, cached_tokens))| Request {
            arrival,
            prompt_tokens,
            output_tokens,
            cached_tokens,
        }))
    }

    fn hold(&mut self, row: Request) {
        let Request { prompt_tokens, output_tokens, cached_tokens, .. } = row;
        for copy in 0..self.repeat {
            let mut arrival = row.arrival;
            if copy > 0 {
                let moved = self.random.random_range(-JITTER_SECONDS..=JITTER_SECONDS);
                arrival = Picoseconds::from_secs_f64(arrival.as_secs_f64() + moved);
            }
            self.read += 1;
            self.held.push(Reverse((arrival, self.read, prompt_tokens, output_tokens, cached_tokens)));
        }
    }
}

/// One run through the file, moved in time.
#[derive(Debug)]
struct Stream {
    rows: Rows,
    next: Option<Request>,
    later: Picoseconds,
    earlier: Picoseconds,
    end: Picoseconds,
}

impl Stream {
    fn new(rows: Rows, later: Picoseconds, earlier: Picoseconds) -> Result<Self, TraceError> {
        let mut stream = Self { rows, next: None, later, earlier, end: Picoseconds::MAX };
        stream.advance()?;
        Ok(stream)
    }

    fn until(mut self, end: Picoseconds) -> Self {
        self.end = end;
        self.next = self.next.filter(|request| request.arrival <= end);
        self
    }

    fn next_arrival(&self) -> Picoseconds {
        self.next.map_or(Picoseconds::MAX, |request| request.arrival)
    }

    fn advance(&mut self) -> Result<(), TraceError> {
        let mut row = self.rows.next_row()?;
        while row.is_some_and(|request| request.arrival < self.earlier) {
            row = self.rows.next_row()?;
        }
        let moved =
            row.map(|request| Request { arrival: (request.arrival + self.later).since(self.earlier), ..request });
        self.next = moved.filter(|request| request.arrival <= self.end);
        Ok(())
    }
}

/// The rows of a file, one at a time.
struct Rows {
    file: PathBuf,
    reader: Box<dyn BufRead + Send>,
    text: String,
    line: usize,
    earliest: Picoseconds,
    prefix_caching: bool,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("file", &self.file).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Rows {
    fn open(file: &Path, prefix_caching: bool) -> Result<Self, TraceError> {
        let opened = File::open(file).map_err(|source| TraceError::Read { file: file.to_owned(), source })?;
        let reader: Box<dyn BufRead + Send> = if file.extension().is_some_and(|extension| extension == "gz") {
            Box::new(BufReader::new(MultiGzDecoder::new(opened)))
        } else {
            Box::new(BufReader::new(opened))
        };
        Self::new(reader, file, prefix_caching)
    }

    fn new(reader: Box<dyn BufRead + Send>, file: &Path, prefix_caching: bool) -> Result<Self, TraceError> {
        let text = String::new();
        let mut rows =
            Self { file: file.to_owned(), reader, text, line: 0, earliest: Picoseconds::ZERO, prefix_caching };
        rows.read_line()?;
        check_header(rows.text.trim_end(), prefix_caching).map_err(|problem| rows.at_line(problem))?;
        Ok(rows)
    }

    fn next_row(&mut self) -> Result<Option<Request>, TraceError> {
        while self.read_line()? {
            let row = self.text.trim_end();
            if row.is_empty() {
                continue;
            }
            let request =
                parse_row(row, self.earliest, self.prefix_caching).map_err(|problem| self.at_line(problem))?;
            self.earliest = request.arrival;
            return Ok(Some(request));
        }
        Ok(None)
    }

    fn read_line(&mut self) -> Result<bool, TraceError> {
        self.text.clear();
        self.line += 1;
        let read = self.reader.read_line(&mut self.text);
        read.map(|bytes| bytes > 0).map_err(|source| TraceError::Read { file: self.file.clone(), source })
    }

    fn at_line(&self, problem: String) -> TraceError {
        TraceError::Line { file: self.file.clone(), line: self.line, problem }
    }
}

fn check_header(row: &str, prefix_caching: bool) -> Result<(), String> {
    let rest = row.strip_prefix(HEADER).ok_or_else(|| format!("the header is {row:?}, expected {HEADER:?}"))?;
    if prefix_caching && rest.strip_prefix(',') != Some(PREFIX_COLUMN) {
        return Err(format!("prefix caching needs the fourth column {PREFIX_COLUMN:?}"));
    }
    Ok(())
}

fn parse_row(row: &str, earliest: Picoseconds, prefix_caching: bool) -> Result<Request, String> {
    let mut fields = row.split(',');
    let mut field = |name: &str| fields.next().map(str::trim).ok_or_else(|| format!("{name} is missing"));
    let seconds = field("t_seconds")?;
    let arrival = seconds.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let arrival = arrival.ok_or_else(|| format!("t_seconds is {seconds:?}, expected seconds from 0 up"))?;
    let arrival = Picoseconds::from_secs_f64(arrival);
    if arrival < earliest {
        return Err(format!("t_seconds is {seconds}, before the line above: sort the trace by time"));
    }
    let prompt = positive("prompt_tokens", field("prompt_tokens")?)?;
    let output = positive("output_tokens", field("output_tokens")?)?;
    let mut request = Request::new(arrival, prompt, output);
    if prefix_caching {
        let cached = field(PREFIX_COLUMN)?;
        let parsed = cached.parse().map_err(|_| format!("{PREFIX_COLUMN} is {cached:?}, expected a count of tokens"));
        request.cached_tokens = parsed?;
    }
    Ok(request)
}

fn positive(name: &str, text: &str) -> Result<u32, String> {
    let tokens = text.parse().ok().filter(|&tokens| tokens > 0);
    tokens.ok_or_else(|| format!("{name} is {text:?}, expected a count of tokens from 1 up"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const GOOD: &str = "t_seconds,prompt_tokens,output_tokens\n0.0,374,44\n40.5,396,109\n100,1,2\n";

    fn rows(text: &'static str) -> Result<Vec<Request>, TraceError> {
        let mut rows = Rows::new(Box::new(text.as_bytes()), Path::new("some.csv"), false)?;
        std::iter::from_fn(|| rows.next_row().transpose()).collect()
    }

    fn all(source: &TraceSource, seed: u64) -> Vec<Request> {
        let mut requests = source.open(seed).unwrap();
        std::iter::from_fn(|| requests.next_request().unwrap()).collect()
    }

    fn written(name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, GOOD).unwrap();
        (folder, file)
    }

    #[test]
    fn a_trace_is_read_plain_and_gzipped() {
        let (folder, plain) = written("t.csv");
        let gzipped = folder.path().join("t.csv.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gzipped).unwrap(), flate2::Compression::fast());
        encoder.write_all(GOOD.as_bytes()).unwrap();
        encoder.finish().unwrap();
        assert_eq!(all(&TraceSource::new(plain), 1), rows(GOOD).unwrap());
        assert_eq!(all(&TraceSource::new(gzipped), 1), rows(GOOD).unwrap());
    }

    #[test]
    fn a_bad_line_is_named_with_its_file_and_its_problem() {
        for (text, message) in [
            ("time,prompt,output\n", r#"some.csv line 1: the header is "time,prompt,output""#),
            ("t_seconds,prompt_tokens,output_tokens\n0,1,1\nx,1,1\n", r#"some.csv line 3: t_seconds is "x""#),
            ("t_seconds,prompt_tokens,output_tokens\n5,1,1\n4,1,1\n", "some.csv line 3: t_seconds is 4, before"),
            ("t_seconds,prompt_tokens,output_tokens\n1,0,1\n", r#"some.csv line 2: prompt_tokens is "0""#),
            ("t_seconds,prompt_tokens,output_tokens\n1,1\n", "some.csv line 2: output_tokens is missing"),
        ] {
            let error = rows(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nshould contain {message}");
        }
    }

    #[test]
    fn copies_multiply_the_load_stay_sorted_and_repeat_by_seed() {
        let (_folder, file) = written("t.csv");
        let source = TraceSource { repeat: 5, ..TraceSource::new(file) };
        let requests = all(&source, 1);
        assert_eq!(requests.len(), 15);
        assert!(requests.is_sorted_by_key(|request| request.arrival));
        let moved = |request: &Request| {
            let near = rows(GOOD).unwrap();
            let row = near.iter().find(|row| row.prompt_tokens == request.prompt_tokens).unwrap();
            (row.arrival.as_secs_f64() - request.arrival.as_secs_f64()).abs()
        };
        assert!(requests.iter().all(|request| moved(request) <= 30.0));
        assert_eq!(requests, all(&source, 1));
        assert_ne!(requests, all(&source, 2));
    }

    #[test]
    fn shifted_copies_wrap_around_at_the_end_and_lose_no_request() {
        let (_folder, file) = written("t.csv");
        let source = TraceSource { repeat: 2, shift_seconds: 50.0, ..TraceSource::new(file) };
        let arrivals: Vec<_> = all(&source, 1).iter().map(|request| request.arrival.as_secs_f64()).collect();
        assert_eq!(arrivals, [0.0, 40.5, 50.0, 50.0, 90.5, 100.0]);
    }
}
