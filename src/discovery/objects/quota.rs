//! `ResourceQuota`s: accelerators that a namespace may hold at most.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::core::Object;
use serde::{Deserialize, de::IgnoredAny};

use super::{Address, Table, Watched, built_in, scoped};
use crate::discovery::{
    Options,
    index::{Effect, Namespace},
    inventory::{Labels, Rules},
    quantity,
    sync::WatchedResource,
};

/// The `ResourceQuota` watch.
#[derive(Clone, Debug)]
pub(crate) struct Quotas(pub Rules);

/// Most units of accelerator resources, by resource.
pub(crate) type Quota = Box<[(Arc<str>, u32)]>;

/// The part of `spec` that is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct QuotaSpec {
    hard: Labels,
    scopes: Vec<String>,
    scope_selector: Option<IgnoredAny>,
}

impl Watched for Quotas {
    type Object = Object<QuotaSpec, IgnoredAny>;
    type Slim = Quota;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::ResourceQuotas
    }

    fn address(&self, options: &Options) -> Address {
        scoped(built_in::<core::ResourceQuota>(), options)
    }

    /// A quota on some pods only (of a priority class, say) is no bound on ours.
    fn reduce(&self, object: Self::Object) -> Option<Quota> {
        let QuotaSpec { hard, scopes, scope_selector } = object.spec;
        if !scopes.is_empty() || scope_selector.is_some() {
            return None;
        }
        let accelerators = hard.iter().filter_map(|(name, amount)| {
            let resource = name.strip_prefix("requests.").filter(|resource| self.0.is_accelerator(resource))?;
            Some((Arc::from(resource), (quantity::milli(amount)? / 1000.0) as u32))
        });
        Some(accelerators.collect::<Quota>()).filter(|quota| !quota.is_empty())
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<Quota> {
        &mut namespace.quotas
    }

    fn touch(&self, _namespace: &mut Namespace, _name: &Arc<str>, _quota: &Quota) -> Effect {
        Effect::INVENTORY
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn reduced(spec: &Value) -> Option<Quota> {
        let object = json!({"metadata": {"name": "q", "namespace": "n"}, "spec": spec});
        Quotas(Rules::default()).reduce(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_quota_is_kept_for_accelerators_only_and_for_all_pods_only() {
        let hard = json!({"requests.nvidia.com/gpu": "16", "requests.cpu": "400", "pods": "100"});
        assert_eq!(reduced(&json!({"hard": hard})), Some([("nvidia.com/gpu".into(), 16)].into()));
        assert_eq!(reduced(&json!({"hard": {"pods": "100"}})), None);
        assert_eq!(reduced(&json!({"hard": hard, "scopes": ["NotTerminating"]})), None);
        let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]});
        assert_eq!(reduced(&json!({"hard": hard, "scopeSelector": selector})), None);
    }
}
