//! Finds what a metric name means.

use std::collections::HashMap;

use super::table::{self, Family, Value};
use crate::{
    config::CustomEngine,
    interfaces::{EngineKind, Quantities, Quantity, QuantityKind},
};

/// Every engine that is understood: those built in and those of the configuration.
#[derive(Clone, Debug)]
pub struct EngineCatalog {
    pub(super) engines: Vec<EngineEntry>,
    families: HashMap<Box<str>, Meaning>,
}

/// One engine, as far as a reader needs to know.
#[derive(Clone, Debug)]
pub(super) struct EngineEntry {
    pub(super) kind: EngineKind,
    pub(super) model_label: Box<str>,
    pub(super) rank_labels: Vec<Box<str>>,
    pub(super) copy_labels: Vec<Box<str>>,
    pub(super) not_defined: Quantities,
    /// What it exports; of one quantity the newest name first.
    pub(super) families: Vec<EngineFamily>,
}

/// A family of an engine. [`Family`] says more of its fields.
#[derive(Clone, Debug)]
pub(super) struct EngineFamily {
    pub(super) quantity: Quantity,
    pub(super) name: Box<str>,
    pub(super) label: Option<(Box<str>, Box<str>)>,
    pub(super) value: Value,
    greatest: bool,
}

/// What samples of one name mean.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub(super) part: Part,
    pub(super) rules: Vec<Rule>,
}

/// Which part of its family a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// Observations up to the bound in the `le` label.
    Bucket,
    /// Sum of a histogram's observations.
    Sum,
    /// Number of a histogram's observations.
    Count,
    /// `LoRA` adapters, as lists of names in labels.
    Lora,
}

/// One meaning of a name.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Index into the catalog's engines.
    pub(super) engine: usize,
    pub(super) quantity: Quantity,
    /// Place among the families of the quantity; the first is believed.
    pub(super) priority: u8,
    pub(super) label: Option<(Box<str>, Box<str>)>,
    pub(super) value: Value,
    pub(super) greatest: bool,
}

impl Default for EngineCatalog {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl EngineCatalog {
    /// The engines built in and `custom` ones. A family that a custom engine claims is no longer that of another.
    pub fn new(custom: &[CustomEngine]) -> Self {
        let mut catalog = Self { engines: Vec::new(), families: HashMap::new() };
        for engine in custom {
            let families = engine.families.iter().map(|family| EngineFamily {
                quantity: family.quantity,
                name: family.name.clone(),
                label: family.label.clone(),
                value: Value::Sample,
                greatest: false,
            });
            catalog.add(EngineEntry {
                kind: EngineKind::Custom,
                model_label: engine.model_label.clone().unwrap_or_default(),
                rank_labels: engine.rank_label.iter().cloned().collect(),
                copy_labels: Vec::new(),
                not_defined: not_defined(engine.families.iter().map(|family| family.quantity)),
                families: families.collect(),
            });
        }
        for engine in &table::ENGINES {
            let boxed = |labels: &[&str]| labels.iter().map(|label| (*label).into()).collect();
            catalog.add(EngineEntry {
                kind: engine.kind,
                model_label: engine.model_label.into(),
                rank_labels: boxed(engine.rank_labels),
                copy_labels: boxed(engine.copy_labels),
                not_defined: not_defined(engine.families.iter().map(|family| family.quantity)),
                families: engine.families.iter().map(EngineFamily::from).collect(),
            });
        }
        let vllm = catalog.engines.iter().position(|engine| engine.kind == EngineKind::Vllm).unwrap_or_default();
        catalog.claim(
            table::LORA_INFO,
            Part::Lora,
            Rule {
                engine: vllm,
                quantity: Quantity::Running,
                priority: 0,
                label: None,
                value: Value::Sample,
                greatest: false,
            },
        );
        catalog
    }

    /// What samples called `name` mean; `None` for a family not in use.
    pub(super) fn meaning(&self, name: &str) -> Option<&Meaning> {
        self.families.get(name)
    }

    /// What the engine at `place` never says.
    pub(in crate::collector) fn not_defined(&self, place: usize) -> Quantities {
        self.engines.get(place).map(|engine| engine.not_defined).unwrap_or_default()
    }

    /// The engine at `place`.
    pub(in crate::collector) fn kind(&self, place: usize) -> EngineKind {
        self.engines.get(place).map(|engine| engine.kind).unwrap_or_default()
    }

    /// Whether `family` is that of the engine at `place`, and not claimed by one before it.
    pub(super) fn is_claimed_by(&self, place: usize, family: &EngineFamily) -> bool {
        let suffix = if family.quantity.kind() == QuantityKind::Histogram { "_sum" } else { "" };
        let meaning = self.meaning(&format!("{}{suffix}", family.name));
        meaning.is_some_and(|meaning| meaning.rules.iter().any(|rule| rule.engine == place))
    }

    fn add(&mut self, engine: EngineEntry) {
        let index = self.engines.len();
        let mut seen: HashMap<Quantity, u8> = HashMap::new();
        for claim in &engine.families {
            let priority = seen.entry(claim.quantity).or_default();
            let rule = Rule {
                engine: index,
                quantity: claim.quantity,
                priority: *priority,
                label: claim.label.clone(),
                value: claim.value,
                greatest: claim.greatest || claim.quantity.kind() == QuantityKind::Gauge,
            };
            *priority = priority.saturating_add(1);
            match claim.quantity.kind() {
                QuantityKind::Gauge => self.claim(&claim.name, Part::Whole, rule),
                QuantityKind::Counter => {
                    self.claim(&format!("{}_total", claim.name), Part::Whole, rule.clone());
                    self.claim(&claim.name, Part::Whole, rule);
                }
                QuantityKind::Histogram => {
                    for (suffix, part) in [("bucket", Part::Bucket), ("sum", Part::Sum), ("count", Part::Count)] {
                        self.claim(&format!("{}_{suffix}", claim.name), part, rule.clone());
                    }
                }
            }
        }
        self.engines.push(engine);
    }

    fn claim(&mut self, name: &str, part: Part, rule: Rule) {
        let meaning = self.families.entry(name.into()).or_insert_with(|| Meaning { part, rules: Vec::new() });
        let of_another = meaning.rules.first().is_some_and(|first| first.engine != rule.engine);
        if meaning.part == part && !of_another {
            meaning.rules.push(rule);
        }
    }
}

impl From<&Family> for EngineFamily {
    fn from(family: &Family) -> Self {
        Self {
            quantity: family.quantity,
            name: family.name.into(),
            label: family.label.map(|(name, value)| (name.into(), value.into())),
            value: family.value,
            greatest: family.greatest,
        }
    }
}

/// What an engine that exports `quantities` never says. Arrivals are made from first tokens or from completions.
fn not_defined(quantities: impl Iterator<Item = Quantity>) -> Quantities {
    let exported: Quantities = quantities.collect();
    let from_others = |quantity| match quantity {
        Quantity::Arrivals => {
            exported.contains(Quantity::Waiting)
                && (exported.contains(Quantity::TimeToFirstToken) || exported.contains(Quantity::Finished))
        }
        // A part of what waits.
        Quantity::Preallocating => exported.contains(Quantity::Waiting),
        Quantity::KvCacheTokens => exported.contains(Quantity::KvCacheBlocks),
        Quantity::FinishedByLength | Quantity::Aborted | Quantity::Failed => exported.contains(Quantity::Finished),
        Quantity::PromptTokens => exported.contains(Quantity::PromptLength),
        Quantity::GenerationTokens => exported.contains(Quantity::OutputLength),
        Quantity::PromptLength => exported.contains(Quantity::PromptTokens),
        Quantity::OutputLength => exported.contains(Quantity::GenerationTokens),
        Quantity::KvCacheBlocks | Quantity::KvCacheBlockSize => exported.contains(Quantity::KvCacheTokens),
        _ => false,
    };
    let all = [&Quantity::GAUGES[..], &Quantity::COUNTERS, &Quantity::HISTOGRAMS].concat();
    all.into_iter().filter(|quantity| !exported.contains(*quantity) && !from_others(*quantity)).collect()
}
