//! Logs: text for people, coloured only on a terminal, or JSON, one object a line.

use std::{env, io, io::IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, LoggingSettings, log_targets};

/// Why logging could not be set up or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The level does not parse.
    #[error("logging.level {level} is not usable: {message}")]
    Level {
        /// The level.
        level: String,
        /// What the parser said.
        message: String,
    },
    /// Someone set up logging before.
    #[error("logging is set up already; set it up once per process")]
    AlreadySetUp,
}

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LoggingHandle(reload::Handle<Targets, Registry>);

impl LoggingHandle {
    /// Logs at this level from now on: a level, or directives of [`Targets`].
    ///
    /// # Errors
    /// When it does not parse; the level stays.
    pub fn set_level(&self, level: &str) -> Result<(), LoggingError> {
        let filter = filter(level)?;
        // The only failure is that the subscriber is gone, and with it whatever could be logged.
        let _ = self.0.reload(filter);
        Ok(())
    }
}

/// Sends the logs of this process to standard error.
///
/// # Errors
/// When the level does not parse, or logging is set up already.
pub fn init_logging(config: &LoggingSettings) -> Result<LoggingHandle, LoggingError> {
    // https://no-color.org
    let colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (subscriber, handle) = subscriber(config, io::stderr, colours && io::stderr().is_terminal())?;
    subscriber.try_init().map_err(|_| LoggingError::AlreadySetUp)?;
    Ok(handle)
}

fn subscriber<W>(
    config: &LoggingSettings,
    writer: W,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync, LoggingHandle), LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let lines = lines(config.format, writer, colours);
    Ok((tracing_subscriber::registry().with(filter).with(lines), LoggingHandle(handle)))
}

fn lines<S, W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

/// While kube-apiserver is away, kube's own layers log each attempt, several a second, and without saying of what. Whoever
/// asked logs the same once, with the object and the remedy. Other levels, and directives, are taken as they are.
const TOLD_BY_US: &str = ",kube_client::client=off,kube_runtime::watcher=off";

fn filter(level: &str) -> Result<Targets, LoggingError> {
    let is_told_by_us = ["warn", "info"].iter().any(|bare| level.trim().eq_ignore_ascii_case(bare));
    let directives = if is_told_by_us { format!("{level}{TOLD_BY_US}") } else { level.to_owned() };
    log_targets(&directives).map_err(|message| LoggingError::Level { level: level.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{CorrelationId, testing::Buffer};

    fn logged(format: LogFormat, log: impl FnOnce(&LoggingHandle)) -> Vec<String> {
        let buffer = Buffer::default();
        let config = LoggingSettings { level: "warn".into(), format };
        let (subscriber, handle) = subscriber(&config, buffer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || log(&handle));
        buffer.lines()
    }

    #[test]
    fn a_json_line_holds_message_fields_and_correlation_id() {
        let lines = logged(LogFormat::Json, |_| {
            let id = CorrelationId::from_header("abc").unwrap();
            id.span("cycle").in_scope(|| tracing::warn!(variant = "llama-h100", "withheld"));
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["message"], "withheld");
        assert_eq!(line["variant"], "llama-h100");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["spans"][0]["correlation_id"], "abc");
    }

    #[test]
    fn attempts_of_the_kubernetes_client_are_left_to_whoever_asked_unless_directives_say_otherwise() {
        let told = |level: &str| {
            let lines = logged(LogFormat::Text, |handle| {
                handle.set_level(level).unwrap();
                tracing::error!(target: "kube_client::client::builder", "failed");
                tracing::warn!("ours");
            });
            lines.len()
        };
        assert_eq!([told("info"), told("WARN"), told("debug"), told("info,wva=debug")], [1, 1, 2, 2]);
    }

    #[test]
    fn a_text_line_has_no_colours_unless_asked_for() {
        let lines = logged(LogFormat::Text, |_| tracing::warn!("withheld"));
        assert!(lines[0].contains("WARN") && lines[0].contains("withheld"), "{lines:?}");
        assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
    }

    #[test]
    fn the_level_changes_while_running_and_survives_nonsense() {
        let lines = logged(LogFormat::Text, |handle| {
            tracing::info!("before");
            handle.set_level("info").unwrap();
            tracing::info!("after");
            for nonsense in ["wva=nonsense", " Σ="] {
                assert!(matches!(handle.set_level(nonsense), Err(LoggingError::Level { .. })), "{nonsense}");
            }
            tracing::info!("still");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("after") && lines[1].contains("still"), "{lines:?}");
    }
}
