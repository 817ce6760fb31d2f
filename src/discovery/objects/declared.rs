//! A variant as its owner declared it, wherever that was: in a `VariantAutoscaling`, or by annotations of an autoscaler.

use std::{fmt, sync::Arc};

use super::{ObjectKey, annotated::AnnotatedObject};
use crate::{
    crd::VariantAutoscaling,
    discovery::Problem,
    interfaces::{Override, ReplicaBounds, TargetReference},
};

/// Where a variant was declared. Of several on one scale target, or of one name, the first kind in this order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A `VariantAutoscaling`.
    VariantAutoscaling,
    /// An annotated KEDA `ScaledObject`.
    ScaledObject,
    /// An annotated HPA.
    HorizontalPodAutoscaler,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VariantAutoscaling => "VariantAutoscaling",
            Self::ScaledObject => "ScaledObject",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        })
    }
}

/// What is kept of a declared variant. A field that is wrong has its default here and a problem.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeclaredVariant {
    /// Its model.
    pub model_id: Arc<str>,
    /// Cost of one replica.
    pub cost: f64,
    /// Bounds of its replicas.
    pub bounds: ReplicaBounds,
    /// Overrides of its decisions.
    pub overrides: Arc<[Override]>,
    /// Whether it is in shadow mode.
    pub shadow: bool,
    /// Accelerator that its label names.
    pub accelerator: Option<Arc<str>>,
    /// What it says it scales.
    pub reference: TargetReference,
    /// The same as a key; `None` when it could not be read.
    pub target: Option<ObjectKey>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// The `VariantAutoscaling`, if it is one.
    pub object: LatestObject,
    /// The annotated object, if it is one.
    pub annotated: Option<Arc<AnnotatedObject>>,
}

/// A `VariantAutoscaling` as the watch last showed it, for the status writer; `None` when it could not be read. Any two
/// are equal: a status that we wrote must not look like a change that bears on a decision.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatestObject(pub Option<Arc<VariantAutoscaling>>);

impl PartialEq for LatestObject {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A decimal number of at least 0, as the CRD's pattern has it; the CRD of another release may not check it.
pub(super) fn cost(text: &str) -> Option<f64> {
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|cost: &f64| decimal && cost.is_finite())
}
