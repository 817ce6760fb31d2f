//! What happened to the replicas of some variants, looked at ten times a second.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus},
};
use kube::{Api, ResourceExt, api::ListParams};
use tokio::{sync::watch, task::JoinHandle};

use super::Cluster;

const PERIOD: Duration = Duration::from_millis(100);

/// One look at one variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `spec.replicas` of its Deployment.
    pub replicas: u32,
    /// The value its HPA last read; `None` before the first.
    pub read: Option<u32>,
}

/// What was seen.
#[derive(Default)]
struct Seen {
    /// Changes of each variant.
    changes: BTreeMap<String, Vec<(Duration, Sample)>>,
    /// The decisions served: desired replicas by variant.
    decisions: Vec<BTreeMap<String, u32>>,
}

/// Looks until it is dropped.
pub struct Timeline {
    seen: Arc<Mutex<Seen>>,
    looks: watch::Receiver<usize>,
    looking: JoinHandle<()>,
}

impl Timeline {
    /// Begins to look at all Deployments and HPAs of the namespace, which have the names of their variants.
    pub fn start(cluster: &Cluster) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (counted, looks) = watch::channel(0);
        let looking = tokio::spawn(look(cluster.clone(), seen.clone(), counted));
        Self { seen, looks, looking }
    }

    /// Waits for that many more looks, for what must not happen.
    pub async fn looks(&self, more: usize) {
        let mut looks = self.looks.clone();
        let enough = *looks.borrow() + more;
        looks.wait_for(|count| *count >= enough).await.expect("looking did not fail");
    }

    /// The changes of a variant so far, with the time since the start.
    pub fn of(&self, variant: &str) -> Vec<(Duration, Sample)> {
        self.seen.lock().unwrap().changes.get(variant).cloned().unwrap_or_default()
    }

    /// The decisions that were served, each with the desired replicas of all variants.
    pub fn decisions(&self) -> Vec<BTreeMap<String, u32>> {
        self.seen.lock().unwrap().decisions.clone()
    }

    /// When a variant was set to other replicas, and to how many.
    pub fn scalings(&self, variant: &str) -> Vec<(Duration, u32)> {
        let mut scalings: Vec<_> = self.of(variant).into_iter().map(|(at, sample)| (at, sample.replicas)).collect();
        scalings.dedup_by_key(|(_, replicas)| *replicas);
        scalings
    }

    /// One line a variant: `cheap 1 at 0.0 s, 2 at 4.1 s`.
    pub fn table(&self, variants: &[&str]) -> String {
        let mut table = String::new();
        for variant in variants {
            let scalings = self.scalings(variant);
            let steps: Vec<_> = scalings.iter().map(|(at, n)| format!("{n} at {:.1} s", at.as_secs_f64())).collect();
            write!(table, "\n      {variant:<8} {}", steps.join(", ")).unwrap();
        }
        table
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(cluster: Cluster, seen: Arc<Mutex<Seen>>, counted: watch::Sender<usize>) {
    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), &cluster.namespace);
    let hpas = Api::<HorizontalPodAutoscaler>::namespaced(cluster.client.clone(), &cluster.namespace);
    let (everything, started) = (ListParams::default(), Instant::now());
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let (deployments, hpas, decision) =
            tokio::join!(deployments.list(&everything), hpas.list(&everything), cluster.read_all());
        let (deployments, hpas) = (deployments.unwrap(), hpas.unwrap());
        let read: BTreeMap<_, _> = hpas.iter().map(|hpa| (hpa.name_any(), value_read(hpa.status.as_ref()))).collect();
        counted.send_modify(|count| *count += 1);
        let mut seen = seen.lock().unwrap();
        // An error is no decision.
        seen.decisions.extend(decision);
        for deployment in deployments {
            let (name, replicas) = (deployment.name_any(), deployment.spec.unwrap().replicas.unwrap());
            let sample = Sample { replicas: replicas.try_into().unwrap(), read: read.get(&name).copied().flatten() };
            let known = seen.changes.entry(name).or_default();
            if known.last().is_none_or(|(_, last)| *last != sample) {
                known.push((started.elapsed(), sample));
            }
        }
    }
}

/// The HPA shows the value divided by the replicas it had then, rounded up to thousandths.
fn value_read(status: Option<&HorizontalPodAutoscalerStatus>) -> Option<u32> {
    let status = status?;
    let average = &status.current_metrics.as_ref()?.first()?.external.as_ref()?.current.average_value.as_ref()?.0;
    let average: f64 = match average.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().unwrap() / 1000.0,
        None => average.parse().unwrap(),
    };
    Some((average * f64::from(status.current_replicas?)).round() as u32)
}
