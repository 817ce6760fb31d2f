//! From exposition text to one reading per engine instance.

use std::{collections::BTreeMap, sync::Arc};

use super::line::Line;
use crate::constants::{
    VLLM_CACHE_CONFIG_INFO, VLLM_GPU_CACHE_USAGE_PERC, VLLM_KV_CACHE_USAGE_PERC, VLLM_NUM_REQUESTS_RUNNING,
    VLLM_NUM_REQUESTS_WAITING, VLLM_REQUEST_SUCCESS, VLLM_REQUEST_SUCCESS_TOTAL,
};

/// Families that are read; every other line is skipped unparsed.
const FAMILIES: [&str; 7] = [
    VLLM_KV_CACHE_USAGE_PERC,
    VLLM_GPU_CACHE_USAGE_PERC,
    VLLM_NUM_REQUESTS_WAITING,
    VLLM_NUM_REQUESTS_RUNNING,
    VLLM_REQUEST_SUCCESS_TOTAL,
    VLLM_REQUEST_SUCCESS,
    VLLM_CACHE_CONFIG_INFO,
];

/// What one engine instance said at one moment. A value it did not expose, or that is not a number, is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// `model_name`.
    pub(super) model: Arc<str>,
    /// `engine`: index of the data-parallel engine; empty where there is no such label.
    pub(super) engine: Arc<str>,
    pub(super) kv_cache_usage: Option<f64>,
    pub(super) waiting: Option<f64>,
    pub(super) running: Option<f64>,
    /// Requests completed since the engine started.
    pub(super) completed: Option<f64>,
    pub(super) kv_cache_tokens: Option<f64>,
}

/// The readings in `text`, in the order of model and engine. Text that is no exposition has none.
pub(super) fn readings(text: &str) -> Vec<Reading> {
    let mut readings: BTreeMap<(Arc<str>, Arc<str>), Reading> = BTreeMap::new();
    let mut capacities: BTreeMap<Arc<str>, f64> = BTreeMap::new();
    for line in text.lines().filter(|line| is_read(line)).filter_map(Line::parse) {
        let engine: Arc<str> = line.label("engine").unwrap_or_default().into();
        // Cache configuration has no model name: it belongs to every model of the engine.
        if line.name == VLLM_CACHE_CONFIG_INFO {
            capacities.extend(capacity(&line).map(|tokens| (engine, tokens)));
            continue;
        }
        let Some(model) = line.label("model_name") else { continue };
        let model: Arc<str> = model.into();
        let reading = readings.entry((model.clone(), engine.clone())).or_insert_with(|| Reading {
            model,
            engine,
            ..Reading::default()
        });
        add(reading, &line);
    }
    for reading in readings.values_mut() {
        reading.kv_cache_tokens = capacities.get(&reading.engine).copied();
    }
    readings.into_values().collect()
}

/// Whether a line is a sample of a family in use.
fn is_read(line: &str) -> bool {
    FAMILIES.iter().any(|family| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' '])))
}

fn add(reading: &mut Reading, line: &Line<'_>) {
    let value = line.value;
    if !value.is_finite() || value < 0.0 {
        return;
    }
    match line.name {
        VLLM_KV_CACHE_USAGE_PERC => reading.kv_cache_usage = Some(value),
        // Both generations may stand side by side; the newer name wins.
        VLLM_GPU_CACHE_USAGE_PERC => reading.kv_cache_usage = reading.kv_cache_usage.or(Some(value)),
        VLLM_NUM_REQUESTS_WAITING => reading.waiting = Some(value),
        VLLM_NUM_REQUESTS_RUNNING => reading.running = Some(value),
        // One series per reason a request finished.
        VLLM_REQUEST_SUCCESS_TOTAL | VLLM_REQUEST_SUCCESS => {
            reading.completed = Some(reading.completed.unwrap_or(0.0) + value);
        }
        _ => {}
    }
}

fn capacity(line: &Line<'_>) -> Option<f64> {
    let label = |name| line.label(name)?.parse::<f64>().ok();
    Some(label("num_gpu_blocks")? * label("block_size")?).filter(|tokens| tokens.is_finite() && *tokens > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_vllm_names_labels_and_both_generations_are_read() {
        let text = r#"
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 37
vllm:num_requests_waiting{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 4
vllm:num_requests_waiting_by_reason{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct",reason="capacity"} 99
vllm:kv_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 0.6123
vllm:gpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0"} 0.1
vllm:gpu_cache_usage_perc{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="1"} 0.25
vllm:request_success_total{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="length"} 5
vllm:request_success_total{model_name="meta-llama/Llama-3.1-8B-Instruct",engine="0",finished_reason="stop"} 95
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="23257",engine="0"} 1.0
"#;
        let model: Arc<str> = "meta-llama/Llama-3.1-8B-Instruct".into();
        let expected = [
            Reading {
                model: model.clone(),
                engine: "0".into(),
                kv_cache_usage: Some(0.6123),
                waiting: Some(4.0),
                running: Some(37.0),
                completed: Some(100.0),
                kv_cache_tokens: Some(372_112.0),
            },
            Reading { model, engine: "1".into(), kv_cache_usage: Some(0.25), ..Reading::default() },
        ];
        assert_eq!(readings(text), expected);
    }

    #[test]
    fn what_is_not_a_number_is_not_read_as_zero() {
        let text = "vllm:kv_cache_usage_perc{model_name=\"m\"} NaN\nvllm:num_requests_waiting{model_name=\"m\"} 0\n";
        let reading = &readings(text)[0];
        assert_eq!((reading.kv_cache_usage, reading.waiting), (None, Some(0.0)));
    }

    #[test]
    fn an_answer_without_our_families_has_no_reading() {
        assert_eq!(readings("<html>hello</html>"), []);
    }
}
