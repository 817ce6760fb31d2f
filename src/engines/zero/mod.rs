//! To zero and back: a model without requests for a whole retention period gives all its replicas up; a request that
//! waits at the gateway wakes exactly one variant, or one of prefill and one of decode where only both can serve it.
//!
//! ```text
//! serving ──(no request for the retention period, all minimums 0)──► at zero
//!    ▲                                                                  │ a request waits at the gateway
//!    └──(ready and measurable)── waking: minimum replicas ◄─────────────┘ cheapest variant that can grow
//! ```
//!
//! What is not known is not idle: while replicas are ready and say nothing, the model counts as active.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    bounds::EffectiveBounds,
    roster::{Entry, Roster},
};
use crate::interfaces::{
    Decision, Desired, Direction, EngineName, ModelKey, ModelMetrics, Outcome, Reason, ReplicaMetrics, Role,
    ScaleObservation, Signal, Snapshot, VariantKey, VariantObservation, WithheldKind, age,
};

/// What is remembered of one model's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When a request was last seen, or could not be ruled out. The first sight of a model counts.
    pub last_active: Timestamp,
    /// The variants that were woken and do not serve yet: one, or a pair of prefill and decode.
    #[serde(default, deserialize_with = "one_or_many")]
    pub waking: Vec<VariantKey>,
}

/// Before prefill and decode were woken together there was one or none.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VariantKey>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Waking {
        Many(Vec<VariantKey>),
        One(Option<VariantKey>),
    }
    Ok(match Waking::deserialize(deserializer)? {
        Waking::Many(waking) => waking,
        Waking::One(waking) => waking.into_iter().collect(),
    })
}

/// Variants of one model whose targets could be read.
struct Model<'a> {
    snapshot: &'a Snapshot,
    key: &'a ModelKey,
    /// In the order of names.
    members: Vec<Terms<'a>>,
    known: Option<&'a ModelMetrics>,
}

/// A variant with its replicas and bounds.
type Terms<'a> = (&'a VariantObservation, &'a ScaleObservation, &'a EffectiveBounds);

/// What a model at the edge of zero asks of one variant, in place of what was decided.
struct Ask {
    /// Its place among the members.
    member: usize,
    spec: u32,
    replicas: u32,
    text: String,
}

/// Changes the decisions of models that sleep, wake or fall asleep; gives what to remember of each.
pub(super) fn apply(roster: &Roster<'_>, decisions: &mut [Decision]) -> BTreeMap<ModelKey, Activity> {
    let mut activities = BTreeMap::new();
    for groups in roster.models() {
        let Some(first) = groups.first() else { continue };
        let mut places: Vec<usize> = groups.iter().flat_map(|group| group.places.iter().copied()).collect();
        // Most models never sleep, and cost no more than this look at their bounds.
        if places.iter().all(|place| roster.entries[*place].observation.variant.bounds.min > 0) {
            continue;
        }
        places.sort_unstable();
        places.retain(|place| roster.entries[*place].scale().is_some());
        let members = places.iter().filter_map(|place| terms(&roster.entries[*place])).collect();
        let model = Model { snapshot: roster.snapshot, key: first.model, members, known: first.known };
        if !model.can_sleep() {
            continue;
        }
        let (activity, asks) = model.next(roster.state.activity.get(model.key));
        activities.insert(model.key.clone(), activity);
        for ask in asks {
            impose(&mut decisions[places[ask.member]], ask);
        }
    }
    activities
}

fn terms<'a>(entry: &'a Entry<'_>) -> Option<Terms<'a>> {
    Some((entry.observation, entry.scale()?, &entry.bounds))
}

fn is((variant, ..): &Terms<'_>, key: &VariantKey) -> bool {
    variant.variant.key == *key
}

/// An HPA with a minimum above zero is disabled while its target stands at zero: it cannot wake anything.
fn is_disabled((variant, ..): &Terms<'_>) -> bool {
    variant.autoscalers.iter().any(|autoscaler| autoscaler.bounds.min > 0)
}

fn names(variants: &[VariantKey]) -> String {
    let names: Vec<&str> = variants.iter().map(|key| &*key.name).collect();
    names.join(" with ")
}

impl<'a> Model<'a> {
    /// Whether there is a way to zero at all: a variant whose bounds allow it.
    fn can_sleep(&self) -> bool {
        self.members.iter().any(|(.., bounds)| bounds.range().min == 0)
    }

    fn next(&self, before: Option<&Activity>) -> (Activity, Vec<Ask>) {
        let now = self.snapshot.taken_at;
        let last_active = before.map_or(now, |before| before.last_active);
        let is_down = self.members.iter().all(|(_, scale, _)| scale.spec == 0 && scale.current == 0);
        if is_down {
            return self.asleep(last_active, before.map_or(&[], |before| &before.waking));
        }
        let waking = before.map(|before| before.waking.clone()).unwrap_or_default();
        if !waking.iter().all(|waking| self.serves(waking)) {
            let asks = self.hold_while_waking(&waking);
            return (Activity { last_active: now, waking }, asks);
        }
        if self.may_be_active() {
            return (Activity { last_active: now, waking: Vec::new() }, Vec::new());
        }
        (Activity { last_active, waking: Vec::new() }, self.to_zero(last_active))
    }

    /// All variants stand at zero: as few as can serve are woken when a request waits.
    fn asleep(&self, last_active: Timestamp, asked: &[VariantKey]) -> (Activity, Vec<Ask>) {
        let waits = self.fresh(self.known.map(|known| known.gateway_queue)).unwrap_or(0.0);
        let arrives = self.fresh(self.known.map(|known| known.gateway_arrival_rate)).unwrap_or(0.0);
        // Who was asked first stays asked: two half-woken variants cost twice and serve no sooner.
        let stays = !asked.is_empty() && asked.iter().all(|asked| self.members.iter().any(|found| is(found, asked)));
        let waking = if stays { asked.to_vec() } else { self.cheapest_to_wake() };
        if (waits <= 0.0 && arrives <= 0.0) || waking.is_empty() {
            return (Activity { last_active, waking: Vec::new() }, Vec::new());
        }
        let seen = if waits > 0.0 {
            format!("{waits:.0} requests wait at the gateway")
        } else {
            format!("{arrives:.2} req/s reach the gateway")
        };
        let is_pair = waking.len() > 1;
        let who = if is_pair { "the cheapest prefill and decode variants wake" } else { "the cheapest variant wakes" };
        let names = names(&waking);
        let asks = self.members.iter().enumerate().map(|(member, terms)| {
            let (replicas, text) = if waking.iter().any(|waking| is(terms, waking)) {
                (terms.2.range().min.max(1), format!("{seen} and no replica is there; {who}"))
            } else {
                (0, format!("variant {names} wakes first"))
            };
            Ask { member, spec: terms.1.spec, replicas, text }
        });
        let asks = asks.collect();
        (Activity { last_active: self.snapshot.taken_at, waking }, asks)
    }

    /// The variant that serves whole requests, or the pair of prefill and decode, whichever is cheaper to wake.
    fn cheapest_to_wake(&self) -> Vec<VariantKey> {
        let whole = self.cheapest(|role| role == Role::Both);
        let pair = self.cheapest(|role| role == Role::Prefill).zip(self.cheapest(|role| role == Role::Decode));
        let ways = whole.map(|one| vec![one]).into_iter().chain(pair.map(|(one, other)| vec![one, other]));
        let price = |way: &Vec<&Terms<'a>>| {
            let cost: f64 = way.iter().map(|(variant, ..)| variant.variant.cost).sum();
            (way.iter().any(|terms| is_disabled(terms)), cost)
        };
        let best = ways.map(|way| (price(&way), way)).min_by(|(a, _), (b, _)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        // A part whose counterpart is none of ours wakes alone.
        let best = best.map(|(_, way)| way).or_else(|| Some(vec![self.cheapest(|_| true)?]));
        best.into_iter().flatten().map(|(variant, ..)| variant.variant.key.clone()).collect()
    }

    fn cheapest(&self, plays: impl Fn(Role) -> bool) -> Option<&Terms<'a>> {
        let has_room = |(.., bounds): &&Terms<'a>| bounds.range().max.is_none_or(|max| max > 0);
        let candidates = self.members.iter().filter(|(variant, ..)| plays(variant.variant.role)).filter(has_room);
        candidates.min_by(|one, other| {
            let (a, b) = (&one.0.variant, &other.0.variant);
            let by_hand = is_disabled(one).cmp(&is_disabled(other));
            by_hand.then(a.cost.total_cmp(&b.cost)).then_with(|| a.key.cmp(&b.key))
        })
    }

    /// Whether a woken variant can be handed over: a replica of it is ready *and* measurable, or it is gone.
    fn serves(&self, waking: &VariantKey) -> bool {
        let Some((variant, scale, _)) = self.members.iter().find(|found| is(found, waking)) else { return true };
        let is_measured = |replica: &ReplicaMetrics| {
            self.fresh(Some(replica.kv_cache_usage)).is_some() && self.fresh(Some(replica.queue_length)).is_some()
        };
        scale.ready > 0 && variant.replicas.iter().any(is_measured)
    }

    /// Until the hand-over everything stays as it was set.
    fn hold_while_waking(&self, waking: &[VariantKey]) -> Vec<Ask> {
        let names = names(waking);
        let hold = |(member, terms): (usize, &Terms<'a>)| {
            let (_, scale, bounds) = terms;
            let text = format!("variant {names} wakes from zero; the load decides once it is ready and measured");
            let range = bounds.range();
            let is_woken = waking.iter().any(|waking| is(terms, waking));
            let least = if is_woken { range.min.max(1) } else { range.min };
            let replicas = scale.spec.max(least).min(range.max.unwrap_or(u32::MAX));
            Ask { member, spec: scale.spec, replicas, text }
        };
        self.members.iter().enumerate().map(hold).collect()
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
    fn to_zero(&self, last_active: Timestamp) -> Vec<Ask> {
        let Some(policy) = self.snapshot.scale_to_zero.get(self.key) else { return Vec::new() };
        let idle = age(self.snapshot.taken_at, last_active);
        let has_minimum = self.members.iter().any(|(.., bounds)| bounds.range().min > 0);
        if has_minimum || idle < *policy {
            return Vec::new();
        }
        let text = format!("no request for {} s, the retention period is {} s", idle.as_secs(), policy.as_secs());
        let ask = |(member, (_, scale, _)): (usize, &Terms<'a>)| Ask {
            member,
            spec: scale.spec,
            replicas: 0,
            text: text.clone(),
        };
        self.members.iter().enumerate().map(ask).collect()
    }

    fn fresh(&self, signal: Option<Signal<f64>>) -> Option<f64> {
        signal?.fresh(self.snapshot.taken_at, self.snapshot.ages.signal).value().copied()
    }
}

/// Puts what is asked in place of what was decided. A target that cannot be read stays an error.
fn impose(decision: &mut Decision, ask: Ask) {
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
