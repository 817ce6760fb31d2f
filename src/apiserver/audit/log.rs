//! The task that writes events into a file.

use std::{io, sync::Arc};

use jiff::Timestamp;
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{AuditFile, Waiting, event::Event, log_file::LogFile};

/// Events written at a time.
const BATCH: usize = 400;
/// How its losses are counted.
const PLUGIN: &str = "log";

/// Form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditFormat {
    /// An `Event`.
    Json,
    /// Short text.
    Legacy,
}

/// Why there can be no audit log.
#[derive(Debug, Error)]
#[error("cannot write audit log {path}: {source}")]
pub struct AuditLogError {
    path: String,
    source: io::Error,
}

/// Writes events into a file.
#[derive(Debug)]
pub struct AuditLog {
    waiting: Waiting,
    file: LogFile,
    format: AuditFormat,
}

impl AuditLog {
    /// Writes what is `waiting` into `file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(waiting: Waiting, file: AuditFile, format: AuditFormat) -> Result<Self, AuditLogError> {
        let path = file.path.display().to_string();
        let file = LogFile::open(file).map_err(|source| AuditLogError { path, source })?;
        Ok(Self { waiting, file, format })
    }

    /// Writes until `stop`, then what waits still.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = stop.run_until_cancelled(self.waiting.events.recv_many(&mut batch, BATCH)).await;
            match received {
                // Nobody is left who could note anything.
                Some(0) => return stop.cancelled().await,
                Some(_) => self = self.write(&mut batch).await,
                None => break,
            }
        }
        self.waiting.events.close();
        while self.waiting.events.recv_many(&mut batch, BATCH).await > 0 {
            self = self.write(&mut batch).await;
        }
    }

    /// Writes `batch` where waiting for a disk holds nobody up.
    async fn write(self, batch: &mut Vec<Arc<Event>>) -> Self {
        let Self { waiting, mut file, format } = self;
        let taken = std::mem::take(batch);
        let count = taken.len();
        let written = spawn_blocking(move || {
            let mut lines = Vec::new();
            let outcome = taken.iter().try_for_each(|event| event.write(format, &mut lines));
            let outcome = outcome.and_then(|()| file.write(&lines, Timestamp::now()));
            (file, outcome)
        });
        let (file, outcome) = match written.await {
            Ok((file, outcome)) => (file, outcome),
            // A panic of what writes, which has none: the log goes on where people look.
            Err(error) => (LogFile::Stdout, Err(io::Error::other(error))),
        };
        if let Err(error) = outcome {
            waiting.metrics.lost(PLUGIN, count);
            tracing::error!(%error, count, "audit events cannot be written; check audit.logPath and its disk");
        }
        Self { waiting, file, format }
    }
}

impl Event {
    fn write(&self, format: AuditFormat, lines: &mut Vec<u8>) -> io::Result<()> {
        match format {
            AuditFormat::Json => self.write_json(lines)?,
            AuditFormat::Legacy => self.write_legacy(lines),
        }
        Ok(())
    }
}
