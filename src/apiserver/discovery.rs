//! Discovery: which groups, versions and resources are served. Constant, so that an engine fault can never mark a group
//! stale: that would block the deletion of every namespace in the cluster.

mod aggregated;
mod legacy;

use axum::response::Response;
use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, VARY},
};

use self::legacy::{ApiGroup, ApiGroupList, ApiResourceList};
use super::{
    accept::{Encoding, JSON, Offer, PLAIN, PROTOBUF, YAML, negotiate},
    group::{GroupVersion, versions},
    respond::{Constant, json_bytes, yaml_bytes},
    status::ApiError,
    wire::{Document, protobuf},
};
use crate::constants::MetricsGroup;

/// Aggregated discovery, in version 2; earlier ones are gone from kube-apiserver since 1.35.
const AGGREGATED: Offer = Offer {
    media_type: "application/json",
    shape: Some(["APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"]),
    content_type: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    encoding: Encoding::Json,
};
/// Plain first: it is what a client gets that says nothing.
const GROUPS_OFFERS: [Offer; 4] = [JSON, YAML, PROTOBUF, AGGREGATED];

/// The list of groups, plain and aggregated.
#[derive(Clone, Debug)]
pub(super) struct GroupsDocument {
    plain: PlainDocument,
    aggregated: Constant,
}

impl GroupsDocument {
    pub(super) fn new(groups: &[MetricsGroup], metrics: &[&'static str]) -> Self {
        let list = ApiGroupList::new(groups.iter().map(|group| ApiGroup::new(versions(*group))).collect());
        let aggregated = Constant::new(aggregated::document(groups, metrics).to_string());
        Self { plain: PlainDocument::new(&list), aggregated }
    }

    /// The list in the shape the client accepts.
    ///
    /// # Errors
    /// When it accepts none.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Result<Response, ApiError> {
        let offer = negotiate(headers, &GROUPS_OFFERS)?;
        let mut response = if *offer == AGGREGATED {
            let mut response = self.aggregated.answer(offer.content_type, headers);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
            response
        } else {
            self.plain.answer_as(offer, headers)
        };
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }
}

/// A document in the plain encodings.
#[derive(Clone, Debug)]
pub(super) struct PlainDocument {
    json: Constant,
    yaml: Constant,
    protobuf: Constant,
}

impl PlainDocument {
    fn new(document: &impl Document) -> Self {
        let message = protobuf::document(document.api_version(), document.kind(), &document.message());
        Self {
            // Maps with keys that are no text, the one thing that cannot be written, do not occur in discovery.
            json: Constant::new(json_bytes(document, false).unwrap_or_default()),
            yaml: Constant::new(yaml_bytes(document).unwrap_or_default()),
            protobuf: Constant::new(message),
        }
    }

    /// The group with its versions.
    pub(super) fn group(group: MetricsGroup) -> Self {
        Self::new(&ApiGroup::new(versions(group)).alone())
    }

    /// The resources of a version.
    pub(super) fn resources(version: &GroupVersion, metrics: &[&'static str]) -> Self {
        Self::new(&ApiResourceList::new(version, metrics))
    }

    /// The document in the encoding that the client accepts.
    ///
    /// # Errors
    /// When it accepts none.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Result<Response, ApiError> {
        Ok(self.answer_as(negotiate(headers, &PLAIN)?, headers))
    }

    fn answer_as(&self, offer: &Offer, headers: &HeaderMap) -> Response {
        let constant = match offer.encoding {
            Encoding::Yaml => &self.yaml,
            Encoding::Protobuf => &self.protobuf,
            Encoding::Json | Encoding::Table => &self.json,
        };
        constant.answer(offer.content_type, headers)
    }
}

#[cfg(test)]
mod tests;
