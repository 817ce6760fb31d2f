//! Upstream's `wva-saturation-scaling-config` as a layer, so that its ConfigMap works unchanged.
//!
//! Its data keys are `default` and one per model; each holds a YAML mapping. A model's entry names the model in its
//! fields `model_id` and `namespace`, or in its data key, `{modelID}#{namespace}`. Here an entry inherits key by key
//! from `default`, where upstream fills unset keys with fixed values.
//!
//! Keys that only later engines use (`analyzers`, `limiters`, …) are warnings, not errors: upstream's installer
//! writes some of them into every ConfigMap, and none of them changes the meaning of a key that is read here. In our own
//! schema the same keys are errors.

use std::collections::BTreeMap;

use super::{
    Layer, ModelSelector,
    document::{Body, Document, Reader},
    keys,
    layer::Rank,
    yaml::{self, Content, Node},
};

const UNSUPPORTED: &[&str] =
    &["enableLimiter", "enableRescale", "analyzerName", "priority", "analyzers", "limiters", "scaleToZero"];

/// Whether `key` is a key of upstream's that nothing reads here.
pub(super) fn is_unsupported(key: &str) -> bool {
    UNSUPPORTED.contains(&key)
}

impl Layer {
    /// Reads a document in upstream's saturation schema: a ConfigMap, a directory it is mounted at, or a file that maps
    /// its data keys to their entries.
    pub fn from_upstream_document(document: &Document) -> Self {
        let layer = Self::new(Rank::UpstreamDocument);
        let mut reader = Reader { layer, document: document.name.clone() };
        match &document.body {
            Body::Text(text) => reader.upstream_file(text),
            Body::Data(data) => reader.upstream_data(data),
        }
        reader.layer
    }
}

impl Reader {
    fn upstream_data(&mut self, data: &BTreeMap<String, String>) {
        let whole = self.document.clone();
        for (name, text) in data {
            self.document = format!("{whole} key {name}").into();
            self.upstream_text(name, text);
        }
    }

    fn upstream_file(&mut self, text: &str) {
        let entries = match yaml::parse(text) {
            Ok(Node { content: Content::Map(entries), .. }) => entries,
            Ok(_) => return self.fail("it must map `default` and models to their entries".to_owned()),
            Err(message) => return self.fail(message),
        };
        let whole = self.document.clone();
        for (name, _, node) in &entries {
            match &node.content {
                Content::Map(fields) => self.upstream_entry(name, node.line, fields),
                // A block text, as ConfigMaps hold it: its lines count from its own beginning.
                Content::Text(text) => {
                    self.document = format!("{whole} key {name}").into();
                    self.upstream_text(name, text);
                    self.document = whole.clone();
                }
                _ => self.reject(name.as_str(), "not an entry", node.line, "it must be a mapping of saturation keys"),
            }
        }
    }

    fn upstream_text(&mut self, name: &str, text: &str) {
        match yaml::parse(text) {
            Ok(Node { content: Content::Map(fields), line }) => self.upstream_entry(name, line, &fields),
            Ok(_) => self.fail("it must be a mapping of saturation keys".to_owned()),
            Err(message) => self.fail(message),
        }
    }

    fn upstream_entry(&mut self, name: &str, line: u64, fields: &[(String, u64, Node)]) {
        let Some(selector) = self.upstream_selector(name, line, fields) else { return };
        for (key, line, node) in fields {
            let path = format!("{}.{key}", keys::SATURATION);
            match keys::find(&path) {
                Some(row) => {
                    let Some(text) = self.scalar(row, key, node) else { continue };
                    match &selector {
                        Some(model) => self.layer.set_for_model(model, row, text, self.at(*line)),
                        None => self.layer.set(row, text, self.at(*line)),
                    }
                }
                None if matches!(key.as_str(), "model_id" | "namespace") => {}
                None if is_unsupported(key) => {
                    let warning =
                        format!("{key} ({}) is a key of upstream that has no effect here yet", self.at(*line));
                    self.layer.warnings.push(warning);
                }
                None => self.unknown(path, key, *line),
            }
        }
    }

    /// The model an entry speaks of, `Some(None)` for the default, `None` after an error.
    #[expect(clippy::option_option, reason = "three outcomes, of which one is only an early return")]
    fn upstream_selector(
        &mut self,
        name: &str,
        line: u64,
        fields: &[(String, u64, Node)],
    ) -> Option<Option<ModelSelector>> {
        if name == "default" {
            return Some(None);
        }
        let field = |key| fields.iter().find(|(name, ..)| name == key).map(|(.., node)| node);
        let from_name = name.split_once('#');
        let model_id = match (field("model_id"), from_name) {
            (Some(node), _) => self.name("model_id", node)?,
            (None, Some((model_id, _))) => model_id.to_owned(),
            (None, None) => {
                self.reject(format!("entry {name}"), "without a model", line, "it needs model_id and namespace");
                return None;
            }
        };
        let namespace = match field("namespace") {
            Some(node) => Some(self.name("namespace", node)?),
            None => from_name.map(|(_, namespace)| namespace.to_owned()),
        };
        let disagrees = from_name.is_some_and(|named| (named.0, Some(named.1)) != (&model_id, namespace.as_deref()));
        if disagrees {
            let rule = "its fields model_id and namespace name another model; make them agree";
            self.reject(format!("entry {name}"), name, line, rule);
            return None;
        }
        let selector = ModelSelector { model_id: model_id.into(), namespace: namespace.map(Into::into) };
        if self.layer.models.contains_key(&selector) {
            self.reject(selector.to_string(), "given twice", line, "one entry per model is enough");
            return None;
        }
        self.layer.models.entry(selector.clone()).or_default();
        Some(Some(selector))
    }
}
