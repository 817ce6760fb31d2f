//! An engine that exports NaN, as vLLM does for a moment at its start: nothing is known then, which is not the same as no
//! load.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};

use crate::harness::{Cluster, MODEL, Scenario, Timeline, Variant, eventually, report};

/// Loopback addresses that neither the test bed nor the fleet uses.
const ADDRESSES: [[u8; 4]; 2] = [[127, 3, 0, 1], [127, 3, 0, 2]];
const LIMIT: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_exports_nan_is_unknown_and_not_idle() {
    let scenario = Scenario::start("nan").await;
    let cluster = &scenario.cluster;
    // Share of the KV cache in use.
    let (usage, shown) = watch::channel(f64::NAN);
    let port = serve(&shown).await;
    create(cluster, port).await;

    let timeline = Timeline::start(cluster);
    let message = withheld(cluster, "export other series but no number here").await;
    assert!(message.contains("none of the 2 ready replicas"), "{message}");

    // Half is too much to do with one replica less.
    usage.send_replace(0.5);
    eventually("numbers lead to a decision", LIMIT, async || cluster.read("cheap").await).await;
    cluster.followed("cheap", LIMIT).await;

    usage.send_replace(f64::NAN);
    withheld(cluster, "none of the 2 ready replicas").await;
    timeline.looks(20).await;
    let scalings = timeline.scalings("cheap");
    assert_eq!(scalings.len(), 1, "an idle pair would have been made one: {scalings:?}");
    report("NaN", &format!("read: {message}"));
}

async fn withheld(cluster: &Cluster, reason: &str) -> String {
    eventually(&format!("the value is withheld: {reason}"), LIMIT, async || match cluster.read("cheap").await {
        Err(message) if message.contains(reason) => Ok(message),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// Serves what an engine exports on each address; returns the port they share.
async fn serve(usage: &watch::Receiver<f64>) -> u16 {
    let mut port = 0;
    for address in ADDRESSES {
        let listener = TcpListener::bind(SocketAddr::from((address, port))).await.unwrap();
        port = listener.local_addr().unwrap().port();
        let usage = Arc::new(usage.clone());
        let metrics =
            move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], exposition(*usage.borrow())) };
        let routes = Router::new().route("/metrics", get(metrics));
        tokio::spawn(async move { axum::serve(listener, routes).await });
    }
    port
}

fn exposition(usage: f64) -> String {
    let waiting = if usage.is_nan() { f64::NAN } else { 0.0 };
    let rows = [("kv_cache_usage_perc", usage), ("num_requests_waiting", waiting), ("num_requests_running", waiting)];
    let rows = rows.map(|(name, value)| {
        format!("# TYPE vllm:{name} gauge\nvllm:{name}{{engine=\"0\",model_name=\"{MODEL}\"}} {value}\n")
    });
    rows.concat()
}

/// A variant with two replicas that are these engines: the test plays their kubelet.
async fn create(cluster: &Cluster, port: u16) {
    let [mut deployment, autoscaling, hpa] = Variant::cheap(1, 3).objects();
    deployment["spec"]["replicas"] = json!(ADDRESSES.len());
    deployment["spec"]["template"]["metadata"]["annotations"] =
        json!({ "prometheus.io/scrape": "true", "prometheus.io/port": port.to_string() });
    cluster.apply(&[deployment]);
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), &cluster.namespace);
    let created = eventually("both pods are created", LIMIT, async || {
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        if found.len() == ADDRESSES.len() { Ok(found) } else { Err(format!("{} pods", found.len())) }
    })
    .await;
    for (pod, address) in created.iter().zip(ADDRESSES) {
        let address = std::net::Ipv4Addr::from(address).to_string();
        let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": Timestamp::now() });
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{ "ip": address }],
            "conditions": [ready],
        }});
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
    }
    cluster.apply(&[autoscaling, hpa]);
}
