//! The documents and their compressed form. Pure.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    engines::State,
    interfaces::{Decision, ModelKey},
};

/// `ConfigMap`s that the decisions are spread over.
pub const DECISION_SHARDS: usize = 4;
/// `ConfigMap`s that the state is cut into.
pub const STATE_PARTS: usize = 4;
/// Most bytes of one part: a ConfigMap holds one mebibyte.
const LARGEST_PART: usize = 900 * 1024;
/// Most bytes that a document may have decompressed: what we would never write is not read either.
const LARGEST_DOCUMENT: u64 = 256 * 1024 * 1024;

/// A part of the decisions. All variants of one model are in one shard, so that they change together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Term of the writer.
    pub term: i32,
    /// Grows with each write within a term.
    pub revision: u64,
    /// The decisions, in the order of variants.
    pub decisions: Vec<Decision>,
}

/// Says that the decisions still hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Term of the writer.
    pub term: i32,
    /// When the decisions were made, by the leader's clock.
    pub decided_at: Timestamp,
    /// Revision of each shard.
    pub revisions: [u64; DECISION_SHARDS],
}

/// One part of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) term: i32,
    pub(super) revision: u64,
    pub(super) count: usize,
    pub(super) bytes: Vec<u8>,
}

/// A document cannot be written or read.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// It has no JSON form, or is not of this version.
    #[error("not a document of this version of wva: {0}")]
    Json(#[from] serde_json::Error),
    /// It cannot be compressed or decompressed.
    #[error("cannot be decompressed: {0}")]
    Compression(#[from] io::Error),
    /// It does not fit into its objects.
    #[error("the state has {0} bytes compressed and does not fit into {STATE_PARTS} ConfigMaps")]
    TooLarge(usize),
}

/// The shard that holds the variants of a model. Stable over versions and architectures (FNV-1a), because replicas of two
/// versions run side by side during an update.
pub fn shard_of(model: &ModelKey) -> usize {
    let bytes = model.namespace.bytes().chain([0]).chain(model.model_id.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash % DECISION_SHARDS as u64) as usize
}

/// The decisions of each shard.
pub(super) fn spread(decisions: &[Decision]) -> [Vec<Decision>; DECISION_SHARDS] {
    let mut shards: [Vec<Decision>; DECISION_SHARDS] = std::array::from_fn(|_| Vec::new());
    for decision in decisions {
        shards[shard_of(&decision.model)].push(decision.clone());
    }
    shards
}

/// A document as compressed JSON.
pub(super) fn pack<T: Serialize>(document: &T) -> Result<Vec<u8>, DocumentError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut encoder, document)?;
    encoder.flush()?;
    Ok(encoder.finish()?)
}

/// The document in compressed JSON.
pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    Ok(serde_json::from_reader(io::BufReader::new(GzDecoder::new(bytes).take(LARGEST_DOCUMENT)))?)
}

/// The compressed state, cut into as many parts as it needs.
pub(super) fn cut(state: &State) -> Result<Vec<Vec<u8>>, DocumentError> {
    let bytes = pack(state)?;
    let parts: Vec<_> = bytes.chunks(LARGEST_PART).map(<[u8]>::to_vec).collect();
    if parts.len() > STATE_PARTS { Err(DocumentError::TooLarge(bytes.len())) } else { Ok(parts) }
}

/// The state in `parts`, by their place; `None` when they do not belong together: a leader died between two of them.
pub(super) fn join(parts: &BTreeMap<usize, Part>) -> Option<Result<State, DocumentError>> {
    let first = parts.get(&0)?;
    let mut bytes = Vec::new();
    for place in 0..first.count {
        let part = parts.get(&place)?;
        if (part.term, part.revision, part.count) != (first.term, first.revision, first.count) {
            return None;
        }
        bytes.extend_from_slice(&part.bytes);
    }
    Some(unpack(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(revision: u64, count: usize, bytes: &[u8]) -> Part {
        Part { term: 1, revision, count, bytes: bytes.to_vec() }
    }

    #[test]
    fn the_shard_of_a_model_never_changes() {
        let of = |model: &str| shard_of(&ModelKey::new("prod", model));
        assert_eq!(["meta/llama", "ibm/granite", "qwen", "mistral"].map(of), [3, 3, 3, 0]);
        let mut seen = [0; DECISION_SHARDS];
        for number in 0..400 {
            seen[of(&format!("model-{number}"))] += 1;
        }
        assert!(seen.iter().all(|count| (60..=140).contains(count)), "spread evenly: {seen:?}");
    }

    #[test]
    fn a_state_is_read_back_from_its_parts_only_when_they_belong_together() {
        let state = State::default();
        let bytes = cut(&state).unwrap().concat();
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        let parts = |one, other| BTreeMap::from([(0, one), (1, other)]);
        let whole = parts(part(7, 2, head), part(7, 2, tail));
        assert_eq!(join(&whole).unwrap().unwrap(), state);
        assert!(join(&parts(part(8, 2, head), part(7, 2, tail))).is_none(), "of two writes");
        assert!(join(&BTreeMap::from([(0, part(7, 2, head))])).is_none(), "one is lost");
        assert!(join(&BTreeMap::new()).is_none(), "never written");
        assert!(join(&BTreeMap::from([(0, part(7, 1, head))])).unwrap().is_err(), "cut short");
        // Parts left by an earlier, larger state are not looked at.
        assert!(join(&parts(part(9, 1, &bytes), part(7, 2, tail))).unwrap().is_ok());
    }

    #[test]
    fn what_is_no_document_is_an_error_and_no_panic() {
        for bytes in [&b""[..], b"{}", b"\x1f\x8b garbage"] {
            assert!(unpack::<Shard>(bytes).is_err());
        }
        assert!(unpack::<Shard>(&pack(&serde_json::json!({"term": 1})).unwrap()).is_err());
    }
}
