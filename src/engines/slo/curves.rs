//! The capacity curves of a snapshot, found without reading the questions.
//!
//! A question is some thirty numbers, and a map of ten thousand compares it with a dozen others. But a state and the answers
//! to its questions share them: those are found by where they are. One that was copied, as in a replay, is still found by
//! what it says.

use std::{collections::HashMap, sync::Arc};

use crate::interfaces::{CapacityCurve, CapacityQuestion, Snapshot};

/// Curves by question.
pub(in crate::engines) struct Curves<'a> {
    snapshot: &'a Snapshot,
    shared: HashMap<*const CapacityQuestion, &'a Arc<CapacityCurve>>,
}

impl<'a> Curves<'a> {
    /// The curves of `snapshot`.
    pub(in crate::engines) fn of(snapshot: &'a Snapshot) -> Self {
        let shared = snapshot.curves.iter().map(|(question, curve)| (Arc::as_ptr(question), curve));
        Self { snapshot, shared: shared.collect() }
    }

    /// The curve that answers `question`.
    pub(super) fn get(&self, question: &Arc<CapacityQuestion>) -> Option<&'a Arc<CapacityCurve>> {
        self.shared.get(&Arc::as_ptr(question)).copied().or_else(|| self.snapshot.curves.get(question))
    }
}
