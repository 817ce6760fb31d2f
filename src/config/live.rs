//! The configuration of a running process: what is in force, and what became of the last reload.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use super::{Config, ConfigErrors, Document, Layer, Resolved, ResolvedView, keys, layer::Rank};
use crate::clock::Clock;

/// The documents that configuration is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// In our own schema.
    pub own: Option<Document>,
    /// In upstream's saturation schema.
    pub upstream: Option<Document>,
}

impl Documents {
    fn layers(&self) -> impl Iterator<Item = Layer> {
        let own = self.own.as_ref().map(Layer::from_document);
        own.into_iter().chain(self.upstream.as_ref().map(Layer::from_upstream_document))
    }
}

/// The configuration in force, replaced as documents change.
///
/// A bad document leaves it as it is and shows in [`LiveConfig::status`]. A key that needs a restart keeps the value the
/// process started with, and shows there too.
#[derive(Debug)]
pub struct LiveConfig {
    /// Flags and environment.
    fixed: Vec<Layer>,
    /// What the process started with.
    started: Resolved,
    active: ArcSwap<Resolved>,
    status: ArcSwap<ReloadStatus>,
    generation: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    /// Held while reloading, so that two reloads cannot overtake each other.
    reloading: Mutex<()>,
}

/// What became of reloading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadStatus {
    /// Counts the changes of the configuration in force.
    pub generation: u64,
    /// When documents were last read and accepted.
    pub last_success: Timestamp,
    /// Why the newest documents are not in force, and since when; `None` while they are.
    pub last_error: Option<ReloadError>,
    /// Keys whose configured value waits for a restart.
    pub restart_needed: Vec<RestartNeeded>,
}

/// A reload that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadError {
    /// When it was first seen.
    pub at: Timestamp,
    /// What is wrong, with keys and places.
    pub message: String,
}

/// A key whose configured value waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartNeeded {
    /// The key.
    pub key: String,
    /// Value in force; `None` where there is none.
    pub running: Option<String>,
    /// Value after a restart; `None` where there is none.
    pub configured: Option<String>,
    /// Who gave the configured value.
    pub source: String,
}

impl LiveConfig {
    /// Resolves the configuration a process starts with. `fixed` are its flags and environment.
    ///
    /// # Errors
    /// Everything that is wrong with it: at start there is no last good one to fall back on.
    pub fn start(fixed: Vec<Layer>, documents: &Documents, clock: Arc<dyn Clock>) -> Result<Self, ConfigErrors> {
        let resolved = Config::resolve(&with_documents(&fixed, documents))?;
        let status =
            ReloadStatus { generation: 0, last_success: clock.now(), last_error: None, restart_needed: Vec::new() };
        Ok(Self {
            fixed,
            started: resolved.clone(),
            active: ArcSwap::from_pointee(resolved),
            status: ArcSwap::from_pointee(status),
            generation: watch::Sender::new(0),
            clock,
            reloading: Mutex::new(()),
        })
    }

    /// Logs settings without effect and remarks such as that a value is insecure. For after logging is set up, which
    /// itself needs the configuration.
    pub fn log_remarks(&self) {
        let view = self.view();
        log_warnings(&view.warnings);
        for (key, value) in &view.values {
            if let Some(note) = &value.note {
                tracing::warn!(key, source = value.source, "{note}");
            }
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.active.load().config.clone()
    }

    /// The configuration in force for people.
    pub fn view(&self) -> Arc<ResolvedView> {
        self.active.load().view.clone()
    }

    /// What became of reloading.
    pub fn status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }

    /// Wakes whenever another configuration is in force; the value is its generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Puts new documents in force. Returns whether the configuration changed.
    ///
    /// # Errors
    /// Everything that is wrong with them; the configuration in force stays.
    pub fn reload(&self, documents: &Documents) -> Result<bool, ConfigErrors> {
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match self.resolve(documents) {
            Ok((resolved, restart_needed)) => Ok(self.accept(resolved, restart_needed)),
            Err(errors) => {
                self.record_error(&errors.to_string());
                Err(errors)
            }
        }
    }

    /// Records that the documents cannot be read; the configuration in force stays.
    pub fn reload_failed(&self, message: &str) {
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        self.record_error(message);
    }

    /// The new configuration with the running values of keys that need a restart, and those keys.
    fn resolve(&self, documents: &Documents) -> Result<(Resolved, Vec<RestartNeeded>), ConfigErrors> {
        let mut layers = with_documents(&self.fixed, documents);
        let configured = Config::resolve(&layers)?;
        let restart_needed = self.restart_needed(&configured);
        if restart_needed.is_empty() {
            return Ok((configured, restart_needed));
        }
        let mut running = Layer::new(Rank::Running);
        for row in keys::table() {
            if restart_needed.iter().any(|waiting| waiting.key == row.spec().path) {
                let entry = self.started.winners[row.spec().path].clone();
                running.set(row, entry.text, entry.given_by);
            }
        }
        layers.push(running);
        let mut resolved = Config::resolve(&layers)?;
        self.keep_maps(&mut resolved);
        let view = Arc::make_mut(&mut resolved.view);
        for waiting in &restart_needed {
            if let Some(value) = view.values.get_mut(&waiting.key) {
                let configured = waiting.configured.as_deref().unwrap_or("unset");
                value.note = Some(format!("restart needed: {configured} ({}) is configured", waiting.source));
            }
        }
        Ok((resolved, restart_needed))
    }

    fn restart_needed(&self, configured: &Resolved) -> Vec<RestartNeeded> {
        let differs = |path: &str| {
            let (running, configured) = (&self.started.view.values[path], &configured.view.values[path]);
            (running.value != configured.value).then(|| RestartNeeded {
                key: path.to_owned(),
                running: running.value.clone(),
                configured: configured.value.clone(),
                source: configured.source.clone(),
            })
        };
        let rows = keys::table().iter().filter(|row| row.spec().needs_restart);
        let mut waiting: Vec<_> = rows.filter_map(|row| differs(row.spec().path)).collect();
        if self.started.config.prometheus.headers != configured.config.prometheus.headers {
            let names = |resolved: &Resolved| {
                let names: Vec<_> = resolved.config.prometheus.headers.keys().cloned().collect();
                (!names.is_empty()).then(|| names.join(", "))
            };
            waiting.push(RestartNeeded {
                key: keys::HEADERS.to_owned(),
                running: names(&self.started),
                configured: names(configured),
                source: "document".to_owned(),
            });
        }
        if self.started.config.collector.engines != configured.config.collector.engines {
            let names = |resolved: &Resolved| {
                let names: Vec<_> = resolved.config.collector.engines.iter().map(|engine| &*engine.name).collect();
                (!names.is_empty()).then(|| names.join(", "))
            };
            waiting.push(RestartNeeded {
                key: keys::ENGINES.to_owned(),
                running: names(&self.started),
                configured: names(configured),
                source: "document".to_owned(),
            });
        }
        waiting
    }

    /// Headers and engines are maps, not keys: they are kept as a whole.
    fn keep_maps(&self, resolved: &mut Resolved) {
        let is_kept = |path: &str| {
            [keys::HEADERS, keys::ENGINES]
                .iter()
                .any(|map| path.strip_prefix(map).is_some_and(|rest| rest.starts_with('.')))
        };
        let config = Arc::make_mut(&mut resolved.config);
        config.prometheus.headers = self.started.config.prometheus.headers.clone();
        config.collector.engines.clone_from(&self.started.config.collector.engines);
        let values = &mut Arc::make_mut(&mut resolved.view).values;
        values.retain(|path, _| !is_kept(path));
        let started = self.started.view.values.iter().filter(|(path, _)| is_kept(path));
        values.extend(started.map(|(path, value)| (path.clone(), value.clone())));
    }

    fn accept(&self, resolved: Resolved, restart_needed: Vec<RestartNeeded>) -> bool {
        let changed = self.active.load().config != resolved.config;
        let generation = self.status.load().generation + u64::from(changed);
        if changed {
            tracing::info!(generation, "another configuration is in force");
        }
        if self.view().warnings != resolved.view.warnings {
            log_warnings(&resolved.view.warnings);
        }
        if !restart_needed.is_empty() && self.status.load().restart_needed != restart_needed {
            let keys: Vec<_> = restart_needed.iter().map(|waiting| waiting.key.as_str()).collect();
            tracing::warn!(keys = keys.join(", "), "configured values take effect after a restart");
        }
        self.active.store(Arc::new(resolved));
        let last_success = self.clock.now();
        self.status.store(Arc::new(ReloadStatus { generation, last_success, last_error: None, restart_needed }));
        if changed {
            self.generation.send_replace(generation);
        }
        changed
    }

    fn record_error(&self, message: &str) {
        let status = self.status();
        if status.last_error.as_ref().is_some_and(|error| error.message == message) {
            return;
        }
        tracing::error!(error = message, "the configuration stays as it is: the new one cannot be used");
        let last_error = Some(ReloadError { at: self.clock.now(), message: message.to_owned() });
        self.status.store(Arc::new(ReloadStatus { last_error, ..(*status).clone() }));
    }
}

fn with_documents(fixed: &[Layer], documents: &Documents) -> Vec<Layer> {
    fixed.iter().cloned().chain(documents.layers()).collect()
}

fn log_warnings(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
