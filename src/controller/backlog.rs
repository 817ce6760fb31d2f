//! When each object is due: one waiting publication per object, a pause after each write, a growing one after failures.
//!
//! Times come in as arguments, so that the pacing can be tested without waiting.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::{Change, Publication, Written};
use crate::{crd::VariantAutoscalingStatus, interfaces::VariantKey};

/// Least time between two writes to one object: what changes meanwhile is written once, at its end.
pub(super) const WRITE_PAUSE: Duration = Duration::from_secs(5);
/// Least time until a write that only changes wording. Its numbers move in every cycle; at 10,000 variants this keeps the
/// API server at some thirty such writes per second.
pub(super) const WORDING_PAUSE: Duration = Duration::from_mins(5);
/// Least time until a write that changes why no number is served: for a person who reads it now, but pods that fail one after
/// the other change it again and again.
pub(super) const CAUSE_PAUSE: Duration = Duration::from_secs(20);
/// Pauses after failures double from the first to the second of these; jitter adds at most as much again.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// An object not published for so long is forgotten.
const FORGET: Duration = Duration::from_mins(10);

/// A publication that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) publication: Publication,
    /// Our last write, while the watch does not show it yet.
    unseen: Option<VariantAutoscalingStatus>,
    /// The least change that is worth a write now.
    pub(super) threshold: Change,
}

impl Due {
    /// The status as it stands; `None` before the first.
    pub(super) fn previous(&self) -> Option<&VariantAutoscalingStatus> {
        self.unseen.as_ref().or(self.publication.object.status.as_ref())
    }
}

/// How the reconciliation of one object ended.
#[derive(Debug)]
pub(super) enum Ending {
    Written(Box<Written>),
    Unchanged,
    Gone,
    Failed(Box<Publication>),
}

/// What is waiting, and the pace of every object.
#[derive(Debug, Default)]
pub(super) struct Backlog(HashMap<VariantKey, Slot>);

#[derive(Debug)]
struct Slot {
    waiting: Option<Publication>,
    published: Instant,
    not_before: Instant,
    wording_not_before: Instant,
    cause_not_before: Instant,
    backoff: Option<ExponentialBackoff>,
    written: Option<Box<Written>>,
}

impl Slot {
    fn new(now: Instant) -> Self {
        Self {
            waiting: None,
            published: now,
            not_before: now,
            wording_not_before: now,
            cause_not_before: now,
            backoff: None,
            written: None,
        }
    }
}

impl Backlog {
    /// Takes publications in; each replaces what was waiting for the same object.
    pub(super) fn offer(&mut self, publications: impl IntoIterator<Item = (VariantKey, Publication)>, now: Instant) {
        for (key, publication) in publications {
            let slot = self.0.entry(key).or_insert_with(|| Slot::new(now));
            slot.waiting = Some(publication);
            slot.published = now;
        }
        self.0.retain(|_, slot| slot.waiting.is_some() || now.duration_since(slot.published) < FORGET);
    }

    /// Takes out what may be written now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(VariantKey, Due)> {
        let due = self.0.iter_mut().filter(|(_, slot)| slot.not_before <= now);
        due.filter_map(|(key, slot)| {
            let publication = slot.waiting.take()?;
            let unseen = slot.written.as_ref().filter(|written| written.is_newer_than(&publication.object));
            let unseen = unseen.map(|written| written.status.clone());
            let threshold = match now {
                _ if slot.wording_not_before <= now => Change::Wording,
                _ if slot.cause_not_before <= now => Change::Cause,
                _ => Change::Substance,
            };
            Some((key.clone(), Due { publication, unseen, threshold }))
        })
        .collect()
    }

    /// When the next waiting publication becomes due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().filter(|slot| slot.waiting.is_some()).map(|slot| slot.not_before).min()
    }

    /// Notes how a reconciliation ended.
    pub(super) fn settle(&mut self, key: &VariantKey, ending: Ending, now: Instant) {
        let Some(slot) = self.0.get_mut(key) else { return };
        match ending {
            Ending::Unchanged => slot.backoff = None,
            Ending::Written(written) => {
                slot.backoff = None;
                slot.not_before = now + WRITE_PAUSE;
                slot.wording_not_before = now + WORDING_PAUSE;
                slot.cause_not_before = now + CAUSE_PAUSE;
                slot.written = Some(written);
            }
            Ending::Gone => {
                self.0.remove(key);
            }
            Ending::Failed(publication) => {
                slot.waiting.get_or_insert(*publication);
                let backoff = slot.backoff.get_or_insert_with(retry_pauses);
                slot.not_before = now + backoff.next().unwrap_or(RETRY_PAUSE.1);
            }
        }
    }
}

fn retry_pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(RETRY_PAUSE.0)
        .with_max_delay(RETRY_PAUSE.1)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fixtures::{decided, object, publication};

    /// A backlog, a time, and the one object.
    struct Bench {
        backlog: Backlog,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { backlog: Backlog::default(), now: Instant::now() }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        fn offer(&mut self, version: u64, desired: u32) {
            let publication = publication(object(version, None), decided(3, desired, "why"));
            self.backlog.offer([(publication.key(), publication)], self.now);
        }

        fn take(&mut self) -> Option<Due> {
            let mut due = self.backlog.take_due(self.now);
            assert!(due.len() <= 1);
            due.pop().map(|(_, due)| due)
        }

        fn settle(&mut self, ending: Ending) {
            self.backlog.settle(&VariantKey::new("prod", "llama-a100"), ending, self.now);
        }
    }

    fn written(version: u64) -> Ending {
        let status = VariantAutoscalingStatus { reason: Some("ours".to_owned()), ..Default::default() };
        Ending::Written(Box::new(Written::new(status, &object(version, None))))
    }

    #[test]
    fn of_one_object_only_the_latest_waits() {
        let mut bench = Bench::new();
        bench.offer(1, 4);
        bench.offer(1, 5);
        let due = bench.take().unwrap();
        assert_eq!(due.publication.decision, Some(decided(3, 5, "why")));
        assert!(bench.take().is_none());
        assert_eq!(bench.backlog.next_due(), None, "nothing waits, nothing wakes the worker");
    }

    #[test]
    fn writes_to_one_object_keep_a_pause() {
        let mut bench = Bench::new();
        bench.offer(1, 4);
        bench.take().unwrap();
        bench.settle(written(2));
        bench.offer(2, 5);
        assert!(bench.take().is_none());
        assert_eq!(bench.backlog.next_due(), Some(bench.now + WRITE_PAUSE));
        bench.pass(WRITE_PAUSE);
        assert!(bench.take().is_some());
    }

    #[test]
    fn wording_waits_longer_than_causes_and_those_longer_than_substance() {
        let mut bench = Bench::new();
        bench.offer(1, 4);
        assert_eq!(bench.take().unwrap().threshold, Change::Wording, "the first write takes all");
        bench.settle(written(2));
        bench.pass(WRITE_PAUSE);
        bench.offer(2, 4);
        assert_eq!(bench.take().unwrap().threshold, Change::Substance);
        bench.settle(Ending::Unchanged);
        bench.pass(CAUSE_PAUSE);
        bench.offer(2, 4);
        assert_eq!(bench.take().unwrap().threshold, Change::Cause);
        bench.settle(Ending::Unchanged);
        bench.pass(WORDING_PAUSE);
        bench.offer(2, 4);
        assert_eq!(bench.take().unwrap().threshold, Change::Wording);
    }

    #[test]
    fn until_the_watch_shows_our_write_it_is_compared_to_our_memory() {
        let mut bench = Bench::new();
        bench.offer(10, 4);
        assert_eq!(bench.take().unwrap().previous(), None);
        bench.settle(written(12));
        for (version, remembered) in [(10, true), (11, true), (12, false), (13, false)] {
            bench.pass(WRITE_PAUSE);
            bench.offer(version, 4);
            let due = bench.take().unwrap();
            assert_eq!(due.previous().is_some(), remembered, "version {version}");
        }
    }

    #[test]
    fn a_failed_write_is_tried_again_after_growing_pauses() {
        let mut bench = Bench::new();
        bench.offer(1, 4);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let due = bench.take().unwrap();
            bench.settle(Ending::Failed(Box::new(due.publication)));
            assert!(bench.take().is_none(), "never at once");
            let pause = bench.backlog.next_due().unwrap() - bench.now;
            pauses.push(pause);
            bench.pass(pause);
        }
        // Jitter adds at most as much again.
        assert!((RETRY_PAUSE.0..=2 * RETRY_PAUSE.0).contains(&pauses[0]), "{pauses:?}");
        assert!((RETRY_PAUSE.1..=2 * RETRY_PAUSE.1).contains(&pauses[9]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 2 * RETRY_PAUSE.1), "{pauses:?}");
        bench.take().unwrap();
        bench.settle(written(2));
        bench.pass(WRITE_PAUSE);
        bench.offer(2, 5);
        let due = bench.take().unwrap();
        bench.settle(Ending::Failed(Box::new(due.publication)));
        assert!(bench.backlog.next_due().unwrap() - bench.now <= 2 * RETRY_PAUSE.0, "success resets the pauses");
    }

    #[test]
    fn a_newer_publication_replaces_the_one_that_failed() {
        let mut bench = Bench::new();
        bench.offer(1, 4);
        let due = bench.take().unwrap();
        bench.offer(1, 7);
        bench.settle(Ending::Failed(Box::new(due.publication)));
        bench.pass(RETRY_PAUSE.1);
        assert_eq!(bench.take().unwrap().publication.decision, Some(decided(3, 7, "why")));
    }

    #[test]
    fn objects_that_are_gone_or_no_longer_published_are_forgotten() {
        let mut bench = Bench::new();
        bench.offer(1, 4);
        bench.take().unwrap();
        bench.settle(Ending::Gone);
        assert!(bench.backlog.0.is_empty());
        bench.offer(1, 4);
        bench.take().unwrap();
        bench.settle(written(2));
        bench.pass(FORGET);
        bench.backlog.offer([], bench.now);
        assert!(bench.backlog.0.is_empty());
    }
}
