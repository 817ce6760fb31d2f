//! Several replicas: one decides, all answer alike.

use std::{
    env, fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Cycle, certificate, tasks::Tasks};
use crate::{
    actuator::Actuator,
    apiserver::ReadinessCheck,
    clock::Clock,
    config::LiveConfig,
    decisions::DecisionStore,
    discovery::ClusterState,
    election::{Elector, ElectorOptions, Leadership},
    replication::{Archive, ArchiveError, Received, follow},
};

/// The Lease that the leader holds.
const LEASE: &str = "wva";

/// The leader's work, done by whichever replica leads.
pub(super) struct Leader {
    cycle: Arc<Cycle>,
    store: Arc<DecisionStore>,
    clock: Arc<dyn Clock>,
    leadership: watch::Receiver<Leadership>,
    archive: Mutex<Archive>,
    /// Whether the process is about to end.
    resigned: AtomicBool,
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("leadership", &*self.leadership.borrow()).finish_non_exhaustive()
    }
}

impl Leader {
    fn term(&self) -> Option<i32> {
        if self.resigned.load(Ordering::SeqCst) { None } else { self.leadership.borrow().term() }
    }

    /// Decides once and shares the outcome, if this replica leads.
    pub(super) async fn turn(&self) {
        let mut archive = self.archive.lock().await;
        let Some(term) = self.term() else { return };
        if archive.term() != Some(term) {
            match archive.take_over(term).await {
                Ok(state) => self.cycle.restore(state.unwrap_or_default().taken_over(self.clock.now())),
                Err(error) => return warn!(%error, "the leadership cannot be taken up yet"),
            }
        }
        let leads = || self.term() == Some(term);
        if !self.cycle.run_while(leads).await {
            return;
        }
        let saved = archive.save(&self.store.decisions(), &self.cycle.state(), self.clock.now()).await;
        if let Err(error) = saved {
            warn!(%error, "decisions are not shared with the other replicas");
        }
    }

    /// Decides no more, and leaves the state to the next leader.
    pub(super) async fn resign(&self) {
        let was_leading = self.term().is_some();
        self.resigned.store(true, Ordering::SeqCst);
        // A turn that has begun is finished first.
        let mut archive = self.archive.lock().await;
        if !was_leading {
            return;
        }
        match archive.save_state(&self.cycle.state(), self.clock.now()).await {
            Ok(()) => info!("the state is left to the next leader"),
            Err(ArchiveError::Deposed { .. }) => {}
            Err(error) => warn!(%error, "the latest state is lost; the next leader starts from an older one"),
        }
    }
}

/// Who decides.
#[derive(Clone)]
pub(super) enum Work {
    /// This process, always.
    Alone(Arc<Cycle>),
    /// Whichever replica leads.
    Shared {
        /// What this one does when it leads.
        leader: Arc<Leader>,
        /// Makes it give the leadership back.
        resign: CancellationToken,
    },
}

impl Work {
    /// Decides once, if that is this replica's work.
    pub(super) async fn turn(&self) {
        match self {
            Self::Alone(cycle) => cycle.run().await,
            Self::Shared { leader, .. } => leader.turn().await,
        }
    }

    /// Hands the leadership over.
    pub(super) async fn resign(self) {
        if let Self::Shared { leader, resign } = self {
            leader.resign().await;
            resign.cancel();
        }
    }
}

/// What a replica among several is made of.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) client: Client,
    pub(super) live: Arc<LiveConfig>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Replica {
    fn namespace(&self) -> String {
        certificate::namespace(&self.live.config()).to_owned()
    }
}

/// Stands for election once `ready`, and serves what the leader shares while another leads. Gives the work to do, and a
/// counter that is bumped when it may have become ours.
#[expect(clippy::too_many_arguments, reason = "the composition root hands over what it has built")]
pub(super) fn start(
    replica: Replica,
    cycle: Arc<Cycle>,
    store: Arc<DecisionStore>,
    received: Actuator,
    ready: impl Future<Output = ()> + Send + 'static,
    check: ReadinessCheck,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> (Work, Option<watch::Receiver<u64>>) {
    let (elected, leadership) = watch::channel(Leadership::Follower);
    let (bump, elections) = watch::channel(0);
    let resign = stop.child_token();
    let archive = Mutex::new(Archive::new(replica.client.clone(), &replica.namespace()));
    let resigned = AtomicBool::new(false);
    let clock = replica.clock.clone();
    let observer = cycle.clone();
    let leader = Leader { cycle, store, clock, leadership: leadership.clone(), archive, resigned };

    let standing = stand(replica.clone(), elected, ready, resign.clone());
    let until_stop = stop.clone();
    tasks.spawn("leader election", async move {
        standing.await;
        until_stop.cancelled().await;
    });
    let following = serve_received(replica, observer, received, leadership, bump, check);
    let until_stop = stop.clone();
    tasks.spawn("shared decisions", async move {
        until_stop.run_until_cancelled(following).await;
    });
    (Work::Shared { leader: Arc::new(leader), resign }, Some(elections))
}

async fn stand(
    replica: Replica,
    elected: watch::Sender<Leadership>,
    ready: impl Future<Output = ()>,
    resign: CancellationToken,
) {
    if resign.run_until_cancelled(ready).await.is_none() {
        return;
    }
    let options = ElectorOptions {
        namespace: replica.namespace(),
        lease: LEASE.to_owned(),
        // A name that no other process has or had.
        identity: format!("{}_{}", env::var("POD_NAME").unwrap_or_default(), uuid::Uuid::new_v4()),
        duration: replica.live.config().leader_election.lease_duration,
    };
    Elector::new(replica.client, options, replica.clock).run(elected, resign).await;
}

/// Serves what the leader shares whenever this replica does not lead. Never ends.
async fn serve_received(
    replica: Replica,
    cycle: Arc<Cycle>,
    actuator: Actuator,
    mut leadership: watch::Receiver<Leadership>,
    bump: watch::Sender<u64>,
    check: ReadinessCheck,
) {
    let (sender, mut received) = watch::channel(None);
    let watching =
        follow(replica.client.clone(), replica.namespace(), replica.clock.clone(), sender, move || check.pass());
    let serving = async {
        loop {
            tokio::select! {
                changed = received.changed() => if changed.is_err() { break },
                changed = leadership.changed() => {
                    if changed.is_err() {
                        // Resigned: what others share is served to the end.
                        if received.changed().await.is_err() { break }
                    }
                    bump.send_modify(|elections| *elections += 1);
                }
            }
            let latest: Option<Received> = received.borrow_and_update().clone();
            if leadership.borrow_and_update().term().is_none()
                && let Some(Received { decisions, received }) = latest
            {
                // Our own view of the cluster, to find and explain the variants by.
                let snapshot = Arc::new(cycle.snapshot().await);
                if leadership.borrow().term().is_none() {
                    actuator.emit_received(snapshot, decisions, received);
                }
            }
        }
    };
    tokio::join!(watching, serving);
}

/// Until the cluster is known and signals were fetched once: who leads before would take variants away from all.
pub(super) async fn inputs_known(cluster: ClusterState, mut fetches: Vec<watch::Receiver<u64>>) {
    let mut changes = cluster.changes();
    while !cluster.is_synced() {
        let _ = timeout(Duration::from_millis(200), changes.changed()).await;
    }
    // A source that does not answer must not keep everybody from leading.
    let fetched = async {
        for refreshes in &mut fetches {
            let _ = refreshes.wait_for(|count| *count > 0).await;
        }
    };
    let _ = timeout(Duration::from_secs(10), fetched).await;
}
