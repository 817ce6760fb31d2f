//! The Kubernetes metrics API: discovery, values, `metav1.Status` errors.
//!
//! It knows nothing of engines: values come through [`MetricsProvider`].

mod provider;

pub use provider::{MetricsProvider, Refusal, Sample, Series, UnknownMetric};
