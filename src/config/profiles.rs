//! The section `profiles`: service times of models on accelerators, where their owner knows them. Documents only.
//!
//! Upstream's α, β and γ are understood too: α is the base, β + γ a prompt token, β a sequence, γ a resident token.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    document::Reader,
    service_classes::field,
    yaml::{Content, Node},
};
use crate::interfaces::ServiceProfile;

pub(super) const SECTION: &str = "profiles";
const KEYS: [&str; 12] = [
    "modelID",
    "accelerator",
    "iterationMs",
    "prefillMsPerToken",
    "decodeMsPerSequence",
    "kvMsPerToken",
    "alpha",
    "beta",
    "gamma",
    "kvCacheTokens",
    "maxBatch",
    "maxBatchedTokens",
];
/// vLLM's defaults.
const MAX_BATCH: f64 = 256.0;
const MAX_BATCHED_TOKENS: f64 = 2048.0;

/// Profiles by model and accelerator.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Profiles {
    profiles: Vec<ProfileEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileEntry {
    #[serde(rename = "modelID")]
    model_id: Arc<str>,
    accelerator: Arc<str>,
    /// Times in seconds.
    profile: ServiceProfile,
}

impl Profiles {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// Service times of `model_id` on `accelerator` (its canonical name, case aside).
    pub fn get(&self, model_id: &str, accelerator: &str) -> Option<&ServiceProfile> {
        let of = |entry: &&ProfileEntry| {
            entry.model_id.as_ref() == model_id && entry.accelerator.eq_ignore_ascii_case(accelerator)
        };
        self.profiles.iter().find(of).map(|entry| &entry.profile)
    }
}

impl Reader {
    /// Reads the section.
    pub(super) fn profiles(&mut self, node: &Node) {
        let entries = match &node.content {
            Content::Empty => return,
            Content::List(entries) => entries,
            _ => return self.reject(SECTION, "not a list", node.line, "it must be a list of profiles"),
        };
        let mut read = Profiles::default();
        for node in entries {
            let Some(entry) = self.profile(node) else { continue };
            if read.get(&entry.model_id, &entry.accelerator).is_some() {
                let key = format!("{SECTION}[{} on {}]", entry.model_id, entry.accelerator);
                self.reject(key, "given twice", node.line, "one profile per model and accelerator is enough");
            } else {
                read.profiles.push(entry);
            }
        }
        self.layer.profiles = read;
    }

    fn profile(&mut self, node: &Node) -> Option<ProfileEntry> {
        let entries = self.mapping(SECTION, node)?;
        let mut names = BTreeMap::new();
        for key in ["modelID", "accelerator"] {
            let path = format!("{SECTION}.{key}");
            let Some(node) = field(entries, key) else {
                self.reject(path, "missing", node.line, "each profile needs it");
                return None;
            };
            names.insert(key, self.name(&path, node)?);
        }
        let (model_id, accelerator) = (names.remove("modelID")?, names.remove("accelerator")?);
        let path = format!("{SECTION}[{model_id} on {accelerator}]");
        self.only(&path, entries, &KEYS);
        let mut number = |key: &str, range, rule: &str| self.number(&path, entries, key, range, rule);
        let mut time = |key: &str| number(key, (0.0, 1e5), "it must be a number of milliseconds from 0 to 100000");
        let (alpha, beta, gamma) = (time("alpha"), time("beta"), time("gamma"));
        let both = beta.map(|beta| beta + gamma.unwrap_or(0.0));
        let times = [
            ("iterationMs", "alpha", time("iterationMs").or(alpha)),
            ("prefillMsPerToken", "beta and gamma", time("prefillMsPerToken").or(both)),
            ("decodeMsPerSequence", "beta", time("decodeMsPerSequence").or(beta)),
            ("kvMsPerToken", "gamma", time("kvMsPerToken").or(gamma)),
        ];
        let whole = "it must be a whole number from 1 to 1e9";
        let kv_cache_tokens = number("kvCacheTokens", (1.0, 1e12), "it must be a number of tokens of at least 1");
        let max_batch = number("maxBatch", (1.0, 1e5), whole).unwrap_or(MAX_BATCH);
        let max_batched_tokens = number("maxBatchedTokens", (1.0, 1e9), whole).unwrap_or(MAX_BATCHED_TOKENS);
        let mut complete = true;
        for (key, upstream, value) in &times {
            if value.is_none() && field(entries, key).is_none() {
                let rule = format!("a profile needs it (or upstream's {upstream})");
                self.reject(format!("{path}.{key}"), "missing", node.line, &rule);
            }
            complete &= value.is_some();
        }
        if kv_cache_tokens.is_none() && field(entries, "kvCacheTokens").is_none() {
            self.reject(format!("{path}.kvCacheTokens"), "missing", node.line, "a profile needs it");
        }
        let [base, prefill, sequence, kv] = times.map(|(.., value)| value.unwrap_or_default() / 1000.0);
        let profile = ServiceProfile {
            base,
            per_prefill_token: prefill,
            per_sequence: sequence,
            per_kv_token: kv,
            kv_cache_tokens: kv_cache_tokens.filter(|_| complete)?,
            max_batch: max_batch.round() as u32,
            max_batched_tokens: max_batched_tokens.round() as u32,
        };
        Some(ProfileEntry { model_id: model_id.into(), accelerator: accelerator.into(), profile })
    }
}
