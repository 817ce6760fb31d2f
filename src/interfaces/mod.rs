//! The words of the product as types, and the contracts between its parts. Pure: no I/O, no clock, no async runtime.
//!
//! One sample's way through them:
//!
//! ```text
//! ReplicaMetrics ─► VariantObservation ─► Snapshot ─► step(State, Snapshot) ─► Decision
//!  (collector)        (snapshot)                        (engines)              (actuator, apiserver)
//! ```

mod analysis;
mod capacity;
mod collector;
mod config;
mod decision;
mod forecast;
mod identity;
mod inventory;
mod inventory_settings;
mod labels;
mod limits;
mod model;
mod objective;
mod overrides;
mod performance;
mod reading;
mod replica;
mod signal;
mod snapshot;
mod variant;

pub use analysis::{ModelSaturationAnalysis, SaturationAnalyzer, SignalAverages, VariantSaturationAnalysis};
pub use capacity::{
    CapacityCurve, CapacityPoint, CapacityQuestion, LengthShape, MissCurve, MissPoint, PoolMisses, ServiceTimes,
};
pub use collector::{
    CollectorError, MetricsCollector, PodDirectory, PodEndpoint, PodIdentity, ServedModel, SourceHealth,
};
pub use config::{
    ActuationMode, AgeLimits, EngineOptions, InvalidThreshold, SaturationScalingConfig, SpareTriggers, TokenThresholds,
    UpstreamVersion,
};
pub use decision::{
    Decision, Desired, Direction, EngineName, Growth, Limit, Outcome, Reason, SaturationLevel, VariantDecision,
    Withheld, WithheldKind,
};
pub use forecast::{DemandForecast, ExpectedDemand, ForecastMethod};
pub use identity::{ModelKey, VariantKey};
pub use inventory::{AcceleratorPool, AcceleratorProduct, AcceleratorQuota, Inventory};
pub use inventory_settings::{AcceleratorRule, ConfiguredQuota, InventorySettings, NodeGroupLimit};
pub use labels::{WireLabels, wire_labels};
pub use limits::{AcceleratorLimits, AcceleratorMode, SaturationPolicy};
pub use model::{LengthDistribution, ModelMetrics, ModelObservation};
pub use objective::{ServiceObjective, ServiceProfile};
pub use overrides::{Override, OverrideKind, Schedule, Weekday};
pub use performance::{FinishedRates, Latency, LoraAdapters, PerformanceSignals};
pub use reading::{EngineReading, GatewayReading, HistogramReading, Quantities, Quantity, QuantityKind};
pub use replica::{EngineKind, ReplicaMetrics};
pub use signal::Signal;
pub(crate) use signal::age;
pub(crate) use snapshot::as_list;
pub use snapshot::{SNAPSHOT_VERSION, Snapshot, TargetObservation, UnattributedEngines, VariantObservation};
pub use variant::{HpaObservation, HpaTarget, ReplicaBounds, Role, ScaleObservation, TargetReference, Variant};
