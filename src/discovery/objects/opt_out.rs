//! Namespaces that want to be left alone.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::{api::ObjectMeta, core::PartialObjectMeta};

use super::{Address, Table, Watched, built_in, cluster_wide};
use crate::discovery::{
    Options,
    index::{Effect, Namespace},
    sync::WatchedResource,
};

/// `"true"` keeps a namespace out: nothing in it is a variant.
const EXCLUDE: &str = "wva.llmd.ai/exclude";

/// The Namespace watch: metadata only, of which nothing is kept but that a namespace wants to be left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespaces;

/// A namespace that wants to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptOut;

impl Watched for Namespaces {
    type Object = PartialObjectMeta<core::Namespace>;
    type Slim = OptOut;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::Namespaces
    }

    fn address(&self, _options: &Options) -> Address {
        Address { metadata_only: true, ..cluster_wide(built_in::<core::Namespace>()) }
    }

    fn selection(&self, options: &Options) -> kube::runtime::watcher::Config {
        let config = kube::runtime::watcher::Config::default();
        match &options.namespace {
            Some(namespace) => config.fields(&format!("metadata.name={namespace}")),
            None => config,
        }
    }

    /// It is kept in the namespace itself.
    fn identity(&self, metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        let name: Arc<str> = metadata.name.as_deref()?.into();
        Some((name.clone(), name))
    }

    fn reduce(&self, object: Self::Object) -> Option<OptOut> {
        let annotations = object.metadata.annotations.unwrap_or_default();
        (annotations.get(EXCLUDE).map(String::as_str) == Some("true")).then_some(OptOut)
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<OptOut> {
        &mut namespace.opt_out
    }

    fn touch(&self, namespace: &mut Namespace, _name: &Arc<str>, _slim: &OptOut) -> Effect {
        namespace.touch_all()
    }
}
