//! From a pod's answer to one reading per engine instance.

use super::{
    catalog::{EngineCatalog, EngineEntry, Rule},
    draft::{self, Draft},
    table::Value,
};
use crate::{
    collector::exposition::{Line, name},
    interfaces::EngineReading,
};

/// Engine instances of one pod that are told apart; more are a mistake or an attack.
const MOST_INSTANCES: usize = 256;

impl EngineCatalog {
    /// The readings in exposition `text`, in the order of engine, model and rank. Text that is no exposition has none.
    ///
    /// Lines of families not in use are skipped unparsed. Samples without a model belong to every model of the engine.
    pub fn readings(&self, text: &str) -> Vec<EngineReading> {
        let mut drafts = Drafts { catalog: self, all: Vec::new(), last: 0 };
        let mut line = Line::default();
        let mut known = ("", None);
        for text in text.lines() {
            let Some(name) = name(text.trim_ascii_start()) else { continue };
            if known.0 != name {
                known = (name, self.meaning(name));
            }
            let Some(meaning) = known.1 else { continue };
            if line.read(text) {
                for rule in &meaning.rules {
                    if let Some((draft, value)) = drafts.place(rule, &line) {
                        draft.add(meaning.part, rule, &line, value);
                    }
                }
            }
        }
        drafts.finish()
    }
}

struct Drafts<'c> {
    catalog: &'c EngineCatalog,
    all: Vec<Draft>,
    /// Where the last sample went, which is where the next one goes most often.
    last: usize,
}

impl Drafts<'_> {
    /// The draft that a sample adds to, and its number; `None` when the rule does not take it.
    fn place(&mut self, rule: &Rule, line: &Line<'_>) -> Option<(&mut Draft, f64)> {
        let engine = self.catalog.engines.get(rule.engine)?;
        let value = number(rule, line)?;
        let (model, rank) = (model(engine, line), rank(engine, line));
        let copies = || engine.copy_labels.iter().filter_map(|label| line.label(label));
        // Among data-parallel ranks only the first has a copy 0.
        if rank.is_empty() && copies().any(|copy| copy != "0") {
            return None;
        }
        if !self.all.get(self.last).is_some_and(|draft| draft.is_of(rule.engine, model, rank)) {
            self.last = match self.all.iter().position(|draft| draft.is_of(rule.engine, model, rank)) {
                Some(known) => known,
                None if self.all.len() < MOST_INSTANCES => {
                    self.all.push(Draft::new(rule.engine, engine, model, rank));
                    self.all.len() - 1
                }
                None => return None,
            };
        }
        let draft = self.all.get_mut(self.last)?;
        (rank.is_empty() || draft.is_copy(copies())).then_some((draft, value))
    }

    fn finish(mut self) -> Vec<EngineReading> {
        self.all.sort_by(|a, b| (a.engine, a.model(), a.rank()).cmp(&(b.engine, b.model(), b.rank())));
        let is_named = |draft: &Draft| !draft.model().is_empty();
        let is_ranked = |draft: &Draft| !draft.rank().is_empty();
        let keys: Vec<(usize, String, bool)> =
            self.all.iter().map(|draft| (draft.engine, draft.model().to_owned(), is_ranked(draft))).collect();
        let is_shared = |draft: &Draft| {
            keys.iter().any(|(engine, model, ranked)| {
                let of_every_model = !is_named(draft) && !model.is_empty();
                let of_every_rank = !is_ranked(draft) && *ranked && *model == *draft.model();
                *engine == draft.engine && (of_every_model || of_every_rank)
            })
        };
        let (shared, own): (Vec<_>, Vec<_>) = self.all.into_iter().partition(is_shared);
        let mut shared: Vec<_> = shared.into_iter().map(|draft| (draft.engine, draft.finish())).collect();
        own.into_iter().map(|draft| with_shared(draft.engine, draft.finish(), &mut shared)).collect()
    }
}

/// The reading with what samples add that name no model or no rank. What names the model but no rank is a total of all
/// ranks and goes to the first alone.
fn with_shared(engine: usize, mut reading: EngineReading, shared: &mut Vec<(usize, EngineReading)>) -> EngineReading {
    let fits = |one: &str, other: &str| one == other || one.is_empty() || other.is_empty();
    // The rank's own before what has none.
    for exact in [true, false] {
        for (of, other) in shared.iter() {
            let is_turn = *of == engine && (other.rank == reading.rank) == exact;
            if is_turn && fits(&other.model, &reading.model) && fits(&other.rank, &reading.rank) {
                draft::complete(&mut reading, other);
            }
        }
    }
    shared.retain(|(of, other)| *of != engine || other.model.is_empty() || other.model != reading.model);
    reading
}

/// The number a rule takes from a sample; `None` when its label is another.
fn number(rule: &Rule, line: &Line<'_>) -> Option<f64> {
    if let Some((label, wanted)) = &rule.label
        && line.label(label) != Some(wanted)
    {
        return None;
    }
    match rule.value {
        Value::Sample => Some(line.value),
        Value::Complement => Some(1.0 - line.value),
        Value::Label(label) => line.label(label)?.parse().ok(),
    }
}

fn model<'l>(engine: &EngineEntry, line: &'l Line<'_>) -> &'l str {
    if engine.model_label.is_empty() { "" } else { line.label(&engine.model_label).unwrap_or_default() }
}

fn rank<'l>(engine: &EngineEntry, line: &'l Line<'_>) -> &'l str {
    engine.rank_labels.iter().find_map(|label| line.label(label)).unwrap_or_default()
}
