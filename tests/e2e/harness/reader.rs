//! A variant that has to be served all the time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::Cluster;

const PERIOD: Duration = Duration::from_millis(100);

/// Reads one value ten times a second until it is dropped.
pub struct Reader {
    reads: Arc<Mutex<Vec<Result<u32, String>>>>,
    reading: JoinHandle<()>,
}

impl Reader {
    /// Begins to read the desired replicas of `variant` through kube-apiserver.
    pub fn start(cluster: &Cluster, variant: &'static str) -> Self {
        let reads = Arc::default();
        let reading = tokio::spawn(read(cluster.clone(), variant, Arc::clone(&reads)));
        Self { reads, reading }
    }

    /// What was read so far.
    pub fn reads(&self) -> Vec<Result<u32, String>> {
        self.reads.lock().unwrap().clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(cluster: Cluster, variant: &str, reads: Arc<Mutex<Vec<Result<u32, String>>>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let outcome = cluster.read(variant).await;
        reads.lock().unwrap().push(outcome);
    }
}
