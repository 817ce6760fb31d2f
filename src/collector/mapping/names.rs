//! The table of engines as selectors of series, for a source that is asked by name.

use super::table::{ENGINES, Family, Value};
use crate::interfaces::{EngineKind, Quantity, QuantityKind};

/// The label that a source has to have for a series to say which model it is of.
const MODEL_LABEL: &str = "model_name";

/// PromQL selectors of a quantity's series, newest generation of names first, of all engines whose metrics name the
/// model. `part` is the suffix of a histogram's part, such as `_sum`. Engines never share a series, so that one selector
/// can hold the names of several; two generations of one engine may stand side by side, and need `or` in between. Copies
/// (tensor-parallel ranks) all match: whoever asks takes the greatest of an instance.
pub(in crate::collector) fn selectors(quantity: Quantity, part: &str) -> Vec<String> {
    let engines = || ENGINES.iter().filter(|engine| engine.model_label == MODEL_LABEL);
    let mut selectors = Vec::new();
    for generation in 0.. {
        let of_generation: Vec<&Family> = engines()
            .filter_map(|engine| engine.families.iter().filter(|family| family.quantity == quantity).nth(generation))
            .filter(|family| !matches!(family.value, Value::Label(_)))
            .collect();
        if of_generation.is_empty() {
            return selectors;
        }
        let (labelled, bare): (Vec<_>, Vec<_>) = of_generation.into_iter().partition(|family| family.label.is_some());
        selectors.extend(labelled.into_iter().map(|family| selector(&[family], part)));
        if !bare.is_empty() {
            selectors.push(selector(&bare, part));
        }
    }
    selectors
}

/// What `engine` calls a quantity, newest name first; what vLLM does where the table has no such engine.
pub(in crate::collector) fn family_names(engine: EngineKind, quantity: Quantity) -> String {
    let table = ENGINES.iter().find(|known| known.kind == engine).unwrap_or(&ENGINES[0]);
    let families = table.families.iter().filter(|family| family.quantity == quantity);
    families.map(|family| family.name).collect::<Vec<_>>().join(" or ")
}

fn selector(families: &[&Family], part: &str) -> String {
    let names: Vec<String> = families
        .iter()
        .flat_map(|family| match family.quantity.kind() {
            QuantityKind::Counter => vec![format!("{}_total", family.name), family.name.to_owned()],
            QuantityKind::Gauge | QuantityKind::Histogram => vec![format!("{}{part}", family.name)],
        })
        .collect();
    let labels = families.iter().filter_map(|family| family.label);
    let mut matchers: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    match (names.as_slice(), matchers.is_empty()) {
        ([name], true) => name.clone(),
        ([name], false) => format!("{name}{{{}}}", matchers.join(",")),
        (names, _) => {
            matchers.insert(0, format!("__name__=~\"{}\"", names.join("|")));
            format!("{{{}}}", matchers.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_share_a_selector_and_generations_do_not() {
        assert_eq!(
            selectors(Quantity::KvCacheUsage, ""),
            [
                "{__name__=~\"vllm:kv_cache_usage_perc|sglang:token_usage|trtllm_kv_cache_utilization\"}",
                "vllm:gpu_cache_usage_perc",
            ]
        );
        assert_eq!(
            selectors(Quantity::WaitingForCapacity, ""),
            [r#"vllm:num_requests_waiting_by_reason{reason="capacity"}"#]
        );
        assert_eq!(
            selectors(Quantity::Preemptions, "").last().map(|last| last.contains("vllm:num_preemptions_total|")),
            Some(true)
        );
        assert!(selectors(Quantity::TimeToFirstToken, "_sum")[0].contains("vllm:time_to_first_token_seconds_sum|"));
    }
}
