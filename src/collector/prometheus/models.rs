//! What is known of models beside their replicas: gateways and lengths of requests.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{
    ingest::{QueryResults, Reading, text},
    queries::{GATEWAY_HELD, GATEWAY_RECEIVED, GATEWAY_RECEIVED_RECENTLY, GATEWAY_TIME, Query, tag},
    response::{Series, SeriesLabels},
};
use crate::interfaces::{LengthDistribution, ModelKey, ModelMetrics, Quantity, Signal};

/// What gateways say of each model.
pub(super) fn gateways(results: &QueryResults, reading: &Reading<'_>) -> HashMap<ModelKey, ModelMetrics> {
    let series = || results.get(&Query::Gateways).into_iter().flatten();
    let tagged = |series: &Series| {
        let labels = &series.labels;
        let model = text(labels.target_model_name.as_deref()).or(text(labels.model_name.as_deref()))?;
        Some((ModelKey::new(namespace(labels)?, model), text(labels.quantity.as_deref())?.to_owned()))
    };
    let mut times = HashMap::<ModelKey, Timestamp>::new();
    for series in series() {
        if let (Some((model, quantity)), Some(at)) = (tagged(series), reading.moment(series.value))
            && quantity == GATEWAY_TIME
        {
            let newest = times.entry(model).or_insert(at);
            *newest = at.max(*newest);
        }
    }
    let mut models = HashMap::<ModelKey, ModelMetrics>::new();
    for series in series() {
        let Some((model, quantity)) = tagged(series) else { continue };
        let Some(at) = times.get(&model) else { continue };
        let metrics = models.entry(model).or_default();
        let signal = match quantity.as_str() {
            GATEWAY_HELD => &mut metrics.gateway_queue,
            GATEWAY_RECEIVED => &mut metrics.gateway_arrival_rate,
            GATEWAY_RECEIVED_RECENTLY => &mut metrics.gateway_recent_arrival_rate,
            _ => continue,
        };
        // Several names a client may ask for lead to one model.
        let known = signal.value().copied().unwrap_or(0.0);
        *signal = Signal::from_sample(known + series.value, *at);
    }
    models
}

fn namespace(labels: &SeriesLabels) -> Option<&str> {
    text(labels.namespace.as_deref()).or(text(labels.exported_namespace.as_deref()))
}

/// Prompt and output lengths of each model.
pub(super) type Lengths = HashMap<ModelKey, [Option<Arc<LengthDistribution>>; 2]>;

/// Reads the lengths; `None` when they were not asked for.
pub(super) fn lengths(results: &QueryResults) -> Option<Lengths> {
    let mut parts = HashMap::<ModelKey, [Parts; 2]>::new();
    for Series { labels, value } in results.get(&Query::Lengths)? {
        let (Some(namespace), Some(model), Some(quantity)) =
            (namespace(labels), text(labels.model_name.as_deref()), text(labels.quantity.as_deref()))
        else {
            continue;
        };
        for (index, of) in [Quantity::PromptLength, Quantity::OutputLength].into_iter().enumerate() {
            if let Some(part) = quantity.strip_prefix(tag(of)) {
                parts.entry(ModelKey::new(namespace, model)).or_default()[index].add(part, labels, *value);
            }
        }
    }
    let of = |parts: Parts| parts.distribution().map(Arc::new);
    Some(parts.into_iter().map(|(model, parts)| (model, parts.map(of))).collect())
}

#[derive(Debug, Default)]
struct Parts {
    /// Bound and requests up to it.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Parts {
    fn add(&mut self, part: &str, labels: &SeriesLabels, value: f64) {
        match part {
            _ if !value.is_finite() => {}
            "_sum" => self.sum += value,
            "_count" => self.count += value,
            _ => {
                let bound = labels.le.as_deref().and_then(|bound| bound.parse::<f64>().ok());
                self.buckets.extend(bound.filter(|bound| bound.is_finite()).map(|bound| (bound, value)));
            }
        }
    }

    /// `None` without a request or without buckets.
    fn distribution(mut self) -> Option<LengthDistribution> {
        if self.buckets.is_empty() || self.count <= 0.0 {
            return None;
        }
        self.buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut below = 0.0;
        let mut counts: Vec<f64> = Vec::with_capacity(self.buckets.len() + 1);
        for (_, up_to) in &self.buckets {
            counts.push((up_to - below).max(0.0));
            below = up_to.max(below);
        }
        counts.push((self.count - below).max(0.0));
        let bounds = self.buckets.into_iter().map(|(bound, _)| bound).collect();
        Some(LengthDistribution { bounds, counts, mean: self.sum / self.count })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::*;
    use crate::collector::mapping::EngineCatalog;

    fn series(pairs: &[(&str, &str)], value: f64) -> Series {
        let of = |name: &str| pairs.iter().find(|(label, _)| *label == name).map(|(_, value)| (*value).into());
        let labels = SeriesLabels {
            namespace: Some("chat".into()),
            model_name: of("model"),
            target_model_name: of("target"),
            quantity: of("quantity"),
            le: of("le"),
            ..SeriesLabels::default()
        };
        Series { labels, value }
    }

    #[test]
    fn what_a_gateway_holds_and_receives_is_told_with_its_sample_time() {
        let of = |model, quantity, value| series(&[("model", model), ("target", "m"), ("quantity", quantity)], value);
        let held = vec![
            of("m", GATEWAY_HELD, 4.0),
            of("alias", GATEWAY_HELD, 1.0),
            of("m", GATEWAY_RECEIVED, 2.5),
            of("m", GATEWAY_RECEIVED_RECENTLY, 3.5),
            of("m", GATEWAY_TIME, 1100.0),
        ];
        let reading = Reading {
            catalog: &EngineCatalog::default(),
            window: Duration::from_secs(60),
            ahead: SignedDuration::from_secs(1000),
            model_of: &|_, _| None,
        };
        let models = gateways(&[(Query::Gateways, held)].into_iter().collect(), &reading);
        let at = Timestamp::from_second(100).unwrap();
        let metrics = &models[&ModelKey::new("chat", "m")];
        assert_eq!(metrics.gateway_queue, Signal::present(5.0, at));
        assert_eq!(metrics.gateway_arrival_rate, Signal::present(2.5, at));
        assert_eq!(metrics.gateway_recent_arrival_rate, Signal::present(3.5, at));
    }

    #[test]
    fn lengths_are_the_differences_of_their_buckets() {
        let of = |quantity, le, value| series(&[("model", "m"), ("quantity", quantity), ("le", le)], value);
        let answer = vec![
            of("prompt_length_bucket", "100.0", 3.0),
            of("prompt_length_bucket", "10.0", 1.0),
            of("prompt_length_bucket", "+Inf", 4.0),
            of("prompt_length_sum", "", 200.0),
            of("prompt_length_count", "", 4.0),
        ];
        let lengths = lengths(&[(Query::Lengths, answer)].into_iter().collect()).unwrap();
        let [prompt, output] = &lengths[&ModelKey::new("chat", "m")];
        let expected = LengthDistribution { bounds: vec![10.0, 100.0], counts: vec![1.0, 2.0, 1.0], mean: 50.0 };
        assert_eq!(prompt.as_deref(), Some(&expected));
        assert_eq!(*output, None);
    }
}
