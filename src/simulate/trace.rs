//! Requests of a trace file, streamed: memory holds those of one minute, however long the trace.

use std::{cmp::Reverse, collections::BinaryHeap, path::PathBuf};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::fleet::{Picoseconds, Request, TraceError, TraceRows};

/// Copies move by up to this many seconds, earlier or later.
const JITTER_SECONDS: f64 = 30.0;

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
        let mut rows = TraceRows::open(&self.file, self.prefix_caching)?;
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
        let open = || TraceRows::open(&source.file, source.prefix_caching);
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
    rows: TraceRows,
    next: Option<Request>,
    later: Picoseconds,
    earlier: Picoseconds,
    end: Picoseconds,
}

impl Stream {
    fn new(rows: TraceRows, later: Picoseconds, earlier: Picoseconds) -> Result<Self, TraceError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "t_seconds,prompt_tokens,output_tokens\n0.0,374,44\n40.5,396,109\n100,1,2\n";

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
    fn copies_multiply_the_load_stay_sorted_and_repeat_by_seed() {
        let (_folder, file) = written("t.csv");
        let source = TraceSource { repeat: 5, ..TraceSource::new(file) };
        let requests = all(&source, 1);
        assert_eq!(requests.len(), 15);
        assert!(requests.is_sorted_by_key(|request| request.arrival));
        let moved = |request: &Request| {
            let near = all(&TraceSource::new(&source.file), 1);
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
