//! The table of engines as selectors of series, for a source that is asked by name.

use super::{
    catalog::{EngineCatalog, EngineEntry, EngineFamily},
    table::Value,
};
use crate::interfaces::{EngineKind, Quantity, QuantityKind};

/// The label that says which model a series is of.
const MODEL_LABEL: &str = "model_name";
/// Labels that number the data-parallel engines of a pod; others are renamed to the first.
const RANK_LABELS: [&str; 2] = ["engine", "dp_rank"];

/// A PromQL selector of series that mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::collector) struct Selector {
    text: String,
    /// Labels to rename, from and to.
    renamed: Vec<(String, &'static str)>,
    /// The number is 1 minus the series' value.
    complement: bool,
}

impl Selector {
    /// `function` of the series, under the labels that all series have. A function that needs a bare selector, such as
    /// `timestamp`, gets one.
    pub(in crate::collector) fn under(&self, function: impl FnOnce(&str) -> String) -> String {
        let renamed = self.renamed.iter().fold(function(&self.text), |inner, (from, to)| {
            format!("label_replace({inner}, \"{to}\", \"$1\", \"{from}\", \"(.+)\")")
        });
        if self.complement { format!("(1 - {renamed})") } else { renamed }
    }
}

/// One thing to ask in order to know which engine an instance is, and what its KV cache holds.
#[derive(Clone, Debug)]
pub(in crate::collector) struct Fact {
    /// The engine's place in the catalog.
    pub(in crate::collector) engine: usize,
    pub(in crate::collector) quantity: Quantity,
    pub(in crate::collector) selector: Selector,
    /// Label that holds the number, where the series' value does not.
    pub(in crate::collector) label: Option<&'static str>,
}

impl EngineCatalog {
    /// Selectors of a quantity's series, newest generation of names first. `part` is the suffix of a histogram's part,
    /// such as `_sum`. Engines never share a series, so that one selector can hold the names of several; two generations
    /// of one engine may stand side by side, and need `or` in between. Copies (tensor-parallel ranks) all match: whoever
    /// asks takes the greatest of an instance.
    pub(in crate::collector) fn selectors(&self, quantity: Quantity, part: &str) -> Vec<Selector> {
        let mut selectors = Vec::new();
        for generation in 0.. {
            let of_generation: Vec<(&EngineEntry, &EngineFamily)> = (0..self.engines.len())
                .filter_map(|place| self.families(place, quantity).nth(generation))
                .filter(|(_, family)| !matches!(family.value, Value::Label(_)))
                .collect();
            if of_generation.is_empty() {
                return selectors;
            }
            let is_plain = |(engine, family): &(&EngineEntry, &EngineFamily)| {
                family.label.is_none() && family.value == Value::Sample && renamed(engine).is_empty()
            };
            let (plain, special): (Vec<_>, Vec<_>) = of_generation.into_iter().partition(is_plain);
            selectors.extend(special.into_iter().map(|(engine, family)| selector(engine, &[family], part)));
            if let Some((engine, _)) = plain.first() {
                let families: Vec<_> = plain.iter().map(|(_, family)| *family).collect();
                selectors.push(selector(engine, &families, part));
            }
        }
        selectors
    }

    /// What tells engines apart, and the capacity of their KV caches.
    pub(in crate::collector) fn facts(&self) -> Vec<Fact> {
        let told = [Quantity::Waiting, Quantity::KvCacheTokens, Quantity::KvCacheBlocks, Quantity::KvCacheBlockSize];
        let of_engine = |engine: usize| {
            told.into_iter().flat_map(move |quantity| self.families(engine, quantity)).map(move |(entry, family)| {
                Fact {
                    engine,
                    quantity: family.quantity,
                    selector: selector(entry, &[family], ""),
                    label: match family.value {
                        Value::Label(label) => Some(label),
                        Value::Sample | Value::Complement => None,
                    },
                }
            })
        };
        (0..self.engines.len()).flat_map(of_engine).collect()
    }

    /// What an engine calls a quantity, newest name first; what vLLM does where no such engine is known.
    pub(in crate::collector) fn family_names(&self, kind: EngineKind, quantity: Quantity) -> String {
        let place = |kind| self.engines.iter().position(|engine| engine.kind == kind);
        let place = place(kind).or(place(EngineKind::Vllm)).unwrap_or_default();
        self.families(place, quantity).map(|(_, family)| &*family.name).collect::<Vec<_>>().join(" or ")
    }

    /// Families of a quantity that are the engine's own.
    fn families(&self, place: usize, quantity: Quantity) -> impl Iterator<Item = (&EngineEntry, &EngineFamily)> {
        let engine = self.engines.get(place).into_iter();
        let families = engine.flat_map(|engine| engine.families.iter().map(move |family| (engine, family)));
        families.filter(move |(_, family)| family.quantity == quantity && self.is_claimed_by(place, family))
    }
}

/// Labels of the engine's series that go by another name in all others.
fn renamed(engine: &EngineEntry) -> Vec<(String, &'static str)> {
    let mut renamed = Vec::new();
    if !engine.model_label.is_empty() && *engine.model_label != *MODEL_LABEL {
        renamed.push((engine.model_label.to_string(), MODEL_LABEL));
    }
    let rank = engine.rank_labels.first().filter(|label| !RANK_LABELS.contains(&&***label));
    renamed.extend(rank.map(|label| (label.to_string(), RANK_LABELS[0])));
    renamed
}

/// Selects `families` of one quantity, which `engine` has, or engines with the same labels.
fn selector(engine: &EngineEntry, families: &[&EngineFamily], part: &str) -> Selector {
    let names: Vec<String> = families
        .iter()
        .flat_map(|family| match family.quantity.kind() {
            QuantityKind::Counter => vec![format!("{}_total", family.name), family.name.to_string()],
            QuantityKind::Gauge | QuantityKind::Histogram => vec![format!("{}{part}", family.name)],
        })
        .collect();
    let labels = families.iter().filter_map(|family| family.label.as_ref());
    let mut matchers: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    let text = match (names.as_slice(), matchers.is_empty()) {
        ([name], true) => name.clone(),
        ([name], false) => format!("{name}{{{}}}", matchers.join(",")),
        (names, _) => {
            matchers.insert(0, format!("__name__=~\"{}\"", names.join("|")));
            format!("{{{}}}", matchers.join(","))
        }
    };
    let complement = families.iter().any(|family| family.value == Value::Complement);
    Selector { text, renamed: renamed(engine), complement }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CustomEngine, CustomFamily};

    fn texts(catalog: &EngineCatalog, quantity: Quantity, part: &str) -> Vec<String> {
        let selectors = catalog.selectors(quantity, part);
        selectors.iter().map(|selector| selector.under(str::to_owned)).collect()
    }

    #[test]
    fn engines_share_a_selector_and_generations_do_not() {
        let texts = |quantity, part| texts(&EngineCatalog::default(), quantity, part);
        assert_eq!(
            texts(Quantity::KvCacheUsage, ""),
            [
                r#"nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}"#,
                r#"{__name__=~"vllm:kv_cache_usage_perc|sglang:token_usage|trtllm_kv_cache_utilization"}"#,
                "vllm:gpu_cache_usage_perc",
            ]
        );
        assert_eq!(
            texts(Quantity::WaitingForCapacity, ""),
            [r#"vllm:num_requests_waiting_by_reason{reason="capacity"}"#]
        );
        assert_eq!(
            texts(Quantity::Asleep, ""),
            [r#"(1 - vllm:engine_sleep_state{sleep_state="awake"})"#],
            "the engine says when it is awake"
        );
        let preemptions = texts(Quantity::Preemptions, "");
        assert!(preemptions.iter().any(|text| text.contains("vllm:num_preemptions_total|")), "{preemptions:?}");
        assert!(texts(Quantity::TimeToFirstToken, "_sum")[0].contains("vllm:time_to_first_token_seconds_sum|"));
    }

    #[test]
    fn an_engine_of_the_configuration_is_asked_for_under_its_own_labels_and_takes_its_families() {
        let family = |quantity, name: &str| CustomFamily { quantity, name: name.into(), label: None };
        let catalog = EngineCatalog::new(&[CustomEngine {
            name: "mine".into(),
            model_label: Some("served".into()),
            rank_label: Some("rank".into()),
            families: vec![
                family(Quantity::Waiting, "mine_queue"),
                family(Quantity::Running, "tgi_batch_current_size"),
            ],
        }]);
        assert_eq!(
            texts(&catalog, Quantity::Waiting, "")[0],
            r#"label_replace(label_replace(mine_queue, "model_name", "$1", "served", "(.+)"), "engine", "$1", "rank", "(.+)")"#
        );
        let running = texts(&catalog, Quantity::Running, "");
        let asked = running.iter().map(|text| text.matches("tgi_batch_current_size").count()).sum::<usize>();
        assert_eq!(asked, 1, "{running:?}");
        let engine = catalog.facts().into_iter().find(|fact| fact.selector.under(str::to_owned).contains("mine_queue"));
        assert_eq!(engine.map(|fact| catalog.kind(fact.engine)), Some(EngineKind::Custom));
        assert_eq!(catalog.family_names(EngineKind::Custom, Quantity::Waiting), "mine_queue");
    }

    #[test]
    fn capacity_is_asked_of_every_engine_that_tells_it() {
        use EngineKind::{Sglang, TensorRtLlm, Tgi, Triton, Vllm};
        let catalog = EngineCatalog::default();
        let engines = |quantity| -> Vec<EngineKind> {
            let facts = catalog.facts().into_iter().filter(|fact| fact.quantity == quantity);
            facts.map(|fact| catalog.kind(fact.engine)).collect()
        };
        assert_eq!(engines(Quantity::KvCacheTokens), [Sglang]);
        assert_eq!(engines(Quantity::KvCacheBlocks), [Vllm, Sglang, Sglang, TensorRtLlm, Triton]);
        assert_eq!(engines(Quantity::Waiting), [Vllm, Sglang, TensorRtLlm, Triton, Triton, Tgi]);
    }
}
