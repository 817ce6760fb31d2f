//! Curves that have been computed, by question.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::interfaces::{CapacityCurve, CapacityQuestion};

/// Curves kept at most; one is a few hundred bytes.
const MOST: usize = 20_000;

/// A cache of capacity curves, shared between who computes them and who takes snapshots.
#[derive(Debug, Default)]
pub struct CurveCache {
    curves: Mutex<BTreeMap<Arc<CapacityQuestion>, Arc<CapacityCurve>>>,
}

impl CurveCache {
    /// The curve, if it was computed.
    pub fn get(&self, question: &CapacityQuestion) -> Option<Arc<CapacityCurve>> {
        self.locked().get(question).cloned()
    }

    /// Keeps a curve. When there are too many, all others are forgotten: those in use are computed again.
    pub fn insert(&self, question: Arc<CapacityQuestion>, curve: Arc<CapacityCurve>) {
        let mut curves = self.locked();
        if curves.len() >= MOST {
            curves.clear();
        }
        curves.insert(question, curve);
    }

    /// Of `questions`, those with a curve, in the form a snapshot takes.
    pub fn answers<'a>(
        &self,
        questions: impl Iterator<Item = &'a Arc<CapacityQuestion>>,
    ) -> BTreeMap<Arc<CapacityQuestion>, Arc<CapacityCurve>> {
        let curves = self.locked();
        questions.filter_map(|question| Some((question.clone(), curves.get(question)?.clone()))).collect()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<CapacityQuestion>, Arc<CapacityCurve>>> {
        self.curves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
