//! Two replicas behind a balancer: the leader is asked to end, and the next one is killed, while the load rises.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use crate::harness::{
    Bed, Cluster, Fleet, Load, MODEL, Reader, Timeline, Variant, Wva, eventually, install_once, report, seconds,
};

const LIMIT: Duration = Duration::from_secs(60);
/// `leaderElection.leaseDuration`.
const LEASE: Duration = Duration::from_secs(6);
const PODS: [(&str, &str); 2] = [("wva-0", "127.0.0.2"), ("wva-1", "127.0.0.3")];

async fn replica(folder: &Path, number: usize, port: u16) -> Wva {
    let mut wva = Wva::new(folder, &Bed::get().prometheus_url);
    let (pod, address) = PODS[number];
    wva.replica(pod, address, port, LEASE);
    wva.start_again().await;
    wva
}

/// The pod that holds the Lease, once one other than `than` does.
async fn leader(cluster: &Cluster, than: Option<&str>) -> &'static str {
    let leases = Api::<Lease>::namespaced(cluster.client.clone(), "wva-system");
    eventually("a replica leads", LIMIT, async || {
        let holder = leases.get("wva").await.unwrap().spec.unwrap_or_default().holder_identity.unwrap_or_default();
        let pod = PODS.iter().map(|(pod, _)| *pod).find(|pod| holder.starts_with(&format!("{pod}_")));
        pod.filter(|pod| Some(*pod) != than).ok_or(holder)
    })
    .await
}

fn ramp(rate: f64) -> Load {
    Load { rate, prompt_tokens: 4000 }
}

/// The longest row of failed reads, and how many failed in all.
fn failures(reads: &[Result<u32, String>]) -> (usize, usize) {
    let rows = reads.split(Result::is_ok).map(<[_]>::len);
    (rows.clone().max().unwrap_or_default(), rows.sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_ends_and_the_next_is_killed_in_a_load_ramp_and_nothing_jumps() {
    install_once();
    let (bed, folder) = (Bed::get(), tempfile::tempdir().unwrap());
    // Whoever led before does so no more.
    bed.kubectl(&[
        "patch",
        "lease",
        "wva",
        "-n",
        "wva-system",
        "--type=merge",
        "-p",
        r#"{"spec":{"holderIdentity":""}}"#,
    ]);
    let cluster = Cluster::new("ha").await;
    let fleet = Fleet::start(folder.path()).await;
    let first = replica(folder.path(), 0, 0).await;
    let port = first.port();
    let mut replicas = [Some(first), Some(replica(folder.path(), 1, port).await)];
    bed.testbed(&["adapter", "balanced", &port.to_string(), "2", "--ready", "/readyz", "--wait"]);
    cluster.create(&[Variant::cheap(1, 8)]).await;
    let started = leader(&cluster, None).await;
    fleet.load(&cluster.namespace, MODEL, ramp(2.0)).await;

    let timeline = Timeline::start(&cluster);
    let reader = Reader::start(&cluster, "cheap");
    timeline.looks(30).await;
    fleet.load(&cluster.namespace, MODEL, ramp(8.0)).await;
    timeline.looks(20).await;

    // SIGTERM: handed over.
    let asked = Instant::now();
    let old = PODS.iter().position(|(pod, _)| *pod == started).unwrap();
    let mut ending = replicas[old].take().unwrap();
    ending.process().terminate();
    let second = leader(&cluster, Some(started)).await;
    let handed_over = asked.elapsed();
    fleet.load(&cluster.namespace, MODEL, ramp(20.0)).await;
    let status = ending.process().exit(LIMIT).await;
    assert!(status.success(), "{status}");
    timeline.looks(40).await;
    let reads = reader.reads();
    let (_, failed) = failures(&reads);
    let of_handover = reads.len();
    assert!(of_handover > 60, "{of_handover}");
    assert_eq!(failed, 0, "of {of_handover} reads; {:?}", reads.iter().find(|read| read.is_err()));

    // SIGKILL: found out.
    replicas[old] = Some(replica(folder.path(), old, port).await);
    timeline.looks(20).await;
    let before = cluster.replicas("cheap").await;
    let victim = PODS.iter().position(|(pod, _)| *pod == second).unwrap();
    let killed = Instant::now();
    replicas[victim].take().unwrap().kill();
    eventually("a value is read again", LIMIT, async || cluster.read("cheap").await).await;
    let readable = killed.elapsed();
    leader(&cluster, Some(second)).await;
    let led = killed.elapsed();
    fleet.load(&cluster.namespace, MODEL, Load::BUSY).await;
    cluster.scaled_to("cheap", 8, LIMIT).await;
    let acted = killed.elapsed();
    let (longest, failed) = failures(&reader.reads()[of_handover..]);

    // In a rising load nothing may go down, whoever decides.
    let scalings = timeline.scalings("cheap");
    assert!(scalings.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{scalings:?}");
    assert!(before >= 1);
    report(
        "two replicas",
        &format!(
            "SIGTERM → another leads {}, {of_handover} reads, none failed; SIGKILL → value readable {}, {failed} reads \
             failed ({longest} in a row, 0.1 s apart), another leads {}, HPA at the new maximum {}{}",
            seconds(handed_over),
            seconds(readable),
            seconds(led),
            seconds(acted),
            timeline.table(&["cheap"])
        ),
    );
    drop(reader);
    let _ = bed.try_kubectl(&["delete", "namespace", &cluster.namespace, "--wait=false"], None);
    let pods =
        ["delete", "pods", "--all", "--namespace", &cluster.namespace, "--force", "--grace-period=0", "--wait=false"];
    let _ = bed.try_kubectl(&pods, None);
}
