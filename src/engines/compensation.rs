//! The tolerance compensator: larger steps up where an HPA's tolerance would swallow smaller ones. Opt-in, for clusters
//! whose HPAs have no `tolerance` field (Kubernetes before 1.35).
//!
//! An HPA leaves its target alone while desired over current lies within 1 ± tolerance (0.1 by default): 20 → 21 never
//! happens. The least number that it acts on is served instead. Steps down are left as they are: a lower number would
//! remove replicas that are needed, and the HPA acts by itself once enough of them are idle.

use super::roster::Roster;
use crate::interfaces::{Decision, Direction, Outcome};

/// Raises the desired replicas that an HPA would ignore.
pub(super) fn apply(roster: &Roster<'_>, decisions: &mut [Decision]) {
    if !roster.snapshot.engine.compensate_tolerance {
        return;
    }
    for (entry, decision) in roster.beside(decisions) {
        let Some(scale) = entry.scale() else { continue };
        let Outcome::Desired(desired) = &mut decision.outcome else { continue };
        let reading = entry.observation.autoscalers.iter().filter(|autoscaler| autoscaler.reads_our_metric);
        let Some(hpa) = reading.max_by(|a, b| a.tolerance_up.total_cmp(&b.tolerance_up)) else { continue };
        let Some(least) = least_noticed(scale.current, hpa.tolerance_up) else { continue };
        if desired.direction != Direction::Up || desired.replicas <= scale.current || desired.replicas >= least {
            continue;
        }
        let most = entry.bounds.range().max.unwrap_or(u32::MAX);
        // A step that the bounds cut short would be swallowed all the same.
        if least <= most {
            let remark = format!(
                "; {} would be ignored within the tolerance {} of HPA {}",
                desired.replicas, hpa.tolerance_up, hpa.name
            );
            desired.reason.text.push_str(&remark);
            desired.replicas = least;
        }
    }
}

/// The least number of replicas above `current` that an HPA with this tolerance acts on; `None` where there is no such
/// rule.
fn least_noticed(current: u32, tolerance: f64) -> Option<u32> {
    if current == 0 || !(tolerance > 0.0 && tolerance.is_finite()) {
        return None;
    }
    let current = f64::from(current);
    // The HPA's own comparison, so that rounding falls on the same side.
    let mut least = (current * (1.0 + tolerance)).floor();
    // Beyond 2^53 adding 1 would change nothing, for ever.
    if least >= f64::from(u32::MAX) {
        return None;
    }
    while least / current <= 1.0 + tolerance {
        least += 1.0;
    }
    (least < f64::from(u32::MAX)).then_some(least as u32)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        hpa::{Hpa, HpaSpec, Scale, SyncOutcome},
        interfaces::{Desired, EngineName, HpaObservation, HpaTarget, Reason, ReplicaBounds},
    };

    #[test]
    fn the_number_is_the_least_that_a_stock_hpa_acts_on() {
        for current in 1..200 {
            let least = least_noticed(current, 0.1).unwrap();
            let sync = |replicas: u32| {
                // Without `behavior` the stock tolerance of 0.1 holds.
                let mut hpa = Hpa::new(HpaSpec {
                    min_replicas: 1,
                    max_replicas: 1000,
                    average_value_milli: 1000,
                    behavior: None,
                });
                let scale = Scale { spec: current, status: current };
                hpa.sync(Timestamp::UNIX_EPOCH, scale, Ok(&[u64::from(replicas) * 1000]))
            };
            assert_eq!(sync(least), SyncOutcome::Scaled(least), "{current}");
            assert_eq!(sync(least - 1), SyncOutcome::Scaled(current), "{current}");
        }
    }

    fn decided(current: u32, replicas: u32, max: u32, enabled: bool) -> u32 {
        let mut observation = crate::engines::tests::variant("a", 1.0, current, (0.5, 0.0), 0);
        observation.autoscalers.push(HpaObservation {
            name: "a".into(),
            bounds: ReplicaBounds { min: 1, max: Some(max) },
            reads_our_metric: true,
            selects_this_variant_only: true,
            target: HpaTarget::AverageValue(1000),
            tolerance_up: 0.1,
            tolerance_down: 0.1,
        });
        let mut snapshot = crate::engines::tests::snapshot(0, vec![observation]);
        snapshot.engine.compensate_tolerance = enabled;
        let mut decisions = crate::engines::step(&crate::engines::State::default(), &snapshot).1;
        decisions[0].outcome = Outcome::Desired(Desired {
            replicas,
            unconstrained: replicas,
            direction: Direction::between(current, replicas),
            reason: Reason { engine: EngineName::Saturation, text: "load".to_owned() },
            bound_by: None,
            oldest_input: None,
        });
        apply(&Roster::new(&crate::engines::State::default(), &snapshot), &mut decisions);
        match &decisions[0].outcome {
            Outcome::Desired(desired) => desired.replicas,
            Outcome::Withheld(withheld) => panic!("{}", withheld.message),
        }
    }

    #[test]
    fn only_small_steps_up_are_widened_and_only_when_asked_for_and_within_bounds() {
        assert_eq!(decided(20, 21, 100, true), 23);
        assert_eq!(decided(20, 21, 100, false), 21, "off by default");
        assert_eq!(decided(20, 25, 100, true), 25, "large enough");
        assert_eq!(decided(20, 19, 100, true), 19, "down");
        assert_eq!(decided(20, 20, 100, true), 20, "hold");
        assert_eq!(decided(20, 21, 22, true), 21, "no room");
        assert_eq!(decided(5, 6, 100, true), 6, "small pools are seen");
    }
}
