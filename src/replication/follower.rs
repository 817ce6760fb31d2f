//! The followers' side: watches the documents and tells what may be served.

use std::{pin::pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tracing::warn;

use super::{DECISION_SHARDS, HEARTBEAT, Received, View, archive::document, decisions_name, document::unpack};
use crate::clock::Clock;

/// Keeps `received` at what the leader vouches for; never ends. Calls `listed` once every object was seen, so that there is
/// nothing that this replica could not answer and another could.
pub async fn follow(
    client: Client,
    namespace: String,
    clock: Arc<dyn Clock>,
    received: watch::Sender<Option<Received>>,
    listed: impl FnOnce() + Send,
) {
    let maps = Api::<ConfigMap>::namespaced(client, &namespace);
    let names = (0..DECISION_SHARDS).map(decisions_name).chain([HEARTBEAT.to_owned()]);
    let watches: Vec<_> = names.enumerate().map(|(place, name)| watch_one(&maps, place, name)).collect();
    let mut missing: Vec<usize> = (0..watches.len()).collect();
    let mut listed = Some(listed);
    let mut events = pin!(stream::select_all(watches));
    let mut view = View::default();
    while let Some((place, map)) = events.next().await {
        missing.retain(|other| *other != place);
        if let Some(map) = map {
            take(&mut view, place, &map, &*clock);
            let decisions = view.decisions();
            received.send_if_modified(|last| {
                let is_news = decisions.is_some() && *last != decisions;
                if is_news {
                    *last = decisions;
                }
                is_news
            });
        }
        if missing.is_empty()
            && let Some(listed) = listed.take()
        {
            listed();
        }
    }
}

/// Each version of one object; `None` where it does not exist.
fn watch_one(
    maps: &Api<ConfigMap>,
    place: usize,
    name: String,
) -> futures::stream::BoxStream<'static, (usize, Option<ConfigMap>)> {
    let changes = watcher::watch_object(maps.clone(), &name).default_backoff();
    told(changes, name).map(move |map| (place, map)).boxed()
}

fn told(
    changes: impl Stream<Item = Result<Option<ConfigMap>, watcher::Error>> + Send + 'static,
    name: String,
) -> impl Stream<Item = Option<ConfigMap>> + Send + 'static {
    changes.filter_map(move |change| {
        let outcome = match change {
            Ok(map) => {
                if map.is_none() {
                    warn!("ConfigMap {name} does not exist, so decisions cannot be shared; apply manifests/");
                }
                Some(map)
            }
            Err(error) => {
                warn!(%error, "watch of ConfigMap {name} interrupted, retrying");
                None
            }
        };
        std::future::ready(outcome)
    })
}

fn take(view: &mut View, place: usize, map: &ConfigMap, clock: &dyn Clock) {
    // Nothing written yet.
    let Some(bytes) = document(map) else { return };
    let outcome = if place < DECISION_SHARDS {
        unpack(bytes).map(|shard| view.take_shard(place, shard))
    } else {
        unpack(bytes).map(|heartbeat| view.take_heartbeat(heartbeat, clock.now()))
    };
    if let Err(error) = outcome {
        warn!(%error, "ConfigMap {} is ignored", map.name_any());
    }
}
