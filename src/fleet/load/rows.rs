//! Recorded requests, one row at a time: CSV with the header `t_seconds,prompt_tokens,output_tokens`, sorted by time,
//! gzipped if the name ends in `.gz`. A fourth column `prefix_hit_tokens_infinite_cache` holds the leading tokens seen
//! before.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use crate::fleet::{request::Request, time::Picoseconds};

const HEADER: &str = "t_seconds,prompt_tokens,output_tokens";
const PREFIX_COLUMN: &str = "prefix_hit_tokens_infinite_cache";

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

/// The rows of a file, one at a time.
pub struct TraceRows {
    file: PathBuf,
    reader: Box<dyn BufRead + Send>,
    text: String,
    line: usize,
    earliest: Picoseconds,
    prefix_caching: bool,
}

impl std::fmt::Debug for TraceRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceRows").field("file", &self.file).field("line", &self.line).finish_non_exhaustive()
    }
}

impl TraceRows {
    /// Opens `file`; with `prefix_caching` the leading tokens of the fourth column come from the prefix cache.
    ///
    /// # Errors
    /// When it cannot be read or its header is not that of a trace.
    pub fn open(file: &Path, prefix_caching: bool) -> Result<Self, TraceError> {
        let opened = File::open(file).map_err(|source| TraceError::Read { file: file.to_owned(), source })?;
        let reader: Box<dyn BufRead + Send> = if file.extension().is_some_and(|extension| extension == "gz") {
            Box::new(BufReader::new(MultiGzDecoder::new(opened)))
        } else {
            Box::new(BufReader::new(opened))
        };
        Self::new(reader, file, prefix_caching)
    }

    pub(super) fn new(reader: Box<dyn BufRead + Send>, file: &Path, prefix_caching: bool) -> Result<Self, TraceError> {
        let text = String::new();
        let mut rows =
            Self { file: file.to_owned(), reader, text, line: 0, earliest: Picoseconds::ZERO, prefix_caching };
        if rows.read_line()? {
            check_header(rows.text.trim_end(), prefix_caching).map_err(|problem| rows.at_line(problem))?;
        }
        Ok(rows)
    }

    /// The next request; `None` after the last.
    ///
    /// # Errors
    /// When a line cannot be read or makes no sense.
    pub fn next_row(&mut self) -> Result<Option<Request>, TraceError> {
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
        let read = self.reader.read_line(&mut self.text);
        let is_line = read.map_err(|source| TraceError::Read { file: self.file.clone(), source })? > 0;
        self.line += usize::from(is_line);
        Ok(is_line)
    }

    /// An error at the line that was read last.
    pub fn at_line(&self, problem: String) -> TraceError {
        TraceError::Line { file: self.file.clone(), line: self.line.max(1), problem }
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
