//! Which decisions are withheld, for the log: said when it begins and when it ends, in one line for all variants alike.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::interfaces::{Decision, Outcome, VariantKey, WithheldKind};

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct WithheldLog(BTreeMap<VariantKey, WithheldKind>);

/// What began or ended, with how many variants, the first of them, and why it is.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    kind: Option<WithheldKind>,
    variants: usize,
    first: VariantKey,
    message: String,
}

impl WithheldLog {
    /// Logs what changed with these decisions.
    pub(super) fn log(&mut self, decisions: &[Decision]) {
        for Line { kind, variants, first, message } in self.changes(decisions) {
            match kind {
                Some(WithheldKind::NoReadyReplica) => info!(variants, %first, message, "no number is served yet"),
                Some(kind) => warn!(variants, %first, reason = kind.as_str(), message, "no number is served"),
                None => info!(variants, %first, "a number is served again"),
            }
        }
    }

    fn changes(&mut self, decisions: &[Decision]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut note = |kind: Option<WithheldKind>, variant: &VariantKey, message: &str| match lines
            .iter_mut()
            .find(|line| line.kind == kind)
        {
            Some(line) => line.variants += 1,
            None => lines.push(Line { kind, variants: 1, first: variant.clone(), message: message.to_owned() }),
        };
        let mut before = std::mem::take(&mut self.0);
        for Decision { variant, outcome, .. } in decisions {
            let known = before.remove(variant);
            match outcome {
                Outcome::Withheld(withheld) => {
                    if known != Some(withheld.kind) {
                        note(Some(withheld.kind), variant, &withheld.message);
                    }
                    self.0.insert(variant.clone(), withheld.kind);
                }
                Outcome::Desired(_) if known.is_some() => note(None, variant, ""),
                Outcome::Desired(_) => {}
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::interfaces::{Desired, Direction, EngineName, ModelKey, Reason, SaturationLevel, Withheld};

    fn decision(variant: &str, kind: Option<WithheldKind>) -> Decision {
        let desired = || Desired {
            replicas: 1,
            unconstrained: 1,
            direction: Direction::Hold,
            reason: Reason { engine: EngineName::Saturation, text: String::new() },
            bound_by: None,
            oldest_input: None,
        };
        let withheld = |kind| Outcome::Withheld(Withheld { kind, message: format!("{variant} is withheld") });
        Decision {
            variant: VariantKey::new("prod", variant),
            model: ModelKey::new("prod", "m"),
            accelerator: None,
            current: Some(1),
            ready: 1,
            decided_at: Timestamp::UNIX_EPOCH,
            saturation: SaturationLevel::default(),
            outcome: kind.map_or_else(|| Outcome::Desired(desired()), withheld),
        }
    }

    #[test]
    fn what_begins_and_what_ends_is_said_once_for_all_variants_alike() {
        use WithheldKind::{MetricsMissing, NoReadyReplica};
        let line = |kind, variants, first: &str| Line {
            kind,
            variants,
            first: VariantKey::new("prod", first),
            message: kind.map_or_else(String::new, |_| format!("{first} is withheld")),
        };
        let mut log = WithheldLog::default();
        let mut changes = |a, b, c| log.changes(&[decision("a", a), decision("b", b), decision("c", c)]);
        assert_eq!(changes(None, None, None), []);
        let missing = Some(MetricsMissing);
        assert_eq!(changes(missing, None, missing), [line(missing, 2, "a")]);
        assert_eq!(changes(missing, None, missing), []);
        let not_ready = Some(NoReadyReplica);
        assert_eq!(
            changes(not_ready, missing, None),
            [line(not_ready, 1, "a"), line(missing, 1, "b"), line(None, 1, "c"),]
        );
        assert_eq!(changes(None, None, None), [line(None, 2, "a")]);
    }
}
