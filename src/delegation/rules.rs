//! Which metrics are another adapter's. Pure.

/// What a metric is recognised by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Names.
    pub metrics: Vec<String>,
    /// Beginnings of names.
    pub prefixes: Vec<String>,
    /// Label keys that the selector requires; `scaledobject.keda.sh/name` is KEDA's.
    pub label_keys: Vec<String>,
}

impl Rules {
    /// Whether a read of `metric`, whose selector speaks of `keys`, is another adapter's.
    pub fn claim<'a>(&self, metric: &str, keys: impl IntoIterator<Item = &'a str>) -> bool {
        self.metrics.iter().any(|name| name == metric)
            || self.prefixes.iter().any(|prefix| metric.starts_with(prefix.as_str()))
            || keys.into_iter().any(|key| self.label_keys.iter().any(|known| known == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_claimed_by_name_prefix_or_label_key() {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        let rules = Rules {
            metrics: list(&["queue_messages"]),
            prefixes: list(&["s0-"]),
            label_keys: list(&["scaledobject.keda.sh/name"]),
        };
        for (metric, keys, claimed) in [
            ("queue_messages", vec![], true),
            ("queue_messages_ready", vec![], false),
            ("s0-cron", vec![], true),
            ("cron", vec!["variant_name"], false),
            ("cron", vec!["variant_name", "scaledobject.keda.sh/name"], true),
        ] {
            assert_eq!(rules.claim(metric, keys.clone()), claimed, "{metric} {keys:?}");
        }
        assert!(!Rules::default().claim("anything", ["variant_name"]));
    }
}
