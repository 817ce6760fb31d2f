//! Whether to take, renew or leave a Lease. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` when nobody does.
    pub holder: Option<String>,
    /// For how long without a renewal.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: i32,
    /// When it was renewed, by the holder's clock: only whether it changes counts.
    pub renewed: Option<Timestamp>,
    /// When the holder took it, by its clock.
    pub acquired: Option<Timestamp>,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is ours: renew it.
    Renew,
    /// It is free: take it.
    Take,
    /// It is somebody else's.
    Wait,
}

/// What `me` does with a Lease whose record has not changed for `unchanged`.
pub fn action(record: &Record, unchanged: Duration, me: &str) -> Action {
    match &record.holder {
        Some(holder) if holder == me => Action::Renew,
        Some(_) if unchanged < record.duration => Action::Wait,
        _ => Action::Take,
    }
}

impl Record {
    /// The record of a Lease.
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(seconds),
            transitions: spec.lease_transitions.unwrap_or_default(),
            renewed: spec.renew_time.map(|at| at.0),
            acquired: spec.acquire_time.map(|at| at.0),
        }
    }

    /// The record after `me` took or renewed the Lease at `now`.
    #[must_use]
    pub fn held_by(&self, me: &str, duration: Duration, now: Timestamp) -> Self {
        let is_mine = self.holder.as_deref() == Some(me);
        Self {
            holder: Some(me.to_owned()),
            duration,
            transitions: if is_mine { self.transitions } else { self.transitions.saturating_add(1) },
            renewed: Some(now),
            acquired: if is_mine { self.acquired } else { Some(now) },
        }
    }

    /// The record after its holder gave the Lease back. The count of transitions stays: it only grows.
    #[must_use]
    pub fn released(&self, now: Timestamp) -> Self {
        Self { holder: None, duration: Duration::from_secs(1), renewed: Some(now), ..self.clone() }
    }

    /// What of a Lease's `spec` is written.
    pub fn to_spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone().unwrap_or_default()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok().map(|seconds| seconds.max(1)),
            lease_transitions: Some(self.transitions),
            renew_time: self.renewed.map(MicroTime),
            acquire_time: self.acquired.map(MicroTime),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn held(holder: Option<&str>) -> Record {
        Record { holder: holder.map(str::to_owned), duration: DURATION, transitions: 3, ..Record::default() }
    }

    #[test]
    fn a_lease_is_renewed_by_its_holder_taken_when_free_and_otherwise_left() {
        let fresh = Duration::from_secs(1);
        for (case, record, unchanged, expected) in [
            ("never held", Record::default(), Duration::ZERO, Action::Take),
            ("released", held(None), fresh, Action::Take),
            ("mine", held(Some("me")), fresh, Action::Renew),
            ("mine, and long not renewed", held(Some("me")), DURATION * 9, Action::Renew),
            ("another's", held(Some("other")), fresh, Action::Wait),
            ("another's, almost expired", held(Some("other")), DURATION.mul_f64(0.999), Action::Wait),
            ("another's, expired", held(Some("other")), DURATION, Action::Take),
        ] {
            assert_eq!(action(&record, unchanged, "me"), expected, "{case}");
        }
    }

    #[test]
    fn the_term_grows_when_the_lease_changes_hands_and_only_then() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let taken = held(Some("other")).held_by("me", DURATION, now);
        assert_eq!((taken.transitions, taken.acquired), (4, Some(now)));
        let later = now + Duration::from_secs(2);
        let renewed = taken.held_by("me", DURATION, later);
        assert_eq!((renewed.transitions, renewed.acquired, renewed.renewed), (4, Some(now), Some(later)));
        let released = renewed.released(later);
        assert_eq!((released.transitions, &released.holder), (4, &None));
        // The same process again: a new term all the same, for another may have held it in between.
        assert_eq!(released.held_by("me", DURATION, later).transitions, 5);
    }

    #[test]
    fn a_record_survives_the_lease() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for record in [held(Some("a")).held_by("me", DURATION, now), held(Some("a")).released(now)] {
            let lease = Lease { spec: Some(record.to_spec()), ..Lease::default() };
            assert_eq!(Record::of(&lease), record);
        }
    }
}
