//! The leader's side: takes over what the one before left, and writes what changes.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::{Api, Client, api::PostParams};
use thiserror::Error;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    DECISION_SHARDS, HEARTBEAT, Heartbeat, STATE_PARTS, Shard, decisions_name,
    document::{DocumentError, Part, cut, join, pack, spread, unpack},
    state_name,
};
use crate::{
    engines::State,
    interfaces::{Decision, Outcome},
};

pub(super) const DOCUMENT: &str = "document";
const TERM: &str = "wva.llmd.ai/term";
/// Term of the document itself; the one above is also put on documents of earlier terms.
const WRITTEN_IN: &str = "wva.llmd.ai/written-in-term";
const REVISION: &str = "wva.llmd.ai/revision";
const COUNT: &str = "wva.llmd.ai/parts";
/// A request that takes longer is given up, so that decisions do not wait for a slow kube-apiserver.
const PATIENCE: Duration = Duration::from_secs(3);
/// What changes with every cycle without changing what is asked for (texts, levels, learned parameters) is written at
/// most this often.
const REFRESH: Duration = Duration::from_secs(30);
/// A heartbeat says that nothing changed at most this often.
const BEAT: Duration = Duration::from_secs(5);

/// Why the archive cannot be used.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// A ConfigMap cannot be read or written.
    #[error(
        "ConfigMap {name} cannot be read or written: {source}; check that manifests/ created it and that the service \
         account may get, watch and update it (manifests/rbac/high-availability.yaml)"
    )]
    Request {
        /// The ConfigMap.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("ConfigMap {0} cannot be read or written: kube-apiserver did not answer within {PATIENCE:?}")]
    Timeout(String),
    /// A later leader has written.
    #[error("ConfigMap {name} was written in term {found}, ours is {ours}: another replica leads")]
    Deposed {
        /// The ConfigMap.
        name: String,
        /// The later term.
        found: i32,
        /// Ours.
        ours: i32,
    },
    /// A document cannot be written.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What the leader of one term has written.
pub struct Archive {
    maps: Api<ConfigMap>,
    term: Option<i32>,
    /// The `ConfigMap`s as we last wrote them; their `resourceVersion`s are the fence.
    written: BTreeMap<String, ConfigMap>,
    shards: [Shard; DECISION_SHARDS],
    /// When each shard was last written.
    shards_at: [Timestamp; DECISION_SHARDS],
    heartbeat_at: Timestamp,
    state_digest: u64,
    state_at: Timestamp,
    revision: u64,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("term", &self.term).field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Archive {
    /// An archive that has written nothing, in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            maps: Api::namespaced(client, namespace),
            term: None,
            written: BTreeMap::new(),
            shards: Default::default(),
            shards_at: [Timestamp::UNIX_EPOCH; DECISION_SHARDS],
            heartbeat_at: Timestamp::UNIX_EPOCH,
            state_digest: 0,
            state_at: Timestamp::UNIX_EPOCH,
            revision: 0,
        }
    }

    /// The term that was taken over; `None` before.
    pub fn term(&self) -> Option<i32> {
        self.term
    }

    /// Begins `term`: puts it on every object, which shuts out the leaders before, and gives the state they left. `None`
    /// where there is none that can be used.
    ///
    /// # Errors
    /// When an object cannot be read or written, or a later leader was here.
    pub async fn take_over(&mut self, term: i32) -> Result<Option<State>, ArchiveError> {
        self.term = None;
        self.written.clear();
        let mut parts = BTreeMap::new();
        for place in 0..STATE_PARTS {
            let map = self.claim(&state_name(place), term).await?;
            if let Some(part) = part_of(&map) {
                parts.insert(place, part);
            }
        }
        for place in 0..DECISION_SHARDS {
            let map = self.claim(&decisions_name(place), term).await?;
            self.shards[place] = document(&map).and_then(|bytes| unpack(bytes).ok()).unwrap_or_default();
            self.shards_at[place] = Timestamp::UNIX_EPOCH;
        }
        self.claim(HEARTBEAT, term).await?;
        (self.revision, self.heartbeat_at, self.state_at) = (0, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        self.term = Some(term);
        Ok(match join(&parts) {
            Some(Ok(state)) => {
                info!(term, "the state of the leader before is taken over");
                Some(state)
            }
            Some(Err(error)) => {
                warn!(%error, "the state of the leader before cannot be used; learning begins anew");
                None
            }
            None => None,
        })
    }

    /// Puts the term on one object and keeps its content.
    async fn claim(&mut self, name: &str, term: i32) -> Result<ConfigMap, ArchiveError> {
        // A second try, because the leader before may just be writing for the last time.
        for _ in 0..2 {
            let mut map = within(name, self.maps.get(name)).await?;
            let found = annotation(&map, TERM).unwrap_or_default();
            if found > term {
                return Err(ArchiveError::Deposed { name: name.to_owned(), found, ours: term });
            }
            annotate(&mut map, TERM, &term);
            match within(name, self.maps.replace(name, &PostParams::default(), &map)).await {
                Ok(written) => {
                    self.written.insert(name.to_owned(), written.clone());
                    return Ok(written);
                }
                Err(ArchiveError::Request { source, .. }) if is_conflict(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ArchiveError::Timeout(name.to_owned()))
    }

    /// Writes what has changed: decisions at once, the rest now and then. Nothing before [`Archive::take_over`].
    ///
    /// # Errors
    /// When an object cannot be written, or a later leader was here.
    pub async fn save(&mut self, decisions: &[Decision], state: &State, now: Timestamp) -> Result<(), ArchiveError> {
        let Some(term) = self.term else { return Ok(()) };
        self.revision += 1;
        let mut wrote = false;
        for (place, decisions) in spread(decisions).into_iter().enumerate() {
            let before = &self.shards[place];
            let is_urgent = before.term != term || differs(&before.decisions, &decisions);
            let is_due = is_urgent || is_later(self.shards_at[place], REFRESH, now) && before.decisions != decisions;
            if is_due {
                let shard = Shard { term, revision: self.revision, decisions };
                self.write(&decisions_name(place), pack(&shard)?, &[]).await?;
                (self.shards[place], self.shards_at[place]) = (shard, now);
                wrote |= is_urgent;
            }
        }
        if wrote || is_later(self.heartbeat_at, BEAT, now) {
            self.beat(term, decisions, now).await?;
        }
        if is_later(self.state_at, REFRESH, now) {
            self.save_state(state, now).await?;
        }
        Ok(())
    }

    async fn beat(&mut self, term: i32, decisions: &[Decision], now: Timestamp) -> Result<(), ArchiveError> {
        let decided_at = decisions.iter().map(|decision| decision.decided_at).max().unwrap_or(now);
        let revisions = std::array::from_fn(|place| self.shards[place].revision);
        let heartbeat = Heartbeat { term, decided_at, revisions };
        self.write(HEARTBEAT, pack(&heartbeat)?, &[]).await?;
        self.heartbeat_at = now;
        Ok(())
    }

    /// Writes the state if it changed.
    ///
    /// # Errors
    /// When an object cannot be written, or a later leader was here.
    pub async fn save_state(&mut self, state: &State, now: Timestamp) -> Result<(), ArchiveError> {
        if self.term.is_none() {
            return Ok(());
        }
        let parts = cut(state)?;
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        let digest = hasher.finish();
        self.state_at = now;
        if digest == self.state_digest {
            return Ok(());
        }
        let count = parts.len();
        for (place, bytes) in parts.into_iter().enumerate() {
            self.write(&state_name(place), bytes, &[(COUNT, count)]).await?;
        }
        self.state_digest = digest;
        Ok(())
    }

    /// Replaces one document, if nobody else has since our last write.
    async fn write(&mut self, name: &str, bytes: Vec<u8>, marks: &[(&str, usize)]) -> Result<(), ArchiveError> {
        let ours = self.term.unwrap_or_default();
        let mut map = match self.written.get(name) {
            Some(map) => map.clone(),
            None => within(name, self.maps.get(name)).await?,
        };
        map.binary_data = Some(BTreeMap::from([(DOCUMENT.to_owned(), ByteString(bytes))]));
        annotate(&mut map, TERM, &ours);
        annotate(&mut map, WRITTEN_IN, &ours);
        annotate(&mut map, REVISION, &self.revision);
        for (key, value) in marks {
            annotate(&mut map, key, value);
        }
        match within(name, self.maps.replace(name, &PostParams::default(), &map)).await {
            Ok(written) => {
                self.written.insert(name.to_owned(), written);
                Ok(())
            }
            Err(error) => {
                // Read anew at the next try; a later leader, or somebody who edited it, was here.
                self.written.remove(name);
                match &error {
                    ArchiveError::Request { source, .. } if is_conflict(source) => {
                        let found = annotation(&within(name, self.maps.get(name)).await?, TERM).unwrap_or_default();
                        if found > ours {
                            self.term = None;
                            return Err(ArchiveError::Deposed { name: name.to_owned(), found, ours });
                        }
                        Err(error)
                    }
                    _ => Err(error),
                }
            }
        }
    }
}

/// Whether an HPA could tell the two apart: the number, the refusal, the limits, what exists.
fn differs(before: &[Decision], now: &[Decision]) -> bool {
    before.len() != now.len() || before.iter().zip(now).any(|(before, now)| essence(before) != essence(now))
}

fn essence(decision: &Decision) -> impl PartialEq + '_ {
    let outcome = match &decision.outcome {
        Outcome::Desired(desired) => Ok((desired.replicas, desired.unconstrained, desired.direction)),
        Outcome::Withheld(withheld) => Err(withheld.kind),
    };
    (&decision.variant, &decision.model, &decision.accelerator, decision.current, decision.ready, outcome)
}

fn is_later(last: Timestamp, than: Duration, now: Timestamp) -> bool {
    // A clock that was set back must not stop the writing.
    now < last || now.duration_since(last) >= jiff::SignedDuration::try_from(than).unwrap_or_default()
}

fn part_of(map: &ConfigMap) -> Option<Part> {
    Some(Part {
        term: annotation(map, WRITTEN_IN)?,
        revision: annotation(map, REVISION)?,
        count: annotation(map, COUNT)?,
        bytes: document(map)?.to_vec(),
    })
}

pub(super) fn document(map: &ConfigMap) -> Option<&[u8]> {
    map.binary_data.as_ref()?.get(DOCUMENT).map(|bytes| bytes.0.as_slice())
}

fn annotation<T: std::str::FromStr>(map: &ConfigMap, key: &str) -> Option<T> {
    map.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

fn annotate(map: &mut ConfigMap, key: &str, value: &impl ToString) {
    map.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_string());
}

async fn within<T>(name: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, ArchiveError> {
    let answer = timeout(PATIENCE, request).await.map_err(|_| ArchiveError::Timeout(name.to_owned()))?;
    answer.map_err(|source| ArchiveError::Request { name: name.to_owned(), source: Box::new(source) })
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests;
