//! Objects as the API server sent them, not read yet.
//!
//! The machinery of a watch is compiled once, for this one type, instead of once for each kind; each kind then reads of the
//! text what it keeps.

use std::{borrow::Cow, sync::OnceLock};

use kube::{
    Resource,
    api::{ApiResource, ObjectMeta},
    core::DynamicResourceScope,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

/// An object of any kind, or the metadata of one, as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Sent<const METADATA_ONLY: bool = false> {
    text: Box<RawValue>,
    /// What identifies it, once that was asked for; of a listed object nobody does.
    identity: OnceLock<ObjectMeta>,
}

/// Where a kind is listed and watched.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// How the API server names the kind.
    pub(crate) resource: ApiResource,
    /// The namespace to look in; all where `None`, as for what lies in no namespace.
    pub(crate) namespace: Option<String>,
    /// Whether no more than metadata need cross the network.
    pub(crate) metadata_only: bool,
}

impl Sent {
    /// The object, or as much of it as `K` has.
    pub(super) fn read<K: DeserializeOwned>(&self) -> Result<K, serde_json::Error> {
        serde_json::from_str(self.text.get())
    }
}

impl<const METADATA_ONLY: bool> Sent<METADATA_ONLY> {
    /// The same, however it was asked for.
    pub(super) fn of_any_kind(self) -> Sent {
        Sent { text: self.text, identity: self.identity }
    }
}

impl<'de, const METADATA_ONLY: bool> Deserialize<'de> for Sent<METADATA_ONLY> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { text: Box::deserialize(deserializer)?, identity: OnceLock::new() })
    }
}

/// Its names are told by the [`ApiResource`].
impl<const METADATA_ONLY: bool> Resource for Sent<METADATA_ONLY> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn api_version(kind: &ApiResource) -> Cow<'_, str> {
        kind.api_version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn metadata_api() -> bool {
        METADATA_ONLY
    }

    /// Name, namespace and version; nothing else of the metadata.
    fn meta(&self) -> &ObjectMeta {
        self.identity.get_or_init(|| identity(&self.text))
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.meta();
        self.identity.get_mut().unwrap_or_else(|| unreachable!("it was just read"))
    }
}

fn identity(text: &RawValue) -> ObjectMeta {
    #[derive(Deserialize)]
    struct Outline {
        metadata: Identity,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Identity {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
    }
    // An object without metadata has no identity.
    let Identity { name, namespace, resource_version } =
        serde_json::from_str(text.get()).map_or_else(|_| Identity::default(), |outline: Outline| outline.metadata);
    ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use kube::{ResourceExt, core::WatchEvent};

    use super::*;

    #[test]
    fn an_event_of_any_kind_is_told_by_its_identity_and_read_later() {
        let line = r#"{"type":"MODIFIED","object":{"kind":"Thing","metadata":{"name":"a","namespace":"n",
            "resourceVersion":"7","labels":{"x":"y"}},"spec":{"size":3}}}"#;
        let WatchEvent::Modified(sent) = serde_json::from_str::<WatchEvent<Sent>>(line).unwrap() else {
            panic!("another event")
        };
        let expected = (Some("n".to_owned()), "a".to_owned(), Some("7".to_owned()));
        assert_eq!((sent.namespace(), sent.name_any(), sent.resource_version()), expected);
        let value: serde_json::Value = sent.read().unwrap();
        assert_eq!(value["spec"]["size"], 3);
        assert!(sent.read::<Vec<u8>>().is_err());
    }
}
