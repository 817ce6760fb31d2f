//! Documents as layers: a file or a ConfigMap in the schema of docs/configuration.md.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    ConfigError, Layer, ModelSelector, Source, engines,
    keys::{self, Row},
    kinds::{self, Form},
    layer::{Entry, Rank, nearest, nearest_path},
    profiles, service_classes, upstream,
    yaml::{self, Content, Node},
};

/// The data key of our own ConfigMap.
pub(super) const CONFIG_MAP_KEY: &str = "config.yaml";

/// The text of a file or a ConfigMap, named for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is, such as `file /etc/wva/config.yaml`.
    pub(super) name: Arc<str>,
    /// Its text, or its texts by data key.
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Text(String),
    Data(BTreeMap<String, String>),
}

impl Document {
    /// A file with its text.
    pub fn file(path: &Path, text: impl Into<String>) -> Self {
        Self { name: format!("file {}", path.display()).into(), body: Body::Text(text.into()) }
    }

    /// A directory a ConfigMap is mounted at: its files by name.
    pub fn directory(path: &Path, data: BTreeMap<String, String>) -> Self {
        Self { name: format!("directory {}", path.display()).into(), body: Body::Data(data) }
    }

    /// A ConfigMap with its data.
    pub fn config_map(namespace: &str, name: &str, data: BTreeMap<String, String>) -> Self {
        Self { name: format!("ConfigMap {namespace}/{name}").into(), body: Body::Data(data) }
    }
}

impl Layer {
    /// Reads a document in our own schema: a file, or a ConfigMap whose data key `config.yaml` holds it.
    pub fn from_document(document: &Document) -> Self {
        let mut reader = Reader { layer: Self::new(Rank::Document), document: document.name.clone() };
        match &document.body {
            Body::Text(text) => reader.text(text),
            Body::Data(data) => reader.data(data),
        }
        reader.layer
    }
}

/// Reads nodes into a layer.
pub(super) struct Reader {
    pub(super) layer: Layer,
    pub(super) document: Arc<str>,
}

impl Reader {
    fn data(&mut self, data: &BTreeMap<String, String>) {
        let whole = self.document.clone();
        for name in data.keys().filter(|name| *name != CONFIG_MAP_KEY) {
            let nearest = nearest(name, [CONFIG_MAP_KEY].into_iter());
            let given_by = Source::Document { document: whole.clone(), line: 1 };
            self.layer.errors.push(ConfigError::UnknownKey { key: format!("data key {name}"), given_by, nearest });
        }
        match data.get(CONFIG_MAP_KEY) {
            Some(text) => {
                self.document = format!("{whole} key {CONFIG_MAP_KEY}").into();
                self.text(text);
            }
            None => self.fail(format!("it has no data key {CONFIG_MAP_KEY}")),
        }
    }

    fn text(&mut self, text: &str) {
        match yaml::parse(text) {
            Ok(Node { content: Content::Map(entries), .. }) => self.section("", &entries),
            Ok(_) => self.fail("it must be a mapping of configuration keys".to_owned()),
            Err(message) => self.fail(message),
        }
    }

    fn section(&mut self, section: &str, entries: &[(String, u64, Node)]) {
        for (key, line, node) in entries {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            if path == keys::HEADERS {
                self.headers(node);
            } else if path == keys::ENGINES {
                self.engines(node);
            } else if path == keys::MODELS {
                self.models(node);
            } else if path == service_classes::SECTION {
                self.service_classes(node);
            } else if path == profiles::SECTION {
                self.profiles(node);
            } else if let Some(row) = keys::find(&path) {
                if let Some(text) = self.scalar(row, &path, node) {
                    self.layer.set(row, text, self.at(*line));
                }
            } else if is_section(&path) {
                if let Some(entries) = self.mapping(&path, node) {
                    self.section(&path, entries);
                }
            } else {
                self.unknown(path, key, *line);
            }
        }
    }

    pub(super) fn unknown(&mut self, path: String, key: &str, line: u64) {
        let given_by = self.at(line);
        self.layer.errors.push(if upstream::is_unsupported(key) {
            ConfigError::UnsupportedKey { key: path, given_by }
        } else {
            ConfigError::UnknownKey { nearest: nearest_path(&path), key: path, given_by }
        });
    }

    fn headers(&mut self, node: &Node) {
        let Some(entries) = self.mapping(keys::HEADERS, node) else { return };
        for (name, line, node) in entries {
            match &node.content {
                Content::Text(text) | Content::Plain(text) => {
                    let entry = Entry { text: text.clone(), given_by: self.at(*line) };
                    self.layer.headers.insert(name.to_lowercase(), entry);
                }
                _ => self.reject(format!("{}.{name}", keys::HEADERS), "not a text", *line, "it must be a text"),
            }
        }
    }

    fn engines(&mut self, node: &Node) {
        let Some(engines) = self.mapping(keys::ENGINES, node) else { return };
        for (name, _, node) in engines {
            let path = format!("{}.{name}", keys::ENGINES);
            let Some(entries) = self.mapping(&path, node) else { continue };
            for (key, line, node) in entries {
                if let Err(nearest) = engines::known_key(key) {
                    let given_by = self.at(*line);
                    self.layer.errors.push(ConfigError::UnknownKey { key: format!("{path}.{key}"), given_by, nearest });
                } else if let Some(text) = self.name(&format!("{path}.{key}"), node) {
                    self.layer.engines.insert(format!("{name}.{key}"), Entry { text, given_by: self.at(*line) });
                }
            }
        }
    }

    fn models(&mut self, node: &Node) {
        match &node.content {
            Content::Empty => {}
            Content::List(models) => models.iter().for_each(|model| self.model(model)),
            _ => self.reject(keys::MODELS, "not a list", node.line, "it must be a list of entries with a modelID"),
        }
    }

    fn model(&mut self, node: &Node) {
        let Some(entries) = self.mapping(keys::MODELS, node) else { return };
        let mut model_id = None;
        let mut namespace = None;
        let mut sections = Vec::new();
        for (key, line, node) in entries {
            match key.as_str() {
                "modelID" => model_id = self.name("models.modelID", node),
                "namespace" => namespace = self.name("models.namespace", node),
                keys::SATURATION | keys::SCALE_TO_ZERO | keys::OVERRIDES => {
                    if let Some(entries) = self.mapping(&format!("models.{key}"), node) {
                        sections.push((key.as_str(), entries));
                    }
                }
                _ => {
                    let known = ["modelID", "namespace", keys::SATURATION, keys::SCALE_TO_ZERO, keys::OVERRIDES];
                    let nearest = nearest(key, known.into_iter());
                    let given_by = self.at(*line);
                    self.layer.errors.push(ConfigError::UnknownKey { key: format!("models.{key}"), given_by, nearest });
                }
            }
        }
        let Some(model_id) = model_id else {
            return self.reject("models.modelID", "missing", node.line, "each entry of models needs it");
        };
        if let Some(rule) = namespace.as_deref().and_then(|namespace| kinds::namespace(namespace).err()) {
            self.reject("models.namespace", "not a name", node.line, &rule);
        }
        let selector = ModelSelector { model_id: model_id.into(), namespace: namespace.map(Into::into) };
        if self.layer.models.contains_key(&selector) {
            return self.reject(selector.to_string(), "given twice", node.line, "one entry per model is enough");
        }
        self.layer.models.entry(selector.clone()).or_default();
        for (section, entries) in sections {
            self.model_section(&selector, section, entries);
        }
    }

    fn model_section(&mut self, selector: &ModelSelector, section: &str, entries: &[(String, u64, Node)]) {
        for (key, line, node) in entries {
            let path = format!("{section}.{key}");
            match keys::find(&path) {
                Some(row) => {
                    if let Some(text) = self.scalar(row, &format!("{selector}.{path}"), node) {
                        self.layer.set_for_model(selector, row, text, self.at(*line));
                    }
                }
                None => self.unknown(path, key, *line),
            }
        }
    }

    /// A non-empty text that names something.
    pub(super) fn name(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.content {
            Content::Text(text) if !text.is_empty() => Some(text.clone()),
            Content::Plain(text) => {
                self.reject(key, text, node.line, "it must be a text: put it in quotes");
                None
            }
            _ => {
                self.reject(key, "not a name", node.line, "it must be a text that is not empty");
                None
            }
        }
    }

    /// The text of a scalar that `row` may be given in a document.
    pub(super) fn scalar(&mut self, row: &'static Row, key: &str, node: &Node) -> Option<String> {
        if row.spec().environment_only {
            let rule = format!("it can only be set in the environment, as {}", row.variable);
            self.reject(key, "(hidden)", node.line, &rule);
            return None;
        }
        match &node.content {
            Content::List(_) if row.key.form() == Form::List => Some(node.to_json().to_string()),
            Content::Plain(text) if row.key.form() != Form::Plain => {
                self.reject(key, text, node.line, "it must be a text: put it in quotes");
                None
            }
            Content::Text(text) | Content::Plain(text) => Some(text.clone()),
            Content::Empty => {
                self.reject(key, "empty", node.line, "it needs a value; remove the key to leave it at its default");
                None
            }
            Content::List(_) | Content::Map(_) => {
                self.reject(key, "not a single value", node.line, &format!("it must be a {}", row.key.kind_name()));
                None
            }
        }
    }

    pub(super) fn mapping<'a>(&mut self, key: &str, node: &'a Node) -> Option<&'a [(String, u64, Node)]> {
        match &node.content {
            Content::Map(entries) => Some(entries),
            Content::Empty => None,
            _ => {
                self.reject(key, "not a mapping", node.line, "it must be a mapping of keys to values");
                None
            }
        }
    }

    pub(super) fn reject(&mut self, key: impl Into<String>, value: &str, line: u64, rule: &str) {
        let error = ConfigError::invalid(key, value, &self.at(line), rule);
        self.layer.errors.push(error);
    }

    pub(super) fn fail(&mut self, message: String) {
        self.layer.errors.push(ConfigError::Document { document: self.document.to_string(), message });
    }

    pub(super) fn at(&self, line: u64) -> Source {
        Source::Document { document: self.document.clone(), line }
    }
}

fn is_section(path: &str) -> bool {
    keys::table().iter().any(|row| row.spec().path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}
