//! What the SLO engine remembers of one model.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    curves::Curves,
    lengths::{CachedShare, LengthMemory},
    looks::Looks,
    outlook::ArrivalHistory,
    peaks::PeakMemory,
};
use crate::{
    estimation::Estimate,
    interfaces::{CapacityCurve, CapacityQuestion, VariantKey, as_list},
};

/// Memory of one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelMemory {
    /// When it was last brought up to date.
    pub updated_at: Option<Timestamp>,
    /// Since when the model is understood: lengths are known, and service times of all that is ready.
    pub understood_since: Option<Timestamp>,
    /// Lengths of prompts.
    pub prompts: LengthMemory,
    /// Lengths of outputs.
    pub outputs: LengthMemory,
    /// Prompt tokens found in the prefix cache.
    pub cached: CachedShare,
    /// Recent peaks of the need.
    pub peaks: PeakMemory,
    /// Arrivals of the last hours.
    pub arrivals: ArrivalHistory,
    /// Per variant.
    #[serde(with = "as_list")]
    pub variants: BTreeMap<VariantKey, VariantMemory>,
}

/// Memory of one variant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VariantMemory {
    /// Service times as learned so far.
    pub estimate: Option<Estimate>,
    /// When it last learned.
    pub learned_at: Option<Timestamp>,
    /// How even and how steady the load was.
    pub looks: Looks,
    /// Size of the KV cache in tokens.
    pub kv_cache_tokens: Option<f64>,
    /// The curve that is wanted.
    pub question: Option<Arc<CapacityQuestion>>,
    /// The last curve that was wanted and given.
    pub answered: Option<Arc<CapacityQuestion>>,
}

impl ModelMemory {
    /// The capacity curves that are wanted.
    pub fn questions(&self) -> impl Iterator<Item = &Arc<CapacityQuestion>> {
        // The last answer too: until the new one is there it is the best there is.
        self.variants.values().flat_map(|variant| variant.question.iter().chain(&variant.answered))
    }
}

impl VariantMemory {
    /// The newest curve that there is an answer to; `None` before the first.
    pub(super) fn curve<'c>(
        &mut self,
        curves: &Curves<'c>,
    ) -> Option<(&Arc<CapacityQuestion>, &'c Arc<CapacityCurve>)> {
        if let Some((question, curve)) =
            self.question.as_ref().and_then(|question| Some((question, curves.get(question)?)))
        {
            let answered = self.answered.insert(question.clone());
            return Some((answered, curve));
        }
        let answered = self.answered.as_ref()?;
        Some((answered, curves.get(answered)?))
    }
}
