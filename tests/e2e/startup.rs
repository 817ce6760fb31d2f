//! A process that cannot start ends with a message that names what is wrong, and the remedy.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use tempfile::tempdir;

use crate::harness::{Bed, Process, report};

const LIMIT: Duration = Duration::from_secs(30);
const PROMETHEUS: &str = "--prometheus-url=http://127.0.0.1:9";

/// Runs `wva serve` until it ends, which must be a failure; returns what it printed.
async fn failure(arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> String {
    let mut all = vec!["serve", "--server-bind-address=127.0.0.1", "--server-port=0"];
    all.extend(arguments);
    let mut process = Process::start("serve", &all, environment, folder);
    let status = process.exit(LIMIT).await;
    let printed = process.log();
    assert!(!status.success(), "{arguments:?}: {status}\n{printed}");
    printed
}

fn assert_names(printed: &str, parts: &[&str]) {
    for part in parts {
        assert!(printed.contains(part), "no {part:?} in\n{printed}");
    }
    report("start-up", printed.lines().rfind(|line| line.contains(parts[0])).unwrap_or_default());
}

#[tokio::test]
async fn a_wrong_configuration_is_named_key_by_key() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, "promethues:\n  url: http://127.0.0.1:9\n").unwrap();
    let document = format!("--config-file={}", file.display());
    let cluster = ("KUBECONFIG", Bed::get().kubeconfig.as_str());

    let printed = failure(&[&document, PROMETHEUS], &[cluster], folder.path()).await;
    assert_names(&printed, &["promethues", "is not a configuration key", "did you mean prometheus"]);
    let printed = failure(&[PROMETHEUS], &[cluster, ("WVA_ENGINE_INTERVALL", "1s")], folder.path()).await;
    assert_names(&printed, &["WVA_ENGINE_INTERVALL", "did you mean WVA_ENGINE_INTERVAL?"]);
    let printed = failure(&[PROMETHEUS, "--ages-signal=10"], &[cluster], folder.path()).await;
    assert_names(&printed, &["ages.signal is `10`", "--ages-signal", "such as 10s"]);
    let printed = failure(&[], &[cluster], folder.path()).await;
    assert_names(&printed, &["prometheus.url is `not set`", "set it to the address of Prometheus"]);
}

#[tokio::test]
async fn without_a_cluster_the_address_that_was_tried_is_named() {
    let folder = tempdir().unwrap();
    let printed = failure(&[PROMETHEUS], &[], folder.path()).await;
    assert_names(&printed, &["cannot find a Kubernetes cluster", "KUBECONFIG"]);

    let kubeconfig = folder.path().join("kubeconfig");
    let real = fs::read_to_string(&Bed::get().kubeconfig).unwrap();
    let server = real.lines().find(|line| line.trim_start().starts_with("server: ")).unwrap();
    fs::write(&kubeconfig, real.replace(server, "    server: https://127.0.0.1:9")).unwrap();
    let environment = [("KUBECONFIG", kubeconfig.to_str().unwrap())];
    let printed = failure(&[PROMETHEUS], &environment, folder.path()).await;
    assert_names(&printed, &["kube-apiserver at https://127.0.0.1:9", "does not answer", "KUBECONFIG"]);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let folder = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    // The last of two equal flags would be refused; the port is given in the environment instead.
    let port = address.port().to_string();
    let arguments = ["serve", "--server-bind-address=127.0.0.1", PROMETHEUS];
    let environment = [("KUBECONFIG", Bed::get().kubeconfig.as_str()), ("WVA_SERVER_PORT", &port)];
    let mut process = Process::start("serve", &arguments, &environment, folder.path());
    assert!(!process.exit(LIMIT).await.success());
    assert_names(&process.log(), &[&address.to_string(), "choose another address"]);
}
