//! KEDA's `ScaledObject`s: annotated ones are variants. KEDA's own HPA then scales them.

use std::sync::Arc;

use kube::{api::ApiResource, core::Object};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Address, DeclaredVariant, Source, Table, Watched,
    annotated::{self, Autoscaling},
    count, scoped,
};
use crate::{
    discovery::{
        Options,
        index::{Effect, Namespace},
        sync::WatchedResource,
    },
    interfaces::{ReplicaBounds, TargetReference},
};

/// KEDA's bound where `maxReplicaCount` is unset.
const DEFAULT_MAX: u32 = 100;

/// The `ScaledObject` watch. What is kept of one is the variant it declares.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScaledObjects {
    /// The installation, where several share the cluster.
    pub controller_instance: Option<String>,
}

/// The part of `spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ScaledObjectSpec {
    scale_target_ref: TargetRef,
    min_replica_count: Option<i32>,
    max_replica_count: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TargetRef {
    api_version: Option<Arc<str>>,
    kind: Option<Arc<str>>,
    name: Arc<str>,
}

impl Watched for ScaledObjects {
    type Object = Object<ScaledObjectSpec, IgnoredAny>;
    type Slim = DeclaredVariant;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::ScaledObjects
    }

    fn address(&self, options: &Options) -> Address {
        let resource = ApiResource {
            group: "keda.sh".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "keda.sh/v1alpha1".to_owned(),
            kind: "ScaledObject".to_owned(),
            plural: "scaledobjects".to_owned(),
        };
        scoped(resource, options)
    }

    /// A target without a kind is a Deployment, and no replica at all may be asked for unless a least number is set: KEDA's
    /// defaults.
    fn reduce(&self, object: Self::Object) -> Option<DeclaredVariant> {
        let ScaledObjectSpec { scale_target_ref, min_replica_count, max_replica_count } = object.spec;
        let target = TargetReference {
            api_version: scale_target_ref.api_version.unwrap_or_else(|| "apps/v1".into()),
            kind: scale_target_ref.kind.unwrap_or_else(|| "Deployment".into()),
            name: scale_target_ref.name,
        };
        let max = count(max_replica_count).unwrap_or(DEFAULT_MAX);
        let autoscaling = Autoscaling {
            source: Source::ScaledObject,
            api_version: "keda.sh/v1alpha1",
            target,
            bounds: ReplicaBounds { min: count(min_replica_count).unwrap_or(0), max: Some(max) },
        };
        annotated::declared(&object.metadata, autoscaling, self.controller_instance.as_deref())
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<DeclaredVariant> {
        &mut namespace.scaled_objects
    }

    fn touch(&self, namespace: &mut Namespace, name: &Arc<str>, declared: &DeclaredVariant) -> Effect {
        namespace.touch_declared(name, declared)
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&DeclaredVariant>) -> Effect {
        let old = old.and_then(|old| old.target.clone());
        let new = namespace.scaled_objects.get(name).and_then(|new| new.target.clone());
        namespace.relink_declarer(Source::ScaledObject, name, old, new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_annotated_scaled_object_is_a_variant_that_may_go_to_zero() {
        let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {
            "name": "llama", "namespace": "chat",
            "annotations": {"llm-d.ai/managed": "true", "llm-d.ai/model-id": "meta/llama"}},
            "spec": {"scaleTargetRef": {"name": "llama-d"}, "triggers": [{"type": "prometheus"}]}});
        let variant = ScaledObjects::default().reduce(serde_json::from_value(object.clone()).unwrap()).unwrap();
        assert_eq!(variant.bounds, ReplicaBounds { min: 0, max: Some(100) });
        assert_eq!(variant.reference.to_string(), "Deployment llama-d");
        let mut plain = object;
        plain["metadata"]["annotations"] = json!({});
        assert_eq!(ScaledObjects::default().reduce(serde_json::from_value(plain).unwrap()), None);
    }
}
