//! To zero and back: a model without requests for a whole retention period gives all its replicas up; a request that
//! waits at the gateway wakes exactly one variant.
//!
//! ```text
//! serving ──(no request for the retention period, all minimums 0)──► at zero
//!    ▲                                                                  │ a request waits at the gateway
//!    └──(ready and measurable)── waking: minimum replicas ◄─────────────┘ cheapest variant that can grow
//! ```
//!
//! What is not known is not idle: while replicas are ready and say nothing, the model counts as active.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{State, bounds::EffectiveBounds};
use crate::interfaces::{
    Decision, Desired, Direction, EngineName, ModelKey, ModelMetrics, Outcome, Reason, ReplicaMetrics,
    ScaleObservation, Signal, Snapshot, TargetObservation, VariantKey, VariantObservation, WithheldKind, age,
};

/// What is remembered of one model's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When a request was last seen, or could not be ruled out. The first sight of a model counts.
    pub last_active: Timestamp,
    /// The variant that was woken and has not served yet.
    #[serde(default)]
    pub waking: Option<VariantKey>,
}

/// Variants of one model whose targets could be read.
struct Model<'a> {
    snapshot: &'a Snapshot,
    key: &'a ModelKey,
    members: Vec<(&'a VariantObservation, &'a ScaleObservation, EffectiveBounds)>,
    known: Option<&'a ModelMetrics>,
}

/// What a model at the edge of zero asks of one variant, in place of what was decided.
struct Ask<'a> {
    variant: &'a VariantKey,
    spec: u32,
    replicas: u32,
    text: String,
}

/// Changes the decisions of models that sleep, wake or fall asleep; gives what to remember of each.
pub(super) fn apply(state: &State, snapshot: &Snapshot, decisions: &mut [Decision]) -> BTreeMap<ModelKey, Activity> {
    let may_sleep = |observation: &&VariantObservation| observation.variant.bounds.min == 0;
    let sleepers: BTreeSet<&ModelKey> =
        snapshot.variants.iter().filter(may_sleep).map(|observation| &observation.variant.model).collect();
    let known: BTreeMap<&ModelKey, &ModelMetrics> =
        snapshot.models.iter().map(|model| (&model.model, &model.metrics)).collect();
    let mut models: BTreeMap<&ModelKey, Model<'_>> = BTreeMap::new();
    for observation in snapshot.variants.iter().filter(|observation| sleepers.contains(&observation.variant.model)) {
        let TargetObservation::Found(scale) = &observation.target else { continue };
        let bounds = EffectiveBounds::of(observation, snapshot);
        let key = &observation.variant.model;
        let model = models.entry(key).or_insert_with(|| Model {
            snapshot,
            key,
            members: Vec::new(),
            known: known.get(key).copied(),
        });
        model.members.push((observation, scale, bounds));
    }
    let mut wanted: BTreeMap<&VariantKey, Ask<'_>> = BTreeMap::new();
    let mut activities = BTreeMap::new();
    for model in models.values_mut().filter(|model| model.can_sleep()) {
        model.members.sort_by(|a, b| a.0.variant.key.cmp(&b.0.variant.key));
        let before = state.activity.get(model.key);
        let (activity, asks) = model.next(before);
        activities.insert(model.key.clone(), activity);
        wanted.extend(asks.into_iter().map(|ask| (ask.variant, ask)));
    }
    for decision in decisions {
        if let Some(ask) = wanted.remove(&decision.variant) {
            impose(decision, ask);
        }
    }
    activities
}

impl<'a> Model<'a> {
    /// Whether there is a way to zero at all: a variant whose bounds allow it.
    fn can_sleep(&self) -> bool {
        self.members.iter().any(|(.., bounds)| bounds.range().min == 0)
    }

    fn next(&self, before: Option<&Activity>) -> (Activity, Vec<Ask<'a>>) {
        let now = self.snapshot.taken_at;
        let last_active = before.map_or(now, |before| before.last_active);
        let is_down = self.members.iter().all(|(_, scale, _)| scale.spec == 0 && scale.current == 0);
        if is_down {
            return self.asleep(last_active, before.and_then(|before| before.waking.as_ref()));
        }
        let waking = before.and_then(|before| before.waking.clone()).filter(|waking| !self.serves(waking));
        if let Some(waking) = waking {
            let asks = self.hold_while_waking(&waking);
            return (Activity { last_active: now, waking: Some(waking) }, asks);
        }
        if self.may_be_active() {
            return (Activity { last_active: now, waking: None }, Vec::new());
        }
        (Activity { last_active, waking: None }, self.to_zero(last_active))
    }

    /// All variants stand at zero: one is woken when a request waits.
    fn asleep(&self, last_active: Timestamp, asked: Option<&VariantKey>) -> (Activity, Vec<Ask<'a>>) {
        let waits = self.fresh(self.known.map(|known| known.gateway_queue)).unwrap_or(0.0);
        let arrives = self.fresh(self.known.map(|known| known.gateway_arrival_rate)).unwrap_or(0.0);
        if waits <= 0.0 && arrives <= 0.0 {
            return (Activity { last_active, waking: None }, Vec::new());
        }
        // Who was asked first stays asked: two half-woken variants cost twice and serve no sooner.
        let chosen = asked.and_then(|asked| self.members.iter().find(|(variant, ..)| variant.variant.key == *asked));
        let Some((variant, _, bounds)) = chosen.or_else(|| self.cheapest_to_wake()) else {
            return (Activity { last_active, waking: None }, Vec::new());
        };
        let key = &variant.variant.key;
        let seen = if waits > 0.0 {
            format!("{waits:.0} requests wait at the gateway")
        } else {
            format!("{arrives:.2} req/s reach the gateway")
        };
        let replicas = bounds.range().min.max(1);
        let asks = self.members.iter().map(|(other, scale, _)| {
            let variant = &other.variant.key;
            let (replicas, text) = if variant == key {
                (replicas, format!("{seen} and no replica is there; the cheapest variant wakes"))
            } else {
                (0, format!("variant {} wakes first", key.name))
            };
            Ask { variant, spec: scale.spec, replicas, text }
        });
        let asks = asks.collect();
        (Activity { last_active: self.snapshot.taken_at, waking: Some(key.clone()) }, asks)
    }

    fn cheapest_to_wake(&self) -> Option<&(&'a VariantObservation, &'a ScaleObservation, EffectiveBounds)> {
        let is_disabled =
            |variant: &VariantObservation| variant.autoscalers.iter().any(|autoscaler| autoscaler.bounds.min > 0);
        let has_room = |bounds: &EffectiveBounds| bounds.range().max.is_none_or(|max| max > 0);
        self.members.iter().filter(|(.., bounds)| has_room(bounds)).min_by(|(a, ..), (b, ..)| {
            // An HPA with a minimum above zero is disabled while its target stands at zero: it cannot wake anything.
            let by_hand = is_disabled(a).cmp(&is_disabled(b));
            by_hand.then(a.variant.cost.total_cmp(&b.variant.cost)).then_with(|| a.variant.key.cmp(&b.variant.key))
        })
    }

    /// Whether the woken variant can be handed over: a replica of it is ready *and* measurable, or it is gone.
    fn serves(&self, waking: &VariantKey) -> bool {
        let Some((variant, scale, _)) = self.members.iter().find(|(variant, ..)| variant.variant.key == *waking) else {
            return true;
        };
        let is_measured = |replica: &ReplicaMetrics| {
            self.fresh(Some(replica.kv_cache_usage)).is_some() && self.fresh(Some(replica.queue_length)).is_some()
        };
        scale.ready > 0 && variant.replicas.iter().any(is_measured)
    }

    /// Until the hand-over everything stays as it was set.
    fn hold_while_waking(&self, waking: &VariantKey) -> Vec<Ask<'a>> {
        let hold = |(variant, scale, bounds): &(&'a VariantObservation, &ScaleObservation, EffectiveBounds)| {
            let key = &variant.variant.key;
            let text =
                format!("variant {} wakes from zero; the load decides once it is ready and measured", waking.name);
            let range = bounds.range();
            let least = if key == waking { range.min.max(1) } else { range.min };
            let replicas = scale.spec.max(least).min(range.max.unwrap_or(u32::MAX));
            Ask { variant: key, spec: scale.spec, replicas, text }
        };
        self.members.iter().map(hold).collect()
    }

    /// Whether a request was seen, or may have been.
    fn may_be_active(&self) -> bool {
        let at_gateway = self.known.is_some_and(|known| {
            [known.gateway_queue, known.gateway_arrival_rate]
                .into_iter()
                .any(|signal| self.fresh(Some(signal)).is_some_and(|value| value > 0.0))
        });
        let replicas = self.members.iter().flat_map(|(variant, ..)| &variant.replicas);
        at_gateway || self.says_nothing() || replicas.into_iter().any(|replica| self.is_busy(replica))
    }

    /// Whether a ready replica's requests cannot be seen.
    fn says_nothing(&self) -> bool {
        self.members.iter().any(|(variant, scale, _)| {
            let seen = variant.replicas.iter().filter(|replica| {
                self.fresh(Some(replica.running)).is_some() && self.fresh(Some(replica.queue_length)).is_some()
            });
            (seen.count() as u64) < u64::from(scale.ready)
        })
    }

    fn is_busy(&self, replica: &ReplicaMetrics) -> bool {
        [replica.running, replica.queue_length, replica.request_rate, replica.performance.arrival_rate]
            .into_iter()
            .any(|signal| self.fresh(Some(signal)).is_some_and(|value| value > 0.0))
    }

    /// Every variant to zero once the retention period has passed, if the model's owner wants that and no variant has a
    /// minimum.
    fn to_zero(&self, last_active: Timestamp) -> Vec<Ask<'a>> {
        let Some(policy) = self.snapshot.scale_to_zero.get(self.key) else { return Vec::new() };
        let idle = age(self.snapshot.taken_at, last_active);
        let has_minimum = self.members.iter().any(|(.., bounds)| bounds.range().min > 0);
        if has_minimum || idle < *policy {
            return Vec::new();
        }
        let text = format!("no request for {} s, the retention period is {} s", idle.as_secs(), policy.as_secs());
        let ask = |(variant, scale, _): &(&'a VariantObservation, &ScaleObservation, EffectiveBounds)| Ask {
            variant: &variant.variant.key,
            spec: scale.spec,
            replicas: 0,
            text: text.clone(),
        };
        self.members.iter().map(ask).collect()
    }

    fn fresh(&self, signal: Option<Signal<f64>>) -> Option<f64> {
        signal?.fresh(self.snapshot.taken_at, self.snapshot.ages.signal).value().copied()
    }
}

/// Puts what is asked in place of what was decided. A target that cannot be read stays an error.
fn impose(decision: &mut Decision, ask: Ask<'_>) {
    if matches!(&decision.outcome, Outcome::Withheld(withheld) if withheld.kind == WithheldKind::TargetNotFound) {
        return;
    }
    decision.outcome = Outcome::Desired(Desired {
        replicas: ask.replicas,
        unconstrained: ask.replicas,
        direction: Direction::between(ask.spec, ask.replicas),
        reason: Reason { engine: EngineName::ScaleFromZero, text: ask.text },
        bound_by: None,
        oldest_input: None,
    });
}

#[cfg(test)]
mod tests;
