//! Kinds that are found out at run time: whatever variants scale, and the devices of dynamic resource allocation. A kind
//! that is installed later is picked up, without a restart.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, api::ApiResource, core::Object};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ClusterState, Options,
    index::KindState,
    objects::{ClaimTemplates, Claims, GroupKind, ScaleCounts, Scaled, Slices},
    watch::{RetryDelays, follow},
};

/// Kinds that are watched at most: each costs a watch, and anybody who may create a variant may name one.
const MOST_KINDS: usize = 32;
/// Changes of what variants scale within this time are one.
const SETTLE: Duration = Duration::from_millis(100);
/// Time between two looks for an API that is not served.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Watches each kind that variants scale, for as long as one does; never ends.
pub(crate) async fn follow_scaled(client: Client, options: Options, state: ClusterState) {
    let mut changes = state.changes();
    let mut running: HashMap<Arc<GroupKind>, (Arc<str>, DropGuard)> = HashMap::new();
    let mut watches = FuturesUnordered::new();
    let mut due = Some(Instant::now());
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                due = due.or(Some(Instant::now() + SETTLE));
            }
            () = until(due) => {
                due = None;
                let wanted = state.wanted_kinds();
                stop_unwanted(&mut running, &wanted, &state);
                for (kind, api_version) in wanted {
                    if running.contains_key(&kind) {
                        continue;
                    }
                    if running.len() >= MOST_KINDS {
                        let why = format!("{MOST_KINDS} other kinds are scaled already; delete variants of one of them");
                        state.set_kind(&kind, Some(KindState::Unavailable(why)));
                        continue;
                    }
                    let stop = CancellationToken::new();
                    let follow = follow_kind(client.clone(), options.clone(), state.clone(), kind.clone(), api_version.clone());
                    watches.push(stop.clone().run_until_cancelled_owned(follow));
                    running.insert(kind, (api_version, stop.drop_guard()));
                }
            }
            Some(_) = watches.next(), if !watches.is_empty() => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn stop_unwanted(
    running: &mut HashMap<Arc<GroupKind>, (Arc<str>, DropGuard)>,
    wanted: &BTreeMap<Arc<GroupKind>, Arc<str>>,
    state: &ClusterState,
) {
    running.retain(|kind, (api_version, _)| {
        let keep = wanted.get(kind) == Some(api_version);
        if !keep {
            state.forget_kind(kind);
        }
        keep
    });
}

/// Finds a kind out and watches it; never ends.
async fn follow_kind(
    client: Client,
    options: Options,
    state: ClusterState,
    kind: Arc<GroupKind>,
    api_version: Arc<str>,
) {
    let mut delays = RetryDelays::default();
    loop {
        match find_scaled(&client, &kind, &api_version, &state).await {
            Ok(scaled) => follow(scaled, client.clone(), options.clone(), state.clone()).await,
            Err(why) => state.set_kind(&kind, Some(KindState::Unavailable(why))),
        }
        sleep(delays.next().unwrap_or(LOOK_AGAIN)).await;
    }
}

/// How the API server serves a kind, or what stands in the way, with the remedy.
async fn find_scaled(
    client: &Client,
    kind: &Arc<GroupKind>,
    api_version: &str,
    state: &ClusterState,
) -> Result<Scaled, String> {
    let served = served(client, api_version).await?;
    let found = served.iter().find(|resource| resource.kind == kind.kind && !resource.name.contains('/'));
    let found = found.filter(|resource| resource.namespaced).ok_or_else(|| not_served(&kind.kind, api_version))?;
    let scale = format!("{}/scale", found.name);
    if !served.iter().any(|resource| resource.name == scale) {
        return Err(format!(
            "{kind} has no scale subresource, so that nothing can scale it; name an object that has one"
        ));
    }
    let resource = named(api_version, &kind.group, &kind.kind, &found.name);
    let counts = scale_counts(client, &resource).await.unwrap_or_default();
    Ok(Scaled { kind: kind.clone(), resource, counts, rules: state.rules().clone() })
}

fn not_served(kind: &str, api_version: &str) -> String {
    format!(
        "the API server does not serve {kind} of {api_version}; install its CustomResourceDefinition, which is picked up \
         within seconds, or correct scaleTargetRef"
    )
}

/// One resource or subresource of an API version.
struct ServedResource {
    name: String,
    kind: String,
    namespaced: bool,
}

/// What an API version serves, subresources included.
async fn served(client: &Client, api_version: &str) -> Result<Vec<ServedResource>, String> {
    let list = if api_version.contains('/') {
        client.list_api_group_resources(api_version).await
    } else {
        client.list_core_api_resources(api_version).await
    };
    match list {
        Ok(list) => {
            let resources = list.resources.into_iter();
            Ok(resources
                .map(|found| ServedResource { name: found.name, kind: found.kind, namespaced: found.namespaced })
                .collect())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Err(not_served("objects", api_version)),
        Err(error) => Err(format!("what {api_version} serves cannot be read: {error}; it is tried again")),
    }
}

fn named(api_version: &str, group: &str, kind: &str, plural: &str) -> ApiResource {
    let version = api_version.rsplit_once('/').map_or(api_version, |(_, version)| version);
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// A `CustomResourceDefinition` without its schemas, which are most of it.
type Definition = Object<DefinitionSpec, IgnoredAny>;

#[derive(Clone, Debug, Deserialize)]
struct DefinitionSpec {
    versions: Vec<DefinedVersion>,
}

#[derive(Clone, Debug, Deserialize)]
struct DefinedVersion {
    name: String,
    subresources: Option<Subresources>,
}

#[derive(Clone, Debug, Deserialize)]
struct Subresources {
    scale: Option<ScaleSubresource>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleSubresource {
    spec_replicas_path: String,
    status_replicas_path: String,
}

/// Where the definition of a custom kind says its counts are; `None` where there is none, or we may not read it.
async fn scale_counts(client: &Client, resource: &ApiResource) -> Option<ScaleCounts> {
    let kind = ApiResource::erase::<CustomResourceDefinition>(&());
    let definitions = Api::<Definition>::all_with(client.clone(), &kind);
    let definition = definitions.get_opt(&format!("{}.{}", resource.plural, resource.group)).await.ok()??;
    counts_in(&definition, &resource.version)
}

fn counts_in(definition: &Definition, version: &str) -> Option<ScaleCounts> {
    let version = definition.spec.versions.iter().find(|served| served.name == version)?;
    let scale = version.subresources.as_ref()?.scale.as_ref()?;
    Some(ScaleCounts { spec: pointer(&scale.spec_replicas_path), status: pointer(&scale.status_replicas_path) })
}

/// `.spec.replicas` as `/spec/replicas`: paths of the scale subresource have names only, no array notation.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

/// Versions of `resource.k8s.io` that are understood, the newest first.
const DEVICE_VERSIONS: [&str; 3] = ["resource.k8s.io/v1", "resource.k8s.io/v1beta2", "resource.k8s.io/v1beta1"];

/// Watches the devices of dynamic resource allocation, once the cluster serves them; never ends.
pub(crate) async fn follow_devices(client: Client, options: Options, state: ClusterState) {
    let api_version = loop {
        if let Some(api_version) = served_devices(&client).await {
            break api_version;
        }
        sleep(LOOK_AGAIN).await;
    };
    let rules = state.rules().clone();
    let resource = |kind, plural| named(api_version, "resource.k8s.io", kind, plural);
    let slices = Slices { resource: resource("ResourceSlice", "resourceslices"), rules: rules.clone() };
    let claims = Claims { resource: resource("ResourceClaim", "resourceclaims"), rules: rules.clone() };
    let templates = ClaimTemplates { resource: resource("ResourceClaimTemplate", "resourceclaimtemplates"), rules };
    futures::join!(
        follow(slices, client.clone(), options.clone(), state.clone()),
        follow(claims, client.clone(), options.clone(), state.clone()),
        follow(templates, client, options, state),
    );
}

async fn served_devices(client: &Client) -> Option<&'static str> {
    for api_version in DEVICE_VERSIONS {
        let served = served(client, api_version).await.unwrap_or_default();
        if served.iter().any(|resource| resource.name == "resourceslices") {
            return Some(api_version);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_tells_where_the_counts_are() {
        let version = |name: &str, path: &str| {
            json!({"name": name, "served": true, "storage": false, "subresources": {"scale": {
                "specReplicasPath": path, "statusReplicasPath": ".status.observed.count"}}})
        };
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things"},
                "versions": [version("v1alpha1", ".spec.size"), version("v1", ".spec.count")]}});
        let definition: Definition = serde_json::from_value(definition).unwrap();
        let expected = ScaleCounts { spec: "/spec/count".to_owned(), status: "/status/observed/count".to_owned() };
        assert_eq!(counts_in(&definition, "v1"), Some(expected));
        assert_eq!(counts_in(&definition, "v2"), None);
    }
}
