//! A fleet in real time: simulated time follows a clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    accounts::{Attainment, VariantStatus},
    exposition::{EngineScrape, Exposition, GatewayScrape},
    models::Fleet,
    pool::Pool,
    replica::{ReplicaId, ReplicaState},
    time::Picoseconds,
};
use crate::{clock::Clock, interfaces::ModelKey};

/// How often time passes when nobody looks, on the wall. Nothing depends on it but how much work one look can meet.
const TICK: Duration = Duration::from_millis(100);

/// A fleet whose time is that of a clock. Whoever looks sees it as of now.
#[derive(Debug)]
pub struct LiveFleet {
    clock: Arc<dyn Clock>,
    started: Timestamp,
    exposition: Exposition,
    fleet: Mutex<Fleet>,
}

impl LiveFleet {
    /// A fleet that starts now.
    pub fn new(clock: Arc<dyn Clock>, exposition: Exposition) -> Self {
        Self { started: clock.now(), clock, exposition, fleet: Mutex::default() }
    }

    /// Looks at the fleet as of now, or changes it.
    pub fn with<R>(&self, act: impl FnOnce(&mut Fleet) -> R) -> R {
        // What a panicking holder left is a fleet at some time: still the best there is.
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        fleet.advance_to(self.elapsed());
        act(&mut fleet)
    }

    /// How long a piece of simulated time lasts on the wall.
    pub fn wall(&self, time: Picoseconds) -> Duration {
        self.clock.wall(time.into())
    }

    /// The time of the clock.
    pub fn timestamp(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass until `shutdown`.
    pub async fn drive(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.with(|_| ());
        }
    }

    /// What the engine of a replica exports now; `None` when the replica is gone.
    pub fn scrape(&self, key: &ModelKey, id: ReplicaId) -> Option<EngineScrape> {
        self.with(|fleet| {
            let replica = fleet.pool(key)?.replica(id)?;
            Some(EngineScrape::new(self.exposition, &key.model_id, replica.engine()))
        })
    }

    /// What the gateway of a namespace exports now.
    pub fn scrape_gateway(&self, namespace: &str) -> GatewayScrape {
        self.with(|fleet| {
            let mut scrape = GatewayScrape::default();
            for (key, pool) in fleet.pools().filter(|(key, _)| *key.namespace == *namespace) {
                scrape.add(&key.model_id, pool);
            }
            scrape
        })
    }

    /// The whole fleet as it stands.
    pub fn report(&self) -> FleetReport {
        self.with(|fleet| FleetReport {
            elapsed_seconds: fleet.now().as_secs_f64(),
            models: fleet.pools().map(|(key, pool)| PoolReport::new(key, pool)).collect(),
        })
    }

    fn elapsed(&self) -> Picoseconds {
        let elapsed = self.clock.now().duration_since(self.started);
        // A system clock that was set back stops the fleet until it has caught up.
        Duration::try_from(elapsed).map_or(Picoseconds::ZERO, Picoseconds::from)
    }
}

/// A fleet as `GET /state` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetReport {
    /// Simulated time since the start.
    pub elapsed_seconds: f64,
    /// The models.
    pub models: Vec<PoolReport>,
}

/// One model's part of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolReport {
    /// Namespace of its variants.
    pub namespace: Arc<str>,
    /// Its name.
    pub model: Arc<str>,
    /// Requests held at the gateway.
    pub gateway_queue: usize,
    /// How its requests have fared.
    pub requests: Attainment,
    /// Requests still on their way.
    pub in_flight: u64,
    /// Share of the arrived requests that met the objective; `null` before the first.
    pub slo_attainment: Option<f64>,
    /// Replica hours times price.
    pub cost: f64,
    /// Its variants.
    pub variants: Vec<VariantStatus>,
    /// Its replicas.
    pub replicas: Vec<ReplicaReport>,
}

/// One replica's part of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaReport {
    /// Its name in the pool.
    pub id: ReplicaId,
    /// Its variant.
    pub variant: String,
    /// Where it is in its life.
    pub state: ReplicaState,
    /// Requests in the batch.
    pub running: usize,
    /// Requests that wait for a place in it.
    pub waiting: usize,
    /// Used share of the KV cache, 0 to 1.
    pub kv_usage: f64,
}

impl PoolReport {
    fn new(key: &ModelKey, pool: &Pool) -> Self {
        let requests = pool.attainment();
        let replicas = pool.replicas().iter().map(|replica| ReplicaReport {
            id: replica.id(),
            variant: pool.variant_of(replica).name.clone(),
            state: replica.state(),
            running: replica.engine().running(),
            waiting: replica.engine().waiting(),
            kv_usage: replica.engine().kv_usage(),
        });
        Self {
            namespace: key.namespace.clone(),
            model: key.model_id.clone(),
            gateway_queue: pool.gateway_queue(),
            requests,
            in_flight: requests.in_flight(),
            slo_attainment: requests.ratio(),
            cost: pool.cost(),
            variants: pool.status(),
            replicas: replicas.collect(),
        }
    }
}
