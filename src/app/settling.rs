//! The first moments of a process: metric sources are asked for the first time.

use std::{sync::OnceLock, time::Duration};

use jiff::Timestamp;

use crate::interfaces::{Decision, Outcome, WithheldKind, age};

/// A decision that lacks its signals for less than this after the start is not told: sources have not answered yet, which
/// takes them one period or, where they fail, the default timeout of a query.
const SETTLED_AFTER: Duration = Duration::from_secs(12);

/// Remembers when the first cycle was.
#[derive(Debug, Default)]
pub(super) struct Settling(OnceLock<Timestamp>);

impl Settling {
    /// Whether a `decision` made at `now` is worth telling.
    pub(super) fn is_worth_telling(&self, now: Timestamp, decision: &Decision) -> bool {
        let first = *self.0.get_or_init(|| now);
        let outcome = &decision.outcome;
        let lacks_signals = matches!(outcome, Outcome::Withheld(of) if of.kind == WithheldKind::MetricsMissing);
        !lacks_signals || age(now, first) >= SETTLED_AFTER
    }
}
