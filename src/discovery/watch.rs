//! One watch: list, then follow, for ever.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};

use super::{
    ClusterState, Options,
    objects::Watched,
    sent::{Address, Sent},
    sync::WatchFailure,
};

/// The first delay after a failure; it doubles, with as much again of jitter at most.
const LEAST_DELAY: Duration = Duration::from_millis(200);
/// The greatest: a restarted API server forbids everything for seconds, and its view must not be old for long after.
const GREATEST_DELAY: Duration = Duration::from_secs(5);
/// A failure after this long is the first of a new row.
const ROW: Duration = Duration::from_secs(30);

/// Keeps `state` up to date with the objects of one kind; never ends.
pub(crate) async fn follow<W: Watched>(watched: W, client: Client, options: Options, state: ClusterState) {
    let mut events = events(client, &watched.address(&options), watched.selection(&options));
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(&watched, event, &mut listing, &state),
            Err(error) => report(&watched, &error, &state),
        }
    }
}

/// Events of one kind; a failure is followed by further attempts.
type Events = BoxStream<'static, Result<Event<Sent>, watcher::Error>>;

fn events(client: Client, at: &Address, selection: watcher::Config) -> Events {
    if at.metadata_only { listed::<true>(client, at, selection) } else { listed::<false>(client, at, selection) }
}

fn listed<const METADATA_ONLY: bool>(client: Client, at: &Address, selection: watcher::Config) -> Events {
    let api: Api<Sent<METADATA_ONLY>> = match &at.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &at.resource),
        None => Api::all_with(client, &at.resource),
    };
    let of_any_kind = |event| match event {
        Event::Init => Event::Init,
        Event::InitApply(sent) => Event::InitApply(Sent::of_any_kind(sent)),
        Event::InitDone => Event::InitDone,
        Event::Apply(sent) => Event::Apply(Sent::of_any_kind(sent)),
        Event::Delete(sent) => Event::Delete(Sent::of_any_kind(sent)),
    };
    let events = watcher(api, selection).backoff(RetryDelays::default());
    events.map(move |event| event.map(of_any_kind)).boxed()
}

/// A list is taken over when it is complete, so that nothing known vanishes while it is read again.
fn take<W: Watched>(
    watched: &W,
    event: Event<Sent>,
    listing: &mut Vec<(Arc<str>, Arc<str>, W::Slim)>,
    state: &ClusterState,
) {
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(sent) => {
            if let Some(object) = read(watched, &sent)
                && let Some((namespace, name)) = watched.identity(object.meta())
                && let Some(slim) = watched.reduce(object)
            {
                listing.push((namespace, name, slim));
            }
        }
        Event::InitDone => state.listed(watched, std::mem::take(listing)),
        Event::Apply(sent) => match read(watched, &sent) {
            Some(object) => state.applied(watched, object),
            None => state.deleted(watched, &sent),
        },
        Event::Delete(sent) => state.deleted(watched, &sent),
    }
}

/// What is read of an object. One that cannot be read is left out, so that the others of its kind are still seen.
fn read<W: Watched>(watched: &W, sent: &Sent) -> Option<W::Object> {
    let unreadable = |error: &serde_json::Error| {
        let (resource, metadata) = (watched.resource(), sent.meta());
        let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref());
        tracing::warn!(%resource, namespace, name, %error, "an object cannot be read and counts as absent");
    };
    sent.read().inspect_err(unreadable).ok()
}

/// A failure is logged once, not at every attempt; that the cluster lacks what it need not have is no failure.
fn report<W: Watched>(watched: &W, error: &watcher::Error, state: &ClusterState) {
    // Expected after a long pause: the watcher lists again.
    if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
        return;
    }
    let resource = watched.resource();
    let failure = WatchFailure::new(&resource, error);
    if !state.failed(watched, failure.clone()) {
        return;
    }
    if resource.is_optional() && matches!(failure, WatchFailure::NotInstalled(_)) {
        tracing::debug!(%resource, %failure, "not watched");
    } else {
        tracing::warn!(%resource, %failure, "watch failed");
    }
}

/// Delays between attempts. Rows of failures are told apart by time: [`Backoff::reset`] comes with every start of a
/// list, also of one that fails, and would keep the delay at its least for ever.
#[derive(Debug, Default)]
pub(super) struct RetryDelays {
    row: Option<(ExponentialBackoff, Instant)>,
}

impl RetryDelays {
    fn next_at(&mut self, now: Instant) -> Option<Duration> {
        let row = self.row.take().filter(|(_, last)| now.saturating_duration_since(*last) <= ROW);
        let mut delays = row.map_or_else(first_of_row, |(delays, _)| delays);
        let delay = delays.next();
        self.row = Some((delays, now));
        delay
    }
}

impl Iterator for RetryDelays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.next_at(Instant::now())
    }
}

impl Backoff for RetryDelays {
    fn reset(&mut self) {}
}

fn first_of_row() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(LEAST_DELAY).with_max_delay(GREATEST_DELAY);
    builder.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_within_a_row_of_failures_and_start_anew_after_it() {
        let (mut delays, mut now) = (RetryDelays::default(), Instant::now());
        let mut base = LEAST_DELAY;
        for _ in 0..40 {
            let delay = delays.next_at(now).unwrap();
            assert!(base <= delay && delay <= 2 * base, "{delay:?} for {base:?}");
            delays.reset();
            now += delay;
            base = (2 * base).min(GREATEST_DELAY);
        }
        now += ROW + Duration::from_secs(1);
        assert!(delays.next_at(now).unwrap() <= 2 * LEAST_DELAY);
    }
}
