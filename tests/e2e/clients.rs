//! Clients that nobody here wrote: kubectl, the metrics clients of client-go, and the aggregation of kube-apiserver.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Bed, Cluster, Script, Served, eventually, install, publish, report, store};

/// A table as its cells, without the padding.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_and_client_go_read_values_in_every_form() {
    install();
    let cluster = Cluster::new("clients").await;
    let store = store();
    let scripts = [Script { name: "awake", desired: Some(21) }, Script { name: "unknown", desired: None }];
    publish(&store, &cluster.namespace, &scripts);
    let served = Served::start(store.clone()).await;
    let before = kube_apiserver_errors().len();
    served.register();

    let kubectl = |arguments: &str| {
        let namespace = cluster.namespace.as_str();
        let mut all: Vec<&str> = arguments.split(' ').collect();
        if !all.contains(&"-A") {
            all.extend(["--namespace", namespace]);
        }
        Bed::get().kubectl(&all)
    };
    // kubectl's view of discovery follows the registration within a moment.
    eventually("kubectl knows the resource", Duration::from_secs(30), async || {
        let (namespace, bed) = (cluster.namespace.as_str(), Bed::get());
        bed.try_kubectl(&["get", "wva_desired_replicas", "--namespace", namespace], None)
    })
    .await;
    let table = kubectl("get wva_desired_replicas");
    assert_eq!(rows(&table)[0], ["VARIANT", "MODEL", "ACCELERATOR", "DESIRED", "CURRENT", "REASON", "AGE"], "{table}");
    assert_eq!(rows(&table)[1][..6], ["awake", "meta/llama", "H100", "21", "1", "saturation: scripted"], "{table}");
    assert!(rows(&table)[2].contains(&format!("variant {}/unknown: no metrics; scripted", cluster.namespace).as_str()));
    assert_eq!(rows(&kubectl("get wva_desired_replicas awake"))[1][0], "awake");
    let everywhere = kubectl("get wva_desired_replicas -A");
    assert!(rows(&everywhere)[1].starts_with(&[&cluster.namespace, "awake"]), "{everywhere}");
    assert_eq!(kubectl("get wva_desired_replicas awake -o jsonpath={.value}"), "21");
    assert_eq!(kubectl("get wva_desired_replicas -l variant_name=awake -o jsonpath={.items[*].value}"), "21");
    assert!(kubectl("get wva_desired_replicas awake -o yaml").contains("metricName: wva_desired_replicas"));
    let list: Value = serde_json::from_str(&kubectl("get wva_desired_replicas -o json")).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "awake", "{list}");
    assert!(kubectl("api-resources --api-group=external.metrics.k8s.io").contains("ExternalMetricValue"));
    // kube-apiserver fetches the schemas of a server some time after its registration.
    let explained = eventually("kube-apiserver has our schemas", Duration::from_secs(120), async || {
        Bed::get().try_kubectl(&["explain", "wva_desired_replicas"], None)
    })
    .await;
    assert!(explained.contains("A value of an external metric of a variant."), "{explained}");
    let field = kubectl("explain wva_desired_replicas.timestamp");
    assert!(field.contains("When the value was decided."), "{field}");
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas/awake/explain",
        cluster.namespace
    );
    let why: Value = serde_json::from_str(&kubectl(&format!("get --raw {path}"))).unwrap();
    assert_eq!((&why["summary"]["desired"], &why["decision"]["accelerator"]), (&json!(21), &json!("H100")), "{why}");

    assert_client_go(&cluster);
    let errors = kube_apiserver_errors();
    assert!(errors[before..].is_empty(), "{:#?}", &errors[before..]);
    report(
        "clients",
        "kubectl: table, -A, one name, json, yaml, jsonpath, explain, api-resources; client-go: JSON, protobuf",
    );
}

/// What each client of client-go got.
fn assert_client_go(cluster: &Cluster) {
    let printed = Bed::get().metrics_client(&[&cluster.namespace, "awake"]);
    let got: BTreeMap<&str, Value> = printed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(client, json)| (client, serde_json::from_str(json).unwrap()))
        .collect();
    for encoding in ["json", "protobuf"] {
        let of = |client: &str| &got[format!("{client} {encoding}").as_str()];
        assert_eq!(of("external")["items"][0]["value"], "21", "{printed}");
        assert_eq!(of("external")["items"][0]["metricLabels"]["accelerator_type"], "H100", "{printed}");
        let absent = of("external absent");
        assert_eq!(absent["reason"], "NotFound", "{printed}");
        assert!(absent["error"].as_str().unwrap().contains("known there: \"awake\""), "{printed}");
        for version in ["v1beta1", "v1beta2", "preferred"] {
            for kind in ["Deployment", "VariantAutoscaling"] {
                let value = &got[format!("custom {version} {encoding} {kind}").as_str()];
                assert_eq!(value["value"], "21", "{version} {encoding} {kind}: {value}");
                assert_eq!(value["describedObject"]["kind"], kind, "{value}");
            }
            let all = &got[format!("custom {version} {encoding} all").as_str()];
            assert_eq!(all["items"][0]["value"], "21", "{all}");
            let of = |what: &str| &got[format!("custom {version} {encoding} {what}").as_str()];
            let everywhere = of("everywhere")["items"].as_array().unwrap();
            let is_ours = |item: &&Value| item["describedObject"]["namespace"] == cluster.namespace.as_str();
            assert_eq!(everywhere.iter().find(is_ours).unwrap()["value"], "21", "{everywhere:?}");
            for other in ["node", "namespace"] {
                assert_eq!(of(other)["reason"], "NotFound", "{}", of(other));
                assert!(of(other)["error"].as_str().unwrap().contains("metrics here are those of deployments.apps"));
            }
        }
    }
    let discovered = got["discovery"].to_string();
    for resource in [
        "external.metrics.k8s.io/v1beta1/wva_desired_replicas ExternalMetricValue [get list]",
        "external.metrics.llmd.ai/v1beta1/wva_desired_replicas ExternalMetricValue [get list]",
        "custom.metrics.k8s.io/v1beta2/deployments.apps/wva_desired_replicas MetricValueList [get]",
    ] {
        assert!(discovered.contains(resource), "{discovered}");
    }
    let documents = got["openapi"].as_array().unwrap();
    assert_eq!(documents.len(), 4, "{documents:?}");
    assert!(documents.iter().all(|document| document.as_str().unwrap().ends_with(" true")), "{documents:?}");
}

/// Error lines of kube-apiserver's log that name one of our groups, but for those that this harness causes: the server of
/// another test is gone by then, and an APIService is changed while its status is written.
fn kube_apiserver_errors() -> Vec<String> {
    const OF_THE_HARNESS: [&str; 3] =
        ["connection refused", "could not get list of group", "the object has been modified"];
    let log = std::fs::read_to_string(Bed::get().log("kube-apiserver")).unwrap();
    let ours = |line: &&str| line.starts_with('E') && (line.contains(".metrics.k8s.io") || line.contains("llmd.ai"));
    let is_of_another = |line: &str| OF_THE_HARNESS.iter().any(|part| line.contains(part));
    log.lines().filter(ours).filter(|line| !is_of_another(line)).map(str::to_owned).collect()
}
