//! What a follower has seen, and what of it may be served. Pure.

use jiff::Timestamp;

use super::{DECISION_SHARDS, Heartbeat, Shard};
use crate::interfaces::Decision;

/// The shared documents as last seen.
#[derive(Clone, Debug, Default)]
pub struct View {
    shards: [Option<Shard>; DECISION_SHARDS],
    heartbeat: Option<Heartbeat>,
    received: Option<Timestamp>,
}

/// Decisions that the leader vouches for.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// All of them, in the order of variants.
    pub decisions: Vec<Decision>,
    /// When that was last confirmed, by our own clock: they are as old as this says.
    pub received: Timestamp,
}

impl View {
    /// A shard was written.
    pub fn take_shard(&mut self, place: usize, shard: Shard) {
        if let Some(seen) = self.shards.get_mut(place)
            && seen.as_ref().is_none_or(|seen| (seen.term, seen.revision) <= (shard.term, shard.revision))
        {
            *seen = Some(shard);
        }
    }

    /// A heartbeat was written, and received at `now`. The first one we see may have been written long ago: it counts from
    /// when its writer says it was.
    pub fn take_heartbeat(&mut self, heartbeat: Heartbeat, now: Timestamp) {
        let received = match &self.heartbeat {
            Some(seen) if *seen == heartbeat || seen.term > heartbeat.term => return,
            Some(_) => now,
            None => now.min(heartbeat.decided_at),
        };
        self.received = Some(received);
        self.heartbeat = Some(heartbeat);
    }

    /// The decisions, if what was seen is whole: every shard at least as new as the heartbeat says.
    pub fn decisions(&self) -> Option<Received> {
        let heartbeat = self.heartbeat.as_ref()?;
        let mut decisions = Vec::new();
        for (shard, revision) in self.shards.iter().zip(heartbeat.revisions) {
            let shard = shard.as_ref()?;
            if shard.term < heartbeat.term || shard.term == heartbeat.term && shard.revision < revision {
                return None;
            }
            decisions.extend(shard.decisions.iter().cloned());
        }
        for decision in &mut decisions {
            // An unchanged decision is not written again; the heartbeat says when it was last made.
            decision.decided_at = decision.decided_at.max(heartbeat.decided_at);
        }
        decisions.sort_by(|a, b| a.variant.cmp(&b.variant));
        Some(Received { decisions, received: self.received? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::interfaces::{ModelKey, Outcome, SaturationLevel, VariantKey, Withheld, WithheldKind};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn decision(name: &str, decided_at: Timestamp) -> Decision {
        let withheld = Withheld { kind: WithheldKind::MetricsMissing, message: "nothing".to_owned() };
        Decision {
            variant: VariantKey::new("prod", name),
            model: ModelKey::new("prod", "m"),
            accelerator: None,
            current: Some(1),
            ready: 1,
            decided_at,
            saturation: SaturationLevel::default(),
            outcome: Outcome::Withheld(withheld),
        }
    }

    fn shard(term: i32, revision: u64, names: &[&str]) -> Shard {
        Shard { term, revision, decisions: names.iter().map(|name| decision(name, at(0))).collect() }
    }

    fn heartbeat(term: i32, decided: i64, revision: u64) -> Heartbeat {
        Heartbeat { term, decided_at: at(decided), revisions: [revision; DECISION_SHARDS] }
    }

    fn whole() -> View {
        let mut view = View::default();
        for place in 0..DECISION_SHARDS {
            view.take_shard(place, shard(1, 1, if place == 2 { &["b", "a"] } else { &[] }));
        }
        view.take_heartbeat(heartbeat(1, 0, 1), at(3));
        view
    }

    fn names(view: &View) -> Option<Vec<String>> {
        let received = view.decisions()?;
        Some(received.decisions.iter().map(|decision| decision.variant.name.to_string()).collect())
    }

    #[test]
    fn nothing_is_served_before_every_shard_and_a_heartbeat_were_seen() {
        let mut view = View::default();
        assert_eq!(view.decisions(), None);
        view.take_heartbeat(heartbeat(1, 0, 1), at(0));
        for place in 0..DECISION_SHARDS {
            assert_eq!(view.decisions(), None, "before shard {place}");
            view.take_shard(place, shard(1, 1, &[]));
        }
        assert_eq!(names(&view), Some(Vec::new()));
        assert_eq!(names(&whole()).unwrap(), ["a", "b"], "in the order of variants");
    }

    #[test]
    fn a_shard_that_lags_behind_the_heartbeat_is_waited_for_and_one_that_runs_ahead_is_served() {
        let mut view = whole();
        view.take_heartbeat(heartbeat(1, 5, 2), at(5));
        assert_eq!(view.decisions(), None);
        for place in 0..DECISION_SHARDS {
            view.take_shard(place, shard(1, 2, if place == 0 { &["c"] } else { &[] }));
        }
        assert_eq!(names(&view).unwrap(), ["c"]);
        view.take_shard(0, shard(1, 3, &["d"]));
        assert_eq!(names(&view).unwrap(), ["d"]);
    }

    #[test]
    fn age_counts_from_our_own_receipt_whatever_the_leaders_clock_says() {
        let mut view = whole();
        // The leader's clock is an hour ahead; then an hour behind.
        for (decided, received) in [(3600, 10), (-3600, 20)] {
            view.take_heartbeat(heartbeat(1, decided, 1), at(received));
            assert_eq!(view.decisions().unwrap().received, at(received));
        }
        // The same heartbeat again, as a watch that starts anew shows it, confirms nothing.
        view.take_heartbeat(heartbeat(1, -3600, 1), at(99));
        assert_eq!(view.decisions().unwrap().received, at(20));
    }

    #[test]
    fn the_first_heartbeat_is_as_old_as_its_writer_says() {
        let mut view = View::default();
        for place in 0..DECISION_SHARDS {
            view.take_shard(place, shard(1, 1, &[]));
        }
        view.take_heartbeat(heartbeat(1, 0, 1), at(0) + Duration::from_hours(3));
        assert_eq!(view.decisions().unwrap().received, at(0));
    }

    #[test]
    fn what_a_deposed_leader_still_writes_is_ignored() {
        let mut view = whole();
        for place in 0..DECISION_SHARDS {
            view.take_shard(place, shard(2, 1, &["new"][..usize::from(place == 1)]));
        }
        view.take_heartbeat(heartbeat(2, 6, 1), at(6));
        view.take_shard(1, shard(1, 99, &["old"]));
        view.take_heartbeat(heartbeat(1, 9, 99), at(9));
        assert_eq!(names(&view).unwrap(), ["new"]);
        assert_eq!(view.decisions().unwrap().received, at(6));
    }

    #[test]
    fn the_served_time_is_that_of_the_heartbeat() {
        let mut view = whole();
        view.take_heartbeat(heartbeat(1, 30, 1), at(31));
        assert!(view.decisions().unwrap().decisions.iter().all(|decision| decision.decided_at == at(30)));
    }
}
