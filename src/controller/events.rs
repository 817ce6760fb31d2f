//! Events on a `VariantAutoscaling`, on edges only: what the next status says and the previous did not. Pure.
//!
//! kube's recorder folds an event into an earlier one of the same object, reason and action, and keeps the earlier
//! note. So what must stay apart, a step of the desired replicas, is in the action.

use kube::runtime::events::{Event, EventType};

use super::{
    Fault,
    conditions::{AUTOSCALER_READY, ENGINES_ATTRIBUTED, OPTIMIZATION_READY, find},
    status::{Findings, Warning, explain},
};
use crate::{
    crd::VariantAutoscalingStatus,
    interfaces::{Decision, Desired, Outcome, WithheldKind},
};

/// Greatest length of a note in bytes; the API server refuses longer ones.
const NOTE_LIMIT: usize = 1024;

/// What to tell about the step from `previous` to the status of `decision` and `autoscalers`.
pub fn events_for(previous: &VariantAutoscalingStatus, decision: &Decision, autoscalers: &Findings) -> Vec<Event> {
    let mut events = Vec::new();
    match &decision.outcome {
        Outcome::Desired(desired) => events.extend(step(previous, decision, desired)),
        Outcome::Withheld(withheld) => {
            let already = find(&previous.conditions, OPTIMIZATION_READY)
                .is_some_and(|condition| condition.reason == withheld.kind.as_str());
            if !already {
                events.push(warning(event_reason(withheld.kind), "Withhold", &withheld.message));
            }
        }
    }
    events.extend(warnings(previous, AUTOSCALER_READY, "CheckAutoscaler", &autoscalers.warnings));
    events.extend(warnings(previous, ENGINES_ATTRIBUTED, "CheckEngines", &autoscalers.engines));
    events
}

/// A fault that was not told before.
pub(super) fn event_of_fault(previous: &VariantAutoscalingStatus, fault: &Fault) -> Option<Event> {
    let known = find(&previous.conditions, OPTIMIZATION_READY);
    let already = known.is_some_and(|known| known.reason == fault.reason && known.message == fault.message);
    (!already).then(|| warning(fault.reason, "CheckDeclaration", &fault.message))
}

/// The desired replicas moved. The first decision is told only if it asks for a change.
fn step(previous: &VariantAutoscalingStatus, decision: &Decision, desired: &Desired) -> Option<Event> {
    let from = match &previous.desired_optimized_alloc {
        Some(allocation) => i64::from(allocation.num_replicas),
        None => i64::from(decision.current?),
    };
    let to = i64::from(desired.replicas);
    let (reason, verb) = match to.cmp(&from) {
        std::cmp::Ordering::Greater => ("ScalingUp", "Raise"),
        std::cmp::Ordering::Less => ("ScalingDown", "Lower"),
        std::cmp::Ordering::Equal => return None,
    };
    Some(Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(note(&format!("desired replicas from {from} to {to}: {}", explain(desired)))),
        action: format!("{verb}From{from}To{to}"),
        secondary: None,
    })
}

fn event_reason(kind: WithheldKind) -> &'static str {
    match kind {
        WithheldKind::MetricsMissing => "MetricsUnavailable",
        WithheldKind::NoReadyReplica | WithheldKind::TargetNotFound => kind.as_str(),
    }
}

/// One event for each reason that the condition did not list before, with all its sentences.
fn warnings(previous: &VariantAutoscalingStatus, condition: &str, action: &str, found: &[Warning]) -> Vec<Event> {
    let known = find(&previous.conditions, condition).map_or("", |condition| condition.reason.as_str());
    let mut events: Vec<Event> = Vec::new();
    for found in found {
        if known.split(',').any(|reason| reason == found.reason) {
            continue;
        }
        match events.iter_mut().find(|event| event.reason == found.reason) {
            Some(event) => {
                let joined = format!("{}; {}", event.note.as_deref().unwrap_or_default(), found.message);
                event.note = Some(note(&joined));
            }
            None => events.push(warning(&found.reason, action, &found.message)),
        }
    }
    events
}

fn warning(reason: &str, action: &str, message: &str) -> Event {
    Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(note(message)),
        action: action.to_owned(),
        secondary: None,
    }
}

/// `text`, cut to what the API server takes.
fn note(text: &str) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= NOTE_LIMIT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(NOTE_LIMIT - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{
        fixtures::{at, autoscalers, bounded, decided, withheld},
        status_for,
    };
    use crate::interfaces::Limit;

    /// Runs decisions one after the other; the events of each as `Reason/Action`.
    fn told(steps: &[(Decision, Findings)]) -> Vec<Vec<String>> {
        let mut status = VariantAutoscalingStatus::default();
        steps
            .iter()
            .map(|(decision, findings)| {
                let events = events_for(&status, decision, findings);
                status = status_for(&status, Some(1), decision, findings, at(1000));
                events.iter().map(|event| format!("{}/{}", event.reason, event.action)).collect()
            })
            .collect()
    }

    #[test]
    fn a_step_of_the_desired_replicas_is_told_once() {
        let steps = [(3, 3), (3, 5), (3, 5), (4, 5), (5, 5), (5, 2), (5, 2)];
        let steps = steps.map(|(current, desired)| (decided(current, desired, "why"), autoscalers(1, &[])));
        let none: [&str; 0] = [];
        assert_eq!(
            told(&steps),
            [&none[..], &["ScalingUp/RaiseFrom3To5"], &none, &none, &none, &["ScalingDown/LowerFrom5To2"], &none]
        );
    }

    #[test]
    fn the_first_decision_is_told_when_it_asks_for_a_change() {
        assert_eq!(told(&[(decided(1, 4, "why"), autoscalers(1, &[]))]), [["ScalingUp/RaiseFrom1To4"]]);
        assert_eq!(told(&[(decided(1, 1, "why"), autoscalers(1, &[]))]), [[""; 0]]);
    }

    #[test]
    fn the_note_says_from_to_why_and_what_bound_it() {
        let decision = bounded(3, 5, 9, Limit::HpaMaxReplicas("web".into(), 5));
        let events = events_for(&VariantAutoscalingStatus::default(), &decision, &autoscalers(1, &[]));
        assert_eq!(
            events[0].note.as_deref(),
            Some(
                "desired replicas from 3 to 5: saturation: all replicas are saturated; \
                 9 without the limit maxReplicas 5 of HPA web"
            )
        );
    }

    #[test]
    fn a_withheld_decision_is_told_once_for_each_kind() {
        let fine = || autoscalers(1, &[]);
        let missing = || (withheld(Some(3), WithheldKind::MetricsMissing, "m"), fine());
        let steps = [
            (decided(3, 3, "why"), fine()),
            missing(),
            missing(),
            (withheld(None, WithheldKind::TargetNotFound, "t"), fine()),
            (decided(3, 3, "why"), fine()),
            missing(),
        ];
        let none: [&str; 0] = [];
        let missing = ["MetricsUnavailable/Withhold"];
        assert_eq!(told(&steps), [&none[..], &missing, &none, &["TargetNotFound/Withhold"], &none, &missing]);
    }

    #[test]
    fn warnings_about_hpas_are_told_when_they_appear() {
        let with = |reasons: &[&str]| (decided(3, 3, "why"), autoscalers(1, reasons));
        let steps = [with(&[]), with(&["A"]), with(&["A"]), with(&["A", "B"]), with(&["B"]), with(&[]), with(&["A"])];
        let (none, a, b): ([&str; 0], _, _) = ([], ["A/CheckAutoscaler"], ["B/CheckAutoscaler"]);
        assert_eq!(told(&steps), [&none[..], &a, &none, &b, &none, &none, &a]);
    }

    #[test]
    fn engines_that_count_for_no_variant_are_told_when_they_appear() {
        let with = |reasons: &[&str]| {
            let warning = |reason: &&str| Warning { reason: (*reason).to_owned(), message: "2 pods".to_owned() };
            let engines = reasons.iter().map(warning).collect();
            (decided(3, 3, "why"), Findings { engines, ..autoscalers(1, &[]) })
        };
        let steps = [with(&[]), with(&["A"]), with(&["A"]), with(&[]), with(&["A", "B"])];
        let none: [&str; 0] = [];
        let (a, b) = ("A/CheckEngines", "B/CheckEngines");
        assert_eq!(told(&steps), [&none[..], &[a], &none, &none, &[a, b]]);
    }

    #[test]
    fn warnings_of_one_reason_share_an_event() {
        let events =
            events_for(&VariantAutoscalingStatus::default(), &decided(3, 3, "why"), &autoscalers(2, &["A", "A"]));
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].note.as_deref(), Some("HPA web: A; HPA web: A"));
    }

    #[test]
    fn a_note_is_cut_to_what_the_api_server_takes() {
        for text in ["x".repeat(5000), "é".repeat(600), "€".repeat(400)] {
            let cut = note(&text);
            assert!(cut.len() <= NOTE_LIMIT && cut.ends_with('…'), "{}", cut.len());
            assert!(text.starts_with(cut.trim_end_matches('…')));
        }
        assert_eq!(note(&"x".repeat(NOTE_LIMIT)), "x".repeat(NOTE_LIMIT));
    }
}
