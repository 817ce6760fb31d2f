//! Configuration: one typed schema, filled from partial layers.
//!
//! ```text
//!  flags ───────────┐
//!  environment ─────┼─► layers (text by key, with sources) ─► Config::resolve ─► Config + ResolvedView
//!  file, ConfigMap ─┤                                             │                     │
//!  upstream's map ──┘                                         ConfigErrors          LiveConfig ─► watchers
//! ```
//!
//! A key's names, kind, default and meaning stand in one table (`keys.rs`). A layer holds only what its place says; a key
//! not given is absent from it. Resolving takes, per key, the value of the highest layer that gives it: flags before the
//! environment before documents before the default. Per-model entries inherit key by key. Unknown keys and bad values are
//! errors that name the key and its place, and all of them are reported at once.

mod access;
mod checks;
mod document;
mod engines;
mod environment;
mod error;
mod flags;
mod keys;
mod kinds;
mod layer;
mod live;
mod locations;
mod profiles;
mod reference;
mod resolve;
mod schema;
mod service_classes;
mod upstream;
mod view;
mod watch;
mod yaml;

pub use access::{
    AuditFormat, AuditLogSettings, AuditSettings, AuditWebhookSettings, AuthenticationSettings, AuthorizationSettings,
    RequestHeaderSettings, SniCertificatePaths, TlsSettings, TlsVersion,
};
pub use document::Document;
pub use engines::{CustomEngine, CustomFamily, LabelValue};
pub use error::{ConfigError, ConfigErrors};
pub use flags::ConfigFlags;
pub use kinds::log_targets;
pub use layer::{Layer, Source};
pub use live::{Documents, LiveConfig, ReloadError, ReloadStatus, RestartNeeded};
pub use locations::{ConfigLocations, Location, Locations};
pub use profiles::Profiles;
pub use reference::reference_markdown;
pub use resolve::Resolved;
pub use schema::{
    ActuationSettings, Backend, BearerToken, CertificatePaths, CollectorSettings, Config, DelegationSettings,
    EngineSettings, Executor, GatewayAddress, GatewaySettings, KedaSettings, LeaderElectionSettings, LogFormat,
    LoggingSettings, ModelSelector, PrometheusSettings, RecordingLimits, RecordingSettings, Secret, ServerSettings,
    ServerTrust,
};
pub use service_classes::ServiceClasses;
pub use view::{ResolvedModel, ResolvedValue, ResolvedView};
pub use watch::{LoadError, load, watch};
