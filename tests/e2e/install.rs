//! What a user applies: it applies cleanly, twice, and makes the API available with no right to write workloads.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::harness::{Bed, Scenario, Variant, eventually, install};

const ACCOUNT: &str = "--as=system:serviceaccount:wva-system:wva";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_apply_twice_without_a_change_and_make_the_metric_readable() {
    install();
    let first = versions();
    assert!(first.len() > 15, "{first:?}");
    let bed = Bed::get();
    bed.kubectl(&["apply", "--server-side", "-k", "manifests"]);
    let applied = bed.kubectl(&["apply", "-k", "apiservice"]);
    assert!(applied.lines().all(|line| line.ends_with(" unchanged")), "{applied}");
    assert_eq!(first, versions());
    for object in ["crd/variantautoscalings.llmd.ai", "namespace/wva-system"] {
        bed.kubectl(&["get", object]);
    }

    let scenario = Scenario::start("install").await;
    let cluster = &scenario.cluster;
    cluster.create(&[Variant::cheap(1, 3)]).await;
    eventually("the APIService is available", Duration::from_secs(30), async || {
        let template = r#"-o=jsonpath={.status.conditions[?(@.type=="Available")]}"#;
        let condition = bed.kubectl(&["get", "apiservice", "v1beta1.external.metrics.k8s.io", template]);
        condition.contains(r#""status":"True""#).then_some(()).ok_or(condition)
    })
    .await;
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas?labelSelector=variant_name%3Dcheap",
        cluster.namespace
    );
    let list: Value = serde_json::from_str(&bed.kubectl(&["get", "--raw", &path])).unwrap();
    assert_eq!(list["items"][0]["value"], "1", "{list}");
}

#[test]
fn the_service_account_may_read_workloads_and_write_nothing_but_status_and_events() {
    install();
    let may = |verb: &str, resource: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={subresource}");
        // Exits with 1 for "no".
        Bed::get()
            .try_kubectl(&["auth", "can-i", verb, resource, &subresource, "--all-namespaces", ACCOUNT], None)
            .is_ok()
    };
    let workloads = ["deployments.apps", "statefulsets.apps", "pods", "horizontalpodautoscalers.autoscaling"];
    for workload in workloads {
        assert!(may("watch", workload), "{workload}");
        for verb in ["create", "update", "patch", "delete", "deletecollection"] {
            assert!(!may(verb, workload), "{verb} {workload}");
        }
    }
    for resource in ["deployments.apps/scale", "statefulsets.apps/scale", "variantautoscalings.llmd.ai", "secrets"] {
        assert!(!may("patch", resource) && !may("update", resource), "{resource}");
    }
    assert!(!may("get", "secrets") && !may("list", "configmaps"));
    assert!(may("patch", "variantautoscalings.llmd.ai/status") && may("create", "events.events.k8s.io"));
}

#[test]
fn the_sample_is_accepted_without_a_warning() {
    install();
    let bed = Bed::get();
    bed.kubectl(&["apply", "-f", "manifests/samples/namespace.yaml"]);
    let arguments =
        ["apply", "--dry-run=server", "--warnings-as-errors", "--validate=strict", "-k", "manifests/samples"];
    let applied = bed.kubectl(&arguments);
    for kind in ["variantautoscaling.llmd.ai/", "horizontalpodautoscaler.autoscaling/", "deployment.apps/"] {
        assert_eq!(applied.matches(kind).count(), 2, "{applied}");
    }
    bed.kubectl(&["delete", "--wait=false", "-f", "manifests/samples/namespace.yaml"]);
}

/// Resource versions of everything that is installed.
fn versions() -> BTreeMap<String, String> {
    ["manifests", "apiservice"].into_iter().flat_map(versions_in).collect()
}

fn versions_in(folder: &str) -> BTreeMap<String, String> {
    // What others write all the time, such as a Deployment's status, is not ours.
    let generation = "{.kind}/{.metadata.name} {.metadata.generation} {.metadata.labels} {.data} {.rules} {.spec}";
    let template = format!("-o=jsonpath={{range .items[*]}}{generation}{{\"\\n\"}}{{end}}");
    let listed = Bed::get().kubectl(&["get", "-k", folder, &template]);
    listed.lines().filter_map(|line| line.split_once(' ')).map(|(name, seen)| (name.into(), seen.into())).collect()
}
