//! Engines beside those built in: `collector.engines`, a map of names to the families they export.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ConfigError,
    layer::{Entries, nearest},
};
use crate::interfaces::Quantity;

/// An engine that the configuration describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomEngine {
    /// Its name, for messages.
    pub name: Arc<str>,
    /// Label that names the model; without one the pod's variant has to.
    pub model_label: Option<Box<str>>,
    /// Label that numbers the data-parallel engines of a pod.
    pub rank_label: Option<Box<str>>,
    /// What it exports.
    pub families: Vec<CustomFamily>,
}

/// A family of a [`CustomEngine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomFamily {
    /// What it means.
    pub quantity: Quantity,
    /// Its name, a counter's without `_total`, a histogram's without its suffixes.
    pub name: Box<str>,
    /// Only samples with this label and value.
    pub label: Option<LabelValue>,
}

/// A label and its value.
pub type LabelValue = (Box<str>, Box<str>);

const MODEL_LABEL: &str = "modelLabel";
const RANK_LABEL: &str = "rankLabel";

/// Keys of an engine that name a family, and what it then means.
const FAMILIES: [(&str, Quantity); 23] = [
    ("kvCacheUsage", Quantity::KvCacheUsage),
    ("kvCacheTokens", Quantity::KvCacheTokens),
    ("kvCacheBlocks", Quantity::KvCacheBlocks),
    ("kvCacheBlockSize", Quantity::KvCacheBlockSize),
    ("waiting", Quantity::Waiting),
    ("waitingForCapacity", Quantity::WaitingForCapacity),
    ("preallocating", Quantity::Preallocating),
    ("running", Quantity::Running),
    ("asleep", Quantity::Asleep),
    ("arrivals", Quantity::Arrivals),
    ("promptTokens", Quantity::PromptTokens),
    ("generationTokens", Quantity::GenerationTokens),
    ("prefixQueries", Quantity::PrefixQueries),
    ("prefixHits", Quantity::PrefixHits),
    ("preemptions", Quantity::Preemptions),
    ("rejections", Quantity::Rejections),
    ("finished", Quantity::Finished),
    ("failed", Quantity::Failed),
    ("timeToFirstToken", Quantity::TimeToFirstToken),
    ("interTokenLatency", Quantity::InterTokenLatency),
    ("queueTime", Quantity::QueueTime),
    ("promptLength", Quantity::PromptLength),
    ("outputLength", Quantity::OutputLength),
];

/// Whether an engine may have the key; the nearest one it may have otherwise.
pub(super) fn known_key(key: &str) -> Result<(), Option<String>> {
    let keys = || FAMILIES.iter().map(|(key, _)| *key).chain([MODEL_LABEL, RANK_LABEL]);
    if keys().any(|known| known == key) { Ok(()) } else { Err(nearest(key, keys())) }
}

/// The engines in `entries`, by `name.key`.
pub(super) fn engines(path: &str, entries: &Entries, errors: &mut Vec<ConfigError>) -> Vec<CustomEngine> {
    let mut engines: BTreeMap<&str, CustomEngine> = BTreeMap::new();
    for (name_and_key, entry) in entries {
        let Some((name, key)) = name_and_key.rsplit_once('.') else { continue };
        let engine = engines.entry(name).or_insert_with(|| CustomEngine {
            name: name.into(),
            model_label: None,
            rank_label: None,
            families: Vec::new(),
        });
        let text = entry.text.as_str();
        let taken = match key {
            MODEL_LABEL => label_name(text).map(|label| engine.model_label = Some(label)),
            RANK_LABEL => label_name(text).map(|label| engine.rank_label = Some(label)),
            key => FAMILIES.iter().find(|(known, _)| *known == key).ok_or(String::new()).and_then(|(_, quantity)| {
                let (name, label) = selector(text)?;
                engine.families.push(CustomFamily { quantity: *quantity, name, label });
                Ok(())
            }),
        };
        if let Err(rule) = taken {
            errors.push(ConfigError::invalid(format!("{path}.{name_and_key}"), text, &entry.given_by, rule));
        }
    }
    engines.into_values().collect()
}

fn label_name(text: &str) -> Result<Box<str>, String> {
    let valid = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if valid { Ok(text.into()) } else { Err("it must be the name of a label".to_owned()) }
}

/// `name` or `name{label="value"}`.
fn selector(text: &str) -> Result<(Box<str>, Option<LabelValue>), String> {
    let rule =
        || "it must be the name of a metric, with one label if need be: name or name{label=\"value\"}".to_owned();
    let (name, label) = match text.split_once('{') {
        None => (text.trim(), None),
        Some((name, rest)) => {
            let (label, value) = rest.strip_suffix('}').and_then(|inner| inner.split_once('=')).ok_or_else(rule)?;
            let value = value.trim().strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(rule)?;
            if value.contains('"') {
                return Err(rule());
            }
            (name.trim(), Some((label_name(label.trim())?, value.into())))
        }
    };
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if valid { Ok((name.into(), label)) } else { Err(rule()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_a_name_with_at_most_one_label() {
        assert_eq!(selector("my:queue"), Ok(("my:queue".into(), None)));
        let labelled = ("requests".into(), Some(("state".into(), "queued".into())));
        assert_eq!(selector("requests{ state = \"queued\" }"), Ok(labelled));
        for text in ["", "9x", "a b", "a{", "a{b}", "a{b=c}", "a{b=\"c\",d=\"e\"}", "a{b=\"c\"} * 2", "rate(a[1m])"] {
            assert!(selector(text).is_err(), "{text}");
        }
    }
}
