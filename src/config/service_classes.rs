//! The section `serviceClasses`: what requests of which models are owed. Documents only.
//!
//! Upstream's spelling (`data`, `model`, `slo-ttft`, `slo-tpot`, `slo-tps`, milliseconds without a unit) is understood too.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    ConfigError, ModelSelector,
    document::Reader,
    kinds,
    layer::nearest,
    yaml::{Content, Node},
};
use crate::interfaces::{ModelKey, ServiceObjective};

pub(super) const SECTION: &str = "serviceClasses";
/// Models that no class names.
const DEFAULT_MODEL: &str = "default";
/// Upstream's spelling of it.
const UPSTREAM_DEFAULT_MODEL: &str = "default/default";
const CLASS_KEYS: [&str; 6] = ["name", "priority", "default", "targetShare", "models", "data"];
const MODEL_KEYS: [&str; 11] = [
    "modelID",
    "model",
    "namespace",
    "timeToFirstToken",
    "interTokenLatency",
    "tokensPerSecond",
    "targetShare",
    "slo-ttft",
    "slo-tpot",
    "slo-itl",
    "slo-tps",
];
const RATE_RULE: &str = "it must be a number of tokens per second from 0 to 1e9";
/// Share of requests that must meet the targets where a class does not say.
const DEFAULT_SHARE: f64 = 0.99;

/// Objectives of all service classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ServiceClasses {
    classes: Vec<ServiceClass>,
}

/// One service class.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceClass {
    name: Arc<str>,
    priority: u32,
    /// Whether models that no class names are of this one.
    default: bool,
    #[serde(skip)]
    objectives: BTreeMap<ModelSelector, Arc<ServiceObjective>>,
    models: Vec<ModelObjective>,
}

/// An objective as the resolved view shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelObjective {
    #[serde(rename = "modelID")]
    model_id: Arc<str>,
    namespace: Option<Arc<str>>,
    objective: Arc<ServiceObjective>,
}

impl ServiceClasses {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// What requests of `model` are owed: by the class that names it in its namespace, else by the one that names it in
    /// all, else by the `default` model of the default class. Of several classes the most important one counts.
    pub fn objective_of(&self, model: &ModelKey) -> Option<&Arc<ServiceObjective>> {
        let named = |namespace: Option<&Arc<str>>| {
            let selector = ModelSelector { model_id: model.model_id.clone(), namespace: namespace.cloned() };
            self.classes.iter().find_map(|class| class.objectives.get(&selector))
        };
        let by_default = || {
            let selector = ModelSelector { model_id: DEFAULT_MODEL.into(), namespace: None };
            self.classes.iter().find(|class| class.default)?.objectives.get(&selector)
        };
        named(Some(&model.namespace)).or_else(|| named(None)).or_else(by_default)
    }
}

impl Reader {
    /// Reads the section.
    pub(super) fn service_classes(&mut self, node: &Node) {
        let classes = match &node.content {
            Content::Empty => return,
            Content::List(classes) => classes,
            _ => return self.reject(SECTION, "not a list", node.line, "it must be a list of classes with a name"),
        };
        let mut read: Vec<ServiceClass> = Vec::new();
        for node in classes {
            let Some(class) = self.service_class(node) else { continue };
            if read.iter().any(|other| other.name == class.name) {
                self.reject(format!("{SECTION}[{}]", class.name), "given twice", node.line, "each name is used once");
            } else if class.default && read.iter().any(|other| other.default) {
                let rule = "another class is the default already; keep one";
                self.reject(format!("{SECTION}[{}].default", class.name), "true", node.line, rule);
            } else {
                read.push(class);
            }
        }
        read.sort_by_key(|class| class.priority);
        self.layer.service_classes = ServiceClasses { classes: read };
    }

    fn service_class(&mut self, node: &Node) -> Option<ServiceClass> {
        let entries = self.mapping(SECTION, node)?;
        let Some(name) = field(entries, "name").and_then(|node| self.name("serviceClasses.name", node)) else {
            self.reject("serviceClasses.name", "missing", node.line, "each class needs it");
            return None;
        };
        let path = format!("{SECTION}[{name}]");
        self.only(&path, entries, &CLASS_KEYS);
        let whole = "it must be a whole number from 1 (most important) to 100";
        let priority = self.number(&path, entries, "priority", (1.0, 100.0), whole);
        let share = self.share(&path, entries);
        let default =
            field(entries, "default").and_then(|node| self.parsed(&format!("{path}.default"), node, &kinds::SWITCH));
        let mut given = BTreeMap::new();
        for key in ["models", "data"] {
            match field(entries, key).map(|node| (node.line, &node.content)) {
                None | Some((_, Content::Empty)) => {}
                Some((_, Content::List(models))) => {
                    for node in models {
                        self.targets(&path, node, &mut given);
                    }
                }
                Some((line, _)) => {
                    self.reject(format!("{path}.{key}"), "not a list", line, "it must be a list of models");
                }
            }
        }
        let class = Class {
            name: name.as_str().into(),
            priority: priority.unwrap_or(100.0).round() as u32,
            share: share.unwrap_or(DEFAULT_SHARE),
        };
        let objectives: BTreeMap<_, _> =
            given.keys().map(|selector| (selector.clone(), Arc::new(class.objective(selector, &given)))).collect();
        let shown = |(selector, objective): (&ModelSelector, &Arc<ServiceObjective>)| ModelObjective {
            model_id: selector.model_id.clone(),
            namespace: selector.namespace.clone(),
            objective: objective.clone(),
        };
        let models = objectives.iter().map(shown).collect();
        Some(ServiceClass {
            name: class.name,
            priority: class.priority,
            default: default.unwrap_or(false),
            objectives,
            models,
        })
    }

    /// Reads what one entry says of its model.
    fn targets(&mut self, path: &str, node: &Node, given: &mut BTreeMap<ModelSelector, Targets>) {
        let Some(entries) = self.mapping(&format!("{path}.models"), node) else { return };
        let named = field(entries, "modelID").or_else(|| field(entries, "model"));
        let Some(model_id) = named.and_then(|node| self.name(&format!("{path}.models.modelID"), node)) else {
            return self.reject(format!("{path}.models.modelID"), "missing", node.line, "each entry needs it");
        };
        let model_id = if model_id == UPSTREAM_DEFAULT_MODEL { DEFAULT_MODEL } else { &model_id };
        let namespace =
            field(entries, "namespace").and_then(|node| self.name(&format!("{path}.models.namespace"), node));
        let selector = ModelSelector { model_id: model_id.into(), namespace: namespace.map(Into::into) };
        let path = format!("{path}.{selector}");
        self.only(&path, entries, &MODEL_KEYS);
        let targets = Targets {
            time_to_first_token: self.latency(&path, entries, "timeToFirstToken", &["slo-ttft"]),
            inter_token_latency: self.latency(&path, entries, "interTokenLatency", &["slo-tpot", "slo-itl"]),
            tokens_per_second: self.target(&path, entries, &["tokensPerSecond", "slo-tps"], (0.0, 1e9), RATE_RULE),
            share: self.share(&path, entries),
        };
        if given.insert(selector, targets).is_some() {
            self.reject(path, "given twice", node.line, "one entry per model is enough");
        }
    }

    /// A latency in seconds: a duration, or upstream's number of milliseconds.
    fn latency(&mut self, path: &str, entries: &[(String, u64, Node)], ours: &str, upstreams: &[&str]) -> Given {
        let Some(node) = field(entries, ours) else {
            let rule = "it must be a number of milliseconds from 0 to 1e7";
            let found = self.target(path, entries, upstreams, (0.0, 1e7), rule)?;
            return Some(found.map(|milliseconds| milliseconds / 1000.0));
        };
        if is_none(node) {
            return Some(None);
        }
        let duration = self.parsed(&format!("{path}.{ours}"), node, &kinds::DURATION)?;
        Some(Some(duration.as_secs_f64()))
    }

    /// A number by whichever of `keys` is given; 0 and `none` are no target.
    fn target(
        &mut self,
        path: &str,
        entries: &[(String, u64, Node)],
        keys: &[&str],
        range: (f64, f64),
        rule: &str,
    ) -> Given {
        let key = keys.iter().find(|key| field(entries, key).is_some())?;
        if field(entries, key).is_some_and(is_none) {
            return Some(None);
        }
        let number = self.number(path, entries, key, range, rule)?;
        Some(Some(number).filter(|number| *number > 0.0))
    }

    fn share(&mut self, path: &str, entries: &[(String, u64, Node)]) -> Option<f64> {
        let node = field(entries, "targetShare")?;
        let key = format!("{path}.targetShare");
        let share = self.parsed(&key, node, &kinds::THRESHOLD)?;
        if share >= 1.0 {
            self.reject(key, "100%", node.line, "it must be below 100 %: no queue keeps every request within a bound");
            return None;
        }
        Some(share)
    }
}

/// A target as an entry gives it: not at all, as none, or as a number.
type Given = Option<Option<f64>>;

/// What one entry says; what it leaves out, it inherits.
#[derive(Clone, Copy, Debug, Default)]
struct Targets {
    time_to_first_token: Given,
    inter_token_latency: Given,
    tokens_per_second: Given,
    share: Option<f64>,
}

/// What the objectives of one class share.
struct Class {
    name: Arc<str>,
    priority: u32,
    share: f64,
}

impl Class {
    /// The objective of `selector`, key by key: as its entry says, else the entry of its model in any namespace, else
    /// that of the class's `default` model.
    fn objective(&self, selector: &ModelSelector, given: &BTreeMap<ModelSelector, Targets>) -> ServiceObjective {
        let any_namespace = ModelSelector { namespace: None, ..selector.clone() };
        let default = ModelSelector { model_id: DEFAULT_MODEL.into(), namespace: None };
        let chain =
            [selector, &any_namespace, &default].map(|selector| given.get(selector).copied().unwrap_or_default());
        let first = |key: fn(&Targets) -> Given| chain.iter().find_map(key).flatten();
        ServiceObjective {
            class: self.name.clone(),
            priority: self.priority,
            time_to_first_token: first(|targets| targets.time_to_first_token),
            inter_token_latency: first(|targets| targets.inter_token_latency),
            tokens_per_second: first(|targets| targets.tokens_per_second),
            target_share: chain.iter().find_map(|targets| targets.share).unwrap_or(self.share),
        }
    }
}

/// Whether an inherited target is taken back.
fn is_none(node: &Node) -> bool {
    matches!(&node.content, Content::Text(text) | Content::Plain(text) if text == "none")
}

impl Reader {
    /// Reports keys that are not among `known`.
    pub(super) fn only(&mut self, path: &str, entries: &[(String, u64, Node)], known: &[&str]) {
        for (key, line, _) in entries.iter().filter(|(key, ..)| !known.contains(&key.as_str())) {
            let given_by = self.at(*line);
            let nearest = nearest(key, known.iter().copied()).map(|nearest| format!("{path}.{nearest}"));
            self.layer.errors.push(ConfigError::UnknownKey { key: format!("{path}.{key}"), given_by, nearest });
        }
    }

    /// A number of the entries, if it is given and within `range`.
    pub(super) fn number(
        &mut self,
        path: &str,
        entries: &[(String, u64, Node)],
        key: &str,
        (least, most): (f64, f64),
        rule: &str,
    ) -> Option<f64> {
        let node = field(entries, key)?;
        let text = match &node.content {
            Content::Text(text) | Content::Plain(text) => text.as_str(),
            _ => "not a number",
        };
        match text.parse::<f64>() {
            Ok(number) if number >= least && number <= most => Some(number),
            _ => {
                self.reject(format!("{path}.{key}"), text, node.line, rule);
                None
            }
        }
    }

    fn parsed<T>(&mut self, key: &str, node: &Node, kind: &kinds::Kind<T>) -> Option<T> {
        let text = match &node.content {
            Content::Text(text) | Content::Plain(text) => text.as_str(),
            _ => "",
        };
        (kind.parse)(text).map_err(|rule| self.reject(key, text, node.line, &rule)).ok()
    }
}

/// The value of a key.
pub(super) fn field<'a>(entries: &'a [(String, u64, Node)], key: &str) -> Option<&'a Node> {
    entries.iter().find(|(name, ..)| name == key).map(|(.., node)| node)
}
