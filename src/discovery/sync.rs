//! How far the watches have come, and what stands in their way.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{core::Status, runtime::watcher};
use thiserror::Error;

/// How long a failure to watch counts without being repeated. A watch that works again says nothing until an object
/// changes; one that does not fails again after the greatest delay (10 s) and kube's connect timeout (30 s).
const FAILURE_AGE: Duration = Duration::from_mins(1);

/// The watched kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WatchedResource {
    VariantAutoscalings,
    Deployments,
    StatefulSets,
    ReplicaSets,
    Pods,
    HorizontalPodAutoscalers,
    Namespaces,
    Nodes,
    ResourceQuotas,
    ScaledObjects,
    ResourceSlices,
    ResourceClaims,
    ResourceClaimTemplates,
    /// Scale targets of a kind that is not built in, by its name in the API.
    Scaled(Arc<str>),
}

impl WatchedResource {
    /// Without these, no variant is known for what it is.
    pub(crate) const REQUIRED: [Self; 6] = [
        Self::VariantAutoscalings,
        Self::Deployments,
        Self::StatefulSets,
        Self::ReplicaSets,
        Self::Pods,
        Self::HorizontalPodAutoscalers,
    ];

    /// These are waited for, but may be refused: an installation in one namespace may see no nodes.
    pub(crate) const AWAITED: [Self; 4] = [Self::Namespaces, Self::Nodes, Self::ResourceQuotas, Self::ScaledObjects];

    /// Whether the kind is defined by a `CustomResourceDefinition` or an API that a cluster may lack.
    fn may_be_absent(&self) -> bool {
        matches!(
            self,
            Self::VariantAutoscalings
                | Self::ScaledObjects
                | Self::ResourceSlices
                | Self::ResourceClaims
                | Self::ResourceClaimTemplates
                | Self::Scaled(_)
        )
    }

    /// Whether a cluster without the kind is as good as any.
    pub(crate) fn is_optional(&self) -> bool {
        self.may_be_absent() && *self != Self::VariantAutoscalings
    }
}

impl fmt::Display for WatchedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VariantAutoscalings => "variantautoscalings.llmd.ai",
            Self::Deployments => "deployments.apps",
            Self::StatefulSets => "statefulsets.apps",
            Self::ReplicaSets => "replicasets.apps",
            Self::Pods => "pods",
            Self::HorizontalPodAutoscalers => "horizontalpodautoscalers.autoscaling",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::ResourceQuotas => "resourcequotas",
            Self::ScaledObjects => "scaledobjects.keda.sh",
            Self::ResourceSlices => "resourceslices.resource.k8s.io",
            Self::ResourceClaims => "resourceclaims.resource.k8s.io",
            Self::ResourceClaimTemplates => "resourceclaimtemplates.resource.k8s.io",
            Self::Scaled(name) => name,
        })
    }
}

/// Why a kind cannot be listed or watched.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum WatchFailure {
    #[error(
        "the CustomResourceDefinition {0} is not installed; apply the CustomResourceDefinition of this release, \
         it is picked up within seconds"
    )]
    NotInstalled(WatchedResource),
    #[error("the API server does not serve {0} in the version needed; upgrade the cluster")]
    NotServed(WatchedResource),
    #[error("listing and watching {0} is forbidden ({1}); grant the service account get, list and watch on {0}")]
    Forbidden(WatchedResource, String),
    #[error("{0} cannot be listed and watched: {1}; check that the API server is reachable, it is tried again")]
    Other(WatchedResource, String),
}

impl WatchFailure {
    /// The failure behind an error of a watch.
    pub(crate) fn new(resource: &WatchedResource, error: &watcher::Error) -> Self {
        let resource = resource.clone();
        let status = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => status,
            other => return Self::Other(resource, other.to_string()),
        };
        let Status { code, message, .. } = status.as_ref();
        match code {
            404 if resource.may_be_absent() => Self::NotInstalled(resource),
            404 => Self::NotServed(resource),
            401 | 403 => Self::Forbidden(resource, message.clone()),
            _ => Self::Other(resource, format!("{message} ({code})")),
        }
    }
}

/// How far each watch has come.
#[derive(Debug, Default)]
pub(crate) struct SyncState {
    watches: BTreeMap<WatchedResource, WatchState>,
}

#[derive(Debug, Default)]
struct WatchState {
    listed: bool,
    /// The cluster has no such objects, or shows us none.
    refused: bool,
    failure: Option<(WatchFailure, Instant)>,
}

impl SyncState {
    /// The watch delivered: its list is complete, or an object changed. Returns the failure that this ends.
    pub(crate) fn delivered(&mut self, resource: &WatchedResource) -> Option<WatchFailure> {
        let watch = self.watch(resource);
        watch.listed = true;
        watch.failure.take().map(|(failure, _)| failure)
    }

    /// The watch failed at `now`. Returns whether this is news.
    ///
    /// Where the kind does not exist, there are no objects of it: that is as good as an empty list.
    pub(crate) fn failed(&mut self, resource: &WatchedResource, failure: WatchFailure, now: Instant) -> bool {
        let watch = self.watch(resource);
        watch.listed |= matches!(failure, WatchFailure::NotInstalled(_));
        watch.refused |= !matches!(failure, WatchFailure::Other(..));
        let news = watch.failure.as_ref().is_none_or(|(known, at)| *known != failure || is_over(*at, now));
        watch.failure = Some((failure, now));
        news
    }

    fn watch(&mut self, resource: &WatchedResource) -> &mut WatchState {
        self.watches.entry(resource.clone()).or_default()
    }

    /// Whether this kind was listed once.
    pub(crate) fn is_listed(&self, resource: &WatchedResource) -> bool {
        self.watches.get(resource).is_some_and(|watch| watch.listed)
    }

    /// Whether every kind that is needed was listed once, and the others at least asked for.
    pub(crate) fn is_synced(&self) -> bool {
        let is_answered =
            |resource| self.watches.get(resource).is_some_and(|watch: &WatchState| watch.listed || watch.refused);
        WatchedResource::REQUIRED.iter().all(|resource| self.is_listed(resource))
            && WatchedResource::AWAITED.iter().all(is_answered)
    }

    /// What keeps the view of variants from being complete and current; `None` when nothing does.
    pub(crate) fn problem(&self, now: Instant) -> Option<String> {
        let (mut failures, mut unlisted) = (Vec::new(), Vec::new());
        let unseen = WatchState::default();
        let state = |resource| self.watches.get(resource).unwrap_or(&unseen);
        for resource in &WatchedResource::REQUIRED {
            let watch = state(resource);
            match &watch.failure {
                Some((failure, at)) if !watch.listed || !is_over(*at, now) => failures.push(failure.to_string()),
                _ if !watch.listed => unlisted.push(resource.to_string()),
                _ => {}
            }
        }
        for resource in &WatchedResource::AWAITED {
            let watch = state(resource);
            match &watch.failure {
                _ if watch.listed || watch.refused => {}
                Some((failure, _)) => failures.push(failure.to_string()),
                None => unlisted.push(resource.to_string()),
            }
        }
        if !unlisted.is_empty() {
            failures.push(format!("{} not listed yet; this passes within seconds of start", unlisted.join(", ")));
        }
        (!failures.is_empty()).then(|| failures.join("; "))
    }
}

/// Whether a failure last seen at `at` is taken to have ended.
fn is_over(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) > FAILURE_AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_error(code: u16) -> watcher::Error {
        let status = Status { code, message: "no".to_owned(), ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    fn all_listed() -> SyncState {
        let mut sync = SyncState::default();
        for resource in WatchedResource::REQUIRED.iter().chain(&WatchedResource::AWAITED) {
            sync.delivered(resource);
        }
        sync
    }

    #[test]
    fn failures_say_what_to_do() {
        use WatchedResource::{HorizontalPodAutoscalers, Pods, VariantAutoscalings};
        for (resource, code, remedy) in [
            (VariantAutoscalings, 404, "apply the CustomResourceDefinition"),
            (HorizontalPodAutoscalers, 404, "upgrade the cluster"),
            (Pods, 403, "grant the service account get, list and watch on pods"),
            (Pods, 500, "check that the API server is reachable"),
        ] {
            let failure = WatchFailure::new(&resource, &api_error(code)).to_string();
            assert!(failure.contains(remedy) && failure.contains(&resource.to_string()), "{failure}");
        }
    }

    #[test]
    fn the_view_is_synced_once_every_kind_was_listed() {
        let mut sync = SyncState::default();
        for resource in WatchedResource::REQUIRED.iter().chain(&WatchedResource::AWAITED) {
            assert!(!sync.is_synced());
            assert!(sync.problem(Instant::now()).unwrap().contains(&resource.to_string()));
            sync.delivered(resource);
        }
        assert!(sync.is_synced());
        assert_eq!(sync.problem(Instant::now()), None);
    }

    #[test]
    fn what_is_only_useful_may_be_refused_but_is_waited_for_while_the_server_is_ill() {
        let now = Instant::now();
        for (code, synced) in [(403, true), (404, true), (500, false)] {
            let mut sync = SyncState::default();
            for resource in &WatchedResource::REQUIRED {
                sync.delivered(resource);
            }
            for resource in &WatchedResource::AWAITED {
                sync.failed(resource, WatchFailure::new(resource, &api_error(code)), now);
            }
            assert_eq!((sync.is_synced(), sync.problem(now).is_none()), (synced, synced), "{code}");
            assert!(!sync.is_listed(&WatchedResource::Nodes));
        }
    }

    #[test]
    fn a_crd_that_is_not_installed_is_an_empty_list_with_a_remedy() {
        let (resource, now) = (WatchedResource::VariantAutoscalings, Instant::now());
        let mut sync = SyncState::default();
        for other in WatchedResource::REQUIRED[1..].iter().chain(&WatchedResource::AWAITED) {
            sync.delivered(other);
        }
        let failure = WatchFailure::new(&resource, &api_error(404));
        assert!(sync.failed(&resource, failure.clone(), now));
        assert!(!sync.failed(&resource, failure.clone(), now), "said once");
        assert!(sync.is_synced());
        assert!(sync.problem(now).unwrap().contains("is not installed"));
        assert_eq!(sync.delivered(&resource), Some(failure));
        assert_eq!(sync.problem(now), None);
    }

    #[test]
    fn a_watch_that_fails_no_more_is_taken_to_work() {
        let (resource, start) = (WatchedResource::Pods, Instant::now());
        let mut sync = all_listed();
        sync.failed(&resource, WatchFailure::new(&resource, &api_error(500)), start);
        assert!(sync.problem(start + FAILURE_AGE).is_some());
        let later = start + FAILURE_AGE + Duration::from_secs(1);
        assert_eq!(sync.problem(later), None);
        assert!(sync.failed(&resource, WatchFailure::new(&resource, &api_error(500)), later), "news again");
    }

    #[test]
    fn a_kind_that_was_never_listed_stays_a_problem() {
        let (resource, start) = (WatchedResource::Pods, Instant::now());
        let mut sync = SyncState::default();
        sync.failed(&resource, WatchFailure::new(&resource, &api_error(403)), start);
        assert!(sync.problem(start + 10 * FAILURE_AGE).unwrap().contains("forbidden"));
    }
}
