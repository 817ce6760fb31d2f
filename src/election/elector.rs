//! Takes, renews and gives back the Lease.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Action, Record, action};
use crate::clock::Clock;

/// Whether this replica leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Another does, or nobody.
    Follower,
    /// It does.
    Leader {
        /// Grows with every change of hands: what carries a lower term than has been seen is outdated.
        term: i32,
    },
}

impl Leadership {
    /// The term, of a leader.
    pub fn term(self) -> Option<i32> {
        match self {
            Self::Leader { term } => Some(term),
            Self::Follower => None,
        }
    }
}

/// How to stand for election.
#[derive(Clone, Debug)]
pub struct ElectorOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name; it must exist.
    pub lease: String,
    /// This replica's name, unlike that of any other process, earlier ones included.
    pub identity: String,
    /// How long the Lease is held without a renewal. A leader that could not renew it for two thirds of this steps down.
    pub duration: Duration,
}

impl ElectorOptions {
    /// Between two looks at the Lease; client-go's 2 s for its 15 s.
    fn look(&self) -> Duration {
        self.duration * 2 / 15
    }

    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }
}

/// Stands for election.
pub struct Elector {
    leases: Api<Lease>,
    options: ElectorOptions,
    clock: Arc<dyn Clock>,
    /// The record last seen, and since when it is the same, by our own clock.
    seen: Option<(Record, Instant)>,
    /// When the Lease was last renewed by us.
    renewed: Option<Instant>,
    said: Option<String>,
}

impl fmt::Debug for Elector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elector").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Elector {
    /// An elector that does not stand yet.
    pub fn new(client: Client, options: ElectorOptions, clock: Arc<dyn Clock>) -> Self {
        let leases = Api::namespaced(client, &options.namespace);
        Self { leases, options, clock, seen: None, renewed: None, said: None }
    }

    /// Stands for election and tells `leadership` how it goes, until `resign`; then gives the Lease back if it holds it.
    pub async fn run(mut self, leadership: watch::Sender<Leadership>, resign: CancellationToken) {
        let look = self.options.look();
        while !resign.is_cancelled() {
            let now = self.look().await;
            let before = leadership.send_replace(now);
            if before != now {
                match now {
                    Leadership::Leader { term } => info!(term, identity = self.options.identity, "leading"),
                    Leadership::Follower => warn!("no longer leading: the Lease could not be renewed"),
                }
            }
            let _ = resign.run_until_cancelled(sleep(look)).await;
        }
        if leadership.send_replace(Leadership::Follower).term().is_some() {
            self.release().await;
        }
    }

    async fn look(&mut self) -> Leadership {
        // An answer that takes longer is as good as none: the deadline must be kept.
        let asked = Instant::now();
        match timeout(self.options.look().max(Duration::from_millis(500)), self.ask()).await {
            Ok(Ok(Some(term))) => {
                self.renewed = Some(asked);
                self.said = None;
                Leadership::Leader { term }
            }
            Ok(Ok(None)) => {
                self.renewed = None;
                self.said = None;
                Leadership::Follower
            }
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed("kube-apiserver did not answer in time"),
        }
    }

    fn failed(&mut self, problem: &str) -> Leadership {
        if self.said.as_deref() != Some(problem) {
            let ElectorOptions { namespace, lease, .. } = &self.options;
            warn!(
                problem,
                "Lease {namespace}/{lease} cannot be read or written; check that it exists and that the service account may \
                 get and update it (manifests/rbac/high-availability.yaml)"
            );
            self.said = Some(problem.to_owned());
        }
        let term = self.seen.as_ref().map(|(record, _)| record.transitions);
        match (self.renewed, term) {
            (Some(renewed), Some(term)) if renewed.elapsed() < self.options.deadline() => Leadership::Leader { term },
            _ => {
                self.renewed = None;
                Leadership::Follower
            }
        }
    }

    /// The term in which we lead after this look; `None` when another does.
    async fn ask(&mut self) -> kube::Result<Option<i32>> {
        let mut lease = self.leases.get(&self.options.lease).await?;
        let record = Record::of(&lease);
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => Instant::now(),
        };
        self.seen = Some((record.clone(), since));
        if action(&record, since.elapsed(), &self.options.identity) == Action::Wait {
            return Ok(None);
        }
        let mine = record.held_by(&self.options.identity, self.options.duration, self.clock.now());
        lease.spec = Some(mine.to_spec());
        match self.leases.replace(&self.options.lease, &PostParams::default(), &lease).await {
            Ok(_) => {
                let term = mine.transitions;
                self.seen = Some((mine, Instant::now()));
                Ok(Some(term))
            }
            // Another was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) {
        let give_back = async {
            let mut lease = self.leases.get(&self.options.lease).await?;
            let record = Record::of(&lease);
            if record.holder.as_deref() == Some(&self.options.identity) {
                lease.spec = Some(record.released(self.clock.now()).to_spec());
                self.leases.replace(&self.options.lease, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match timeout(self.options.deadline(), give_back).await {
            Ok(Ok(())) => info!("the Lease is given back"),
            Ok(Err(error)) => warn!(%error, "the Lease cannot be given back; it expires"),
            Err(_) => warn!("the Lease cannot be given back in time; it expires"),
        }
    }
}
