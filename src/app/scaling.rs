//! Writes scale subresources in the background, one write per target at a time: the latest ask wins.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    actuator::{ScaleAction, ScaleSink},
    controller::FIELD_MANAGER,
    interfaces::VariantKey,
};

/// Writes in flight at a time.
const CONCURRENCY: usize = 8;

type Latest = BTreeMap<VariantKey, ScaleAction>;

/// Takes what is to be written.
pub(super) struct Scaler(Arc<watch::Sender<Latest>>);

/// The task behind a [`Scaler`].
#[must_use = "nothing is scaled unless `run` is awaited"]
pub(super) struct Scaling {
    client: Client,
    sender: Arc<watch::Sender<Latest>>,
    receiver: watch::Receiver<Latest>,
}

/// A scaler and its task.
pub(super) fn scaler(client: Client) -> (Scaler, Scaling) {
    let (sender, receiver) = watch::channel(Latest::new());
    let sender = Arc::new(sender);
    (Scaler(sender.clone()), Scaling { client, sender, receiver })
}

impl ScaleSink for Scaler {
    fn scale(&self, actions: Vec<ScaleAction>) {
        let actions = actions.into_iter().map(|action| (action.variant.clone(), action));
        self.0.send_modify(|latest| latest.extend(actions));
    }
}

impl Scaling {
    /// Writes until `stop`. A write that fails is asked for again by the next cycle, if it is still wanted.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let follow = async {
            while self.receiver.changed().await.is_ok() {
                let mut due = Latest::new();
                self.sender.send_if_modified(|latest| {
                    std::mem::swap(latest, &mut due);
                    false
                });
                let client = &self.client;
                stream::iter(due.into_values()).for_each_concurrent(CONCURRENCY, |action| write(client, action)).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }
}

async fn write(client: &Client, action: ScaleAction) {
    let ScaleAction { variant, target, from, to } = action;
    let (group, version) = target.api_version.split_once('/').unwrap_or(("", &target.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &target.kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &variant.namespace, &resource);
    let patch = json!({ "spec": { "replicas": to } });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_scale(&target.name, &parameters, &Patch::Merge(patch)).await {
        Ok(_) => info!(%variant, %target, from, to, "scaled"),
        Err(kube::Error::Api(status)) if status.code == 403 => warn!(
            %variant, %target, to, error = status.message,
            "not scaled: wva has no right to; apply manifests/actuation, or set actuation.mode to hpa"
        ),
        Err(error) => warn!(%variant, %target, to, %error, "not scaled; the next cycle tries again"),
    }
}
