//! The labels of a variant on the wire, which selectors match and dashboards group by.

use super::VariantKey;
use crate::constants::{
    ACCELERATOR_UNRESOLVED, LABEL_ACCELERATOR_TYPE, LABEL_CONTROLLER_INSTANCE, LABEL_MODEL_NAME, LABEL_NAMESPACE,
    LABEL_VARIANT_NAME,
};

/// Names and values of the labels that every series of a variant carries. `controller_instance` is there only where
/// several installations share a cluster.
pub fn wire_labels<'a>(
    variant: &'a VariantKey,
    model_id: &'a str,
    accelerator: Option<&'a str>,
    controller_instance: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let labels = [
        (LABEL_VARIANT_NAME, &*variant.name),
        (LABEL_NAMESPACE, &*variant.namespace),
        (LABEL_ACCELERATOR_TYPE, accelerator.unwrap_or(ACCELERATOR_UNRESOLVED)),
        (LABEL_MODEL_NAME, model_id),
    ];
    labels.into_iter().chain(controller_instance.map(|instance| (LABEL_CONTROLLER_INSTANCE, instance)))
}
