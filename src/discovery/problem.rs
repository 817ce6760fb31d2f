//! Why a declared variant cannot be used.

use std::sync::Arc;

use thiserror::Error;

use crate::interfaces::{TargetReference, VariantKey};

/// Why no replicas can be decided for a variant: each text names the object, what is wrong and the remedy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The object does not have the fields of the API version served.
    #[error("VariantAutoscaling {variant} cannot be read: {error}; apply it again with the fields of llmd.ai/v1alpha1")]
    Unreadable {
        /// The variant.
        variant: VariantKey,
        /// What the parser said.
        error: String,
    },
    /// `spec.modelID` is empty.
    #[error("VariantAutoscaling {variant} has an empty spec.modelID; set it to the model_name label of the engine")]
    EmptyModel {
        /// The variant.
        variant: VariantKey,
    },
    /// `spec.variantCost` is not a decimal number of at least 0.
    #[error("VariantAutoscaling {variant} has spec.variantCost {cost:?}; set it to a decimal number such as \"10.0\"")]
    InvalidCost {
        /// The variant.
        variant: VariantKey,
        /// What it has.
        cost: String,
    },
    /// `spec.minReplicas` and `spec.maxReplicas` leave no number of replicas to choose.
    #[error(
        "VariantAutoscaling {variant} has spec.minReplicas {min} and spec.maxReplicas {max}; \
         set 0 <= minReplicas <= maxReplicas and maxReplicas >= 1"
    )]
    InvalidBounds {
        /// The variant.
        variant: VariantKey,
        /// `spec.minReplicas`, or its default.
        min: i32,
        /// `spec.maxReplicas`.
        max: i32,
    },
    /// An entry of `spec.overrides` contradicts itself.
    #[error("VariantAutoscaling {variant} has an entry of spec.overrides, {order}, but {rule}; correct it")]
    InvalidOverride {
        /// The variant.
        variant: VariantKey,
        /// The entry, as a clause.
        order: String,
        /// What it must be.
        rule: &'static str,
    },
    /// An annotation that declares a variant is wrong.
    #[error("{declared_by} {variant} has the annotation {annotation} {value:?}, but {rule}; correct the annotation")]
    InvalidAnnotation {
        /// The variant, which has the name of what declares it.
        variant: VariantKey,
        /// Kind of the object that is annotated.
        declared_by: String,
        /// Key of the annotation.
        annotation: &'static str,
        /// What it has.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Objects of the kind of the scale target cannot be watched.
    #[error("variant {variant} scales the {} {} of {}: {why}", target.kind, target.name, target.api_version)]
    UnsupportedTarget {
        /// The variant.
        variant: VariantKey,
        /// What it points at.
        target: TargetReference,
        /// What stands in the way, and the remedy.
        why: String,
    },
    /// Objects of the kind of the scale target are not known yet. A problem of its own, so that what becomes of it is a
    /// change of substance.
    #[error(
        "variant {variant} scales the {} {} of {}: objects of {} are not listed yet; this passes within seconds",
        target.kind, target.name, target.api_version, target.api_version
    )]
    TargetNotListed {
        /// The variant.
        variant: VariantKey,
        /// What it points at.
        target: TargetReference,
    },
    /// The scale target does not exist.
    #[error("variant {variant} scales {target}, which does not exist; create it or correct scaleTargetRef")]
    TargetNotFound {
        /// The variant.
        variant: VariantKey,
        /// What it points at.
        target: TargetReference,
    },
    /// Other variants scale the same target.
    #[error(
        "variants {} in namespace {} all scale {target}; give each a scale target of its own or delete all but one",
        join(variants), variant.namespace
    )]
    SharedTarget {
        /// The variant.
        variant: VariantKey,
        /// What they point at.
        target: TargetReference,
        /// Names of all of them, this one included, in order.
        variants: Vec<Arc<str>>,
    },
}

impl Problem {
    /// The reason of a Kubernetes condition or event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Unreadable",
            Self::EmptyModel { .. } => "EmptyModel",
            Self::InvalidCost { .. } => "InvalidCost",
            Self::InvalidBounds { .. } => "InvalidBounds",
            Self::InvalidOverride { .. } => "InvalidOverride",
            Self::InvalidAnnotation { .. } => "InvalidAnnotation",
            Self::UnsupportedTarget { .. } => "UnsupportedTarget",
            Self::TargetNotListed { .. } => "TargetNotListed",
            Self::TargetNotFound { .. } => "TargetNotFound",
            Self::SharedTarget { .. } => "SharedTarget",
        }
    }

    /// Whether it lies with the scale target, not with what else its owner declared.
    pub fn concerns_target(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedTarget { .. }
                | Self::TargetNotListed { .. }
                | Self::TargetNotFound { .. }
                | Self::SharedTarget { .. }
        )
    }
}

fn join(names: &[Arc<str>]) -> String {
    names.join(", ")
}
