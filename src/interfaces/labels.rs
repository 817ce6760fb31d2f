//! The labels of a variant on the wire, which selectors match and dashboards group by.

use super::VariantKey;
use crate::constants::{
    ACCELERATOR_UNRESOLVED, LABEL_ACCELERATOR_TYPE, LABEL_CONTROLLER_INSTANCE, LABEL_MODEL_NAME, LABEL_NAMESPACE,
    LABEL_VARIANT_NAME,
};

/// Values of the labels that every series of a variant carries, as whoever writes them keeps text.
#[derive(Clone, Debug)]
pub struct WireLabels<T> {
    /// The variant's name.
    pub variant_name: T,
    /// Its namespace.
    pub namespace: T,
    /// Its accelerator, or [`ACCELERATOR_UNRESOLVED`].
    pub accelerator_type: T,
    /// The model that it serves.
    pub model_name: T,
    /// Which of several installations in a cluster decides on it.
    pub controller_instance: Option<T>,
}

impl<T> WireLabels<T> {
    /// Names and values.
    pub fn pairs(self) -> impl Iterator<Item = (&'static str, T)> {
        let labels = [
            (LABEL_VARIANT_NAME, self.variant_name),
            (LABEL_NAMESPACE, self.namespace),
            (LABEL_ACCELERATOR_TYPE, self.accelerator_type),
            (LABEL_MODEL_NAME, self.model_name),
        ];
        labels.into_iter().chain(self.controller_instance.map(|instance| (LABEL_CONTROLLER_INSTANCE, instance)))
    }
}

/// Names and values of the labels that every series of a variant carries. `controller_instance` is there only where
/// several installations share a cluster.
pub fn wire_labels<'a>(
    variant: &'a VariantKey,
    model_id: &'a str,
    accelerator: Option<&'a str>,
    controller_instance: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let labels = WireLabels {
        variant_name: &*variant.name,
        namespace: &*variant.namespace,
        accelerator_type: accelerator.unwrap_or(ACCELERATOR_UNRESOLVED),
        model_name: model_id,
        controller_instance,
    };
    labels.pairs()
}
