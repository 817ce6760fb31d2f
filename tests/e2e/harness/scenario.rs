//! A scenario: wva installed and reachable through kube-apiserver, a fleet, and a namespace.

use std::sync::OnceLock;

use tempfile::TempDir;

use super::{Bed, Cluster, Fleet, Load, MODEL, Wva};

/// Everything a scenario uses. Dropping ends the processes and begins to delete the namespace.
pub struct Scenario {
    pub wva: Wva,
    pub fleet: Fleet,
    pub cluster: Cluster,
    /// Logs and credentials of the processes; removed after them.
    _folder: TempDir,
}

impl Scenario {
    /// With the bed's Prometheus.
    pub async fn start(name: &str) -> Self {
        Self::with_prometheus(name, &Bed::get().prometheus_url).await
    }

    /// With the Prometheus at that address.
    pub async fn with_prometheus(name: &str, prometheus_url: &str) -> Self {
        Self::start_with(name, prometheus_url, |_| {}).await
    }

    /// With what `change` makes of the way wva is started.
    pub async fn start_with(name: &str, prometheus_url: &str, change: impl FnOnce(&mut Wva)) -> Self {
        install_once();
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::new(name).await;
        let fleet = Fleet::start(folder.path()).await;
        let mut wva = Wva::new(folder.path(), prometheus_url);
        change(&mut wva);
        wva.start_again().await;
        Bed::get().testbed(&["adapter", "direct", &wva.port().to_string(), "--wait"]);
        Self { wva, fleet, cluster, _folder: folder }
    }

    /// Puts the model under load.
    pub async fn load(&self, load: Load) {
        self.fleet.load(&self.cluster.namespace, MODEL, load).await;
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        // Nobody is left to delete the pods the way a kubelet does.
        let namespace = self.cluster.namespace.as_str();
        let bed = Bed::get();
        let _ = bed.try_kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--wait=false"], None);
        let pods = ["delete", "pods", "--all", "--namespace", namespace, "--force", "--grace-period=0", "--wait=false"];
        let _ = bed.try_kubectl(&pods, None);
    }
}

/// Applies what a user applies, once in this process.
pub fn install_once() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(install);
}

/// Applies what a user applies. The Service and the APIService go first: the test bed changes them to point at a process
/// on loopback, and would not give its fields back.
pub fn install() {
    let bed = Bed::get();
    bed.kubectl(&["delete", "apiservice", "v1beta1.external.metrics.k8s.io", "--ignore-not-found"]);
    bed.kubectl(&["delete", "service", "wva", "--namespace=wva-system", "--ignore-not-found"]);
    bed.kubectl(&["apply", "--server-side", "-k", "manifests"]);
    bed.kubectl(&["apply", "-k", "apiservice"]);
}
