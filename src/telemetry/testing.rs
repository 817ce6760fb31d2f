//! Captures logs in tests.

use std::{
    io,
    sync::{Arc, Mutex, Once, PoisonError},
};

use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Captures everything that this thread logs until the result is dropped.
pub fn capture() -> Capture {
    // Whether a log statement is of interest is remembered for all threads. Without a subscriber that wants all, a thread
    // that captures nothing may come to a statement first and have it forgotten for those that do.
    static WANT_ALL: Once = Once::new();
    WANT_ALL.call_once(|| {
        // Another subscriber for the whole process wants what it wants.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    });
    let buffer = Buffer::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(buffer.clone())
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .without_time()
        .finish();
    Capture { buffer, _guard: tracing::subscriber::set_default(subscriber) }
}

/// Logs as they come in.
#[derive(Debug)]
pub struct Capture {
    buffer: Buffer,
    _guard: DefaultGuard,
}

impl Capture {
    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.buffer.lines()
    }
}

/// A writer into memory.
#[derive(Clone, Debug, Default)]
pub struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    /// The lines written so far.
    pub fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().map(ToOwned::to_owned).collect()
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
