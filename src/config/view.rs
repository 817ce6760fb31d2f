//! The resolved configuration for people: each key with its value, who gave it, and remarks. Secrets are never in it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ModelSelector, Profiles, ServiceClasses, Source};

/// What `wva config` prints and `/debug/config/resolved` serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedView {
    /// Every key by its path.
    pub values: BTreeMap<String, ResolvedValue>,
    /// Every model with an entry of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ResolvedModel>,
    /// Service classes, most important first.
    #[serde(skip_serializing_if = "ServiceClasses::is_empty")]
    pub service_classes: ServiceClasses,
    /// Service profiles; times in seconds.
    #[serde(skip_serializing_if = "Profiles::is_empty")]
    pub profiles: Profiles,
    /// Settings that were found but have no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedValue {
    /// The value as it could be written in a document; `None` where there is none.
    pub value: Option<String>,
    /// Who gave it, as [`Source`] shows itself: `default`, `flag --…`, `environment …`, `file … line …`.
    pub source: String,
    /// A remark, such as that the value is insecure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl ResolvedValue {
    pub(super) fn new(shown: String, given_by: &Source) -> Self {
        Self { value: (!shown.is_empty()).then_some(shown), source: given_by.to_string(), note: None }
    }
}

/// One model's thresholds, own and inherited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedModel {
    /// The model.
    #[serde(rename = "modelID")]
    pub model_id: String,
    /// Its namespace; `None` is every namespace.
    pub namespace: Option<String>,
    /// Its keys by path.
    pub values: BTreeMap<String, ResolvedValue>,
}

impl ResolvedModel {
    pub(super) fn new(selector: &ModelSelector, values: BTreeMap<String, ResolvedValue>) -> Self {
        let namespace = selector.namespace.as_deref().map(ToOwned::to_owned);
        Self { model_id: selector.model_id.as_ref().to_owned(), namespace, values }
    }
}
