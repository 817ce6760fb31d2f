//! One watch: list, then follow, for ever.

use std::{pin::pin, sync::Arc};

use futures::StreamExt;
use kube::{
    Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};

use super::{ClusterState, Options, objects::Watched, state::identity, sync::WatchFailure};

/// Keeps `state` up to date with the objects of one kind; never ends.
pub(crate) async fn follow<W: Watched>(client: Client, options: Options, state: ClusterState) {
    let events = watcher(W::api(client, &options), W::selection(&options)).default_backoff();
    let mut events = pin!(events);
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take::<W>(event, &mut listing, &state),
            Err(error) => report::<W>(&error, &state),
        }
    }
}

/// A list is taken over when it is complete, so that nothing known vanishes while it is read again.
fn take<W: Watched>(event: Event<W::Object>, listing: &mut Vec<(Arc<str>, Arc<str>, W::Slim)>, state: &ClusterState) {
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(object) => {
            if let Some((namespace, name)) = identity(&object)
                && let Some(slim) = W::reduce(object)
            {
                listing.push((namespace, name, slim));
            }
        }
        Event::InitDone => state.listed::<W>(std::mem::take(listing)),
        Event::Apply(object) => state.applied::<W>(object),
        Event::Delete(object) => state.deleted::<W>(&object),
    }
}

/// A failure is logged once, not at every attempt.
fn report<W: Watched>(error: &watcher::Error, state: &ClusterState) {
    // Expected after a long pause: the watcher lists again.
    if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
        return;
    }
    let failure = WatchFailure::new(W::RESOURCE, error);
    if state.failed::<W>(failure.clone()) {
        tracing::warn!(resource = %W::RESOURCE, %failure, "watch failed");
    }
}
