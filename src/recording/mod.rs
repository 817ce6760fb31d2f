//! Recorded cycles: what was remembered, what was seen, and what was decided on it. `wva serve` writes them into a
//! bounded directory; `wva plan` reads them and decides again.
//!
//! A recording is one JSON object, compressed with gzip. A snapshot alone, in JSON or YAML and written by hand, is read
//! too: nothing is remembered then.

mod directory;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Read},
    sync::Arc,
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use directory::{Directory, DirectoryLimits};

use crate::{
    engines::{STATE_VERSION, State},
    interfaces::{Decision, SNAPSHOT_VERSION, Snapshot},
};

/// Most bytes that a recording may have once unpacked.
const LARGEST: u64 = 4 << 30;
/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recording {
    /// What was remembered before it: opaque, and of one version of wva.
    #[serde(default)]
    #[schemars(with = "Option<Value>")]
    pub state: State,
    /// What was seen.
    pub snapshot: Arc<Snapshot>,
    /// What was decided; empty in a recording that was written by hand.
    #[serde(default)]
    #[schemars(with = "Vec<Value>")]
    pub decisions: Vec<Decision>,
}

/// A recording cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The bytes cannot be unpacked or are no text.
    #[error("it cannot be unpacked: {0}")]
    Unpack(io::Error),
    /// The text is not a recording.
    #[error("it is neither a recording nor a snapshot: {0}; `wva plan --print-schema` says what one is")]
    Parse(String),
    /// It is of another version.
    #[error("its {part} is of version {found}, this wva reads version {known}; use the wva that wrote it")]
    Version {
        /// State or snapshot.
        part: &'static str,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It has no JSON form.
    #[error("it has no JSON form: {0}; this is a defect of wva, please report it")]
    Pack(io::Error),
}

impl Recording {
    /// Reads a recording or a bare snapshot, in JSON or YAML, compressed with gzip or not.
    ///
    /// # Errors
    /// Where it is none, or one of another version.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordingError> {
        let mut text = String::new();
        if bytes.starts_with(&GZIP) {
            MultiGzDecoder::new(bytes).take(LARGEST).read_to_string(&mut text).map_err(RecordingError::Unpack)?;
        } else {
            bytes.take(LARGEST).read_to_string(&mut text).map_err(RecordingError::Unpack)?;
        }
        let recording = parse(&text)?;
        let check = |part, found, known| {
            if found == known { Ok(()) } else { Err(RecordingError::Version { part, found, known }) }
        };
        check("snapshot", recording.snapshot.version, SNAPSHOT_VERSION)?;
        check("state", recording.state.version, STATE_VERSION)?;
        Ok(recording)
    }

    /// The recording as compressed JSON.
    ///
    /// # Errors
    /// Where it has no JSON form, which only a defect can cause.
    pub fn pack(&self) -> Result<Vec<u8>, RecordingError> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut packed, self).map_err(|error| RecordingError::Pack(error.into()))?;
        packed.finish().map_err(RecordingError::Pack)
    }
}

/// Both forms through the YAML parser, which JSON is a subset of: unlike `serde_json`'s it reads back every float to the
/// last bit, and one bit can be a replica.
fn parse(text: &str) -> Result<Recording, RecordingError> {
    #[derive(Deserialize)]
    struct Outline {
        snapshot: Option<serde::de::IgnoredAny>,
    }
    let options = || serde_saphyr::options! { budget: None };
    let fault = |error: serde_saphyr::Error| RecordingError::Parse(error.to_string());
    let outline: Outline = serde_saphyr::from_str_with_options(text, options()).map_err(fault)?;
    if outline.snapshot.is_some() {
        return serde_saphyr::from_str_with_options(text, options()).map_err(fault);
    }
    let snapshot = serde_saphyr::from_str_with_options(text, options()).map_err(fault)?;
    Ok(Recording { state: State::default(), snapshot, decisions: Vec::new() })
}

/// The JSON schema (2020-12) of a recording; that of a snapshot is its `properties.snapshot`.
pub fn schema() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Recording>();
    schema.to_value()
}
