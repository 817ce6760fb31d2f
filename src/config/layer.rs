//! Layers: what one flag set, one environment or one document says, unresolved. Each names only the keys it sets.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    ConfigError, ModelSelector, Profiles, ServiceClasses,
    keys::{self, Row},
    kinds::Form,
    profiles, service_classes,
};

/// Keys and values from one place. Faults found while reading it are kept, so that resolving reports all at once.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) rank: Rank,
    pub(super) values: Entries,
    pub(super) headers: Entries,
    /// Engines by `name.key`.
    pub(super) engines: Entries,
    pub(super) models: BTreeMap<ModelSelector, Entries>,
    pub(super) service_classes: ServiceClasses,
    pub(super) profiles: Profiles,
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
}

/// Values by key path (by name, for headers).
pub(super) type Entries = BTreeMap<String, Entry>;

/// One value as its layer spelled it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) given_by: Source,
}

impl fmt::Debug for Entry {
    /// Without the text, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("given_by", &self.given_by).finish_non_exhaustive()
    }
}

/// Order of layers; a later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Upstream's saturation document: what is written for wva itself goes before it.
    UpstreamDocument,
    Document,
    Environment,
    Flags,
    /// Values of keys that need a restart, as the process runs with them.
    Running,
}

/// Who gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This flag, with its dashes.
    Flag(Arc<str>),
    /// This environment variable.
    Environment(Arc<str>),
    /// A document, such as `file /etc/wva/config.yaml`, and the line in it.
    Document {
        /// The document.
        document: Arc<str>,
        /// The line, counted from 1.
        line: u64,
    },
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Document { document, line } => write!(f, "{document} line {line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Layer {
    pub(super) fn new(rank: Rank) -> Self {
        Self {
            rank,
            values: Entries::new(),
            headers: Entries::new(),
            engines: Entries::new(),
            models: BTreeMap::new(),
            service_classes: ServiceClasses::default(),
            profiles: Profiles::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The namespace of this process as flags and environment give it, for
    /// [`ConfigLocations::locations`](super::ConfigLocations::locations), which is needed before all else is resolved.
    pub fn pod_namespace(layers: &[Self]) -> Option<&str> {
        let given = |layer: &&Self| layer.values.contains_key(keys::POD_NAMESPACE_PATH);
        let highest = layers.iter().filter(given).max_by_key(|layer| layer.rank)?;
        Some(highest.values[keys::POD_NAMESPACE_PATH].text.as_str()).filter(|namespace| !namespace.is_empty())
    }

    /// Sets a key of the layer itself.
    pub(super) fn set(&mut self, row: &'static Row, text: String, given_by: Source) {
        set(&mut self.values, &mut self.errors, row, Entry { text, given_by });
    }

    /// Sets a saturation key of one model.
    pub(super) fn set_for_model(&mut self, model: &ModelSelector, row: &'static Row, text: String, given_by: Source) {
        let entries = self.models.entry(model.clone()).or_default();
        set(entries, &mut self.errors, row, Entry { text, given_by });
    }
}

/// Two names of one key may both be given as long as they agree.
fn set(entries: &mut Entries, errors: &mut Vec<ConfigError>, row: &'static Row, entry: Entry) {
    match entries.get(row.spec().path) {
        Some(present) if present.text != entry.text => errors.push(ConfigError::GivenTwice {
            key: row.spec().path.to_owned(),
            first: present.given_by.clone(),
            second: entry.given_by,
        }),
        Some(_) => {}
        None => {
            entries.insert(row.spec().path.to_owned(), entry);
        }
    }
}

/// A value for messages: secrets and credentials in URLs are left out.
pub(super) fn quotable(text: &str, form: Form) -> String {
    if form == Form::Secret {
        return "(hidden)".to_owned();
    }
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &text[..scheme], &text[at..]),
        _ => text.to_owned(),
    }
}

/// The name of `names` that `given` resembles most, if it resembles any.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    /// Below this similarity a suggestion confuses more than it helps.
    const SIMILAR: f64 = 0.85;
    let given = given.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.to_owned())
}

/// The YAML path that `path` resembles most: by the whole path, else by the last part alone.
pub(super) fn nearest_path(path: &str) -> Option<String> {
    let paths = || {
        keys::table().iter().map(|row| row.spec().path).chain([
            keys::HEADERS,
            keys::ENGINES,
            keys::MODELS,
            service_classes::SECTION,
            profiles::SECTION,
        ])
    };
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let given_last = path.rsplit('.').next().unwrap_or(path);
    let section = path.strip_suffix(given_last).unwrap_or_default();
    let sibling = nearest(given_last, paths().filter(|path| path.strip_suffix(last(path)) == Some(section)).map(last));
    sibling.map(|sibling| format!("{section}{sibling}")).or_else(|| nearest(path, paths())).or_else(|| {
        let name = nearest(given_last, paths().map(last))?;
        paths().find(|path| last(path) == name).map(ToOwned::to_owned)
    })
}
