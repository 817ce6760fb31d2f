//! Mistakes of a variant's owner: each is told where the owner looks, and no other variant suffers.

use serde_json::{Value, json};

use crate::harness::{Bed, Cluster, MODEL, Reader, Scenario, Variant, report};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_one_variant_is_explained_and_the_others_are_served_meanwhile() {
    let scenario = Scenario::start("bad-input").await;
    let cluster = &scenario.cluster;
    cluster.create(&[Variant::cheap(1, 3)]).await;
    let reader = Reader::start(cluster, "cheap");

    refused_by_the_schema(cluster);
    let told = [
        missing_target(cluster).await,
        two_variants_on_one_target(cluster).await,
        wrong_model(cluster).await,
        tolerance_left_at_its_default(cluster).await,
        target_of_type_value(cluster).await,
    ];

    let reads = reader.reads();
    assert!(reads.len() > 10 && reads.iter().all(|read| *read == Ok(1)), "{reads:?}");
    report(
        "bad input",
        &format!("{} reads of the healthy variant, none failed; the others' owners are told:", reads.len()),
    );
    for message in told {
        report("bad input", &message);
    }
}

fn refused_by_the_schema(cluster: &Cluster) {
    let with = |field: &str, value: Value| {
        let mut object = Variant::dear(2, 4).autoscaling();
        object["spec"][field] = value;
        cluster.try_apply(&[object]).unwrap_err()
    };
    for cost in ["-1", "abc"] {
        let error = with("variantCost", json!(cost));
        assert!(error.contains("spec.variantCost") && error.contains(cost), "{error}");
    }
    let error = with("minReplicas", json!(5));
    assert!(error.contains("minReplicas must not exceed maxReplicas"), "{error}");
    let error = with("modelID", json!(""));
    assert!(error.contains("spec.modelID"), "{error}");
}

async fn missing_target(cluster: &Cluster) -> String {
    cluster.apply(&[Variant::cheap(1, 3).named("orphan").autoscaling()]);
    let (reason, message) = cluster.condition("orphan", "TargetResolved", "False").await;
    assert_eq!(reason, "TargetNotFound");
    assert!(message.contains("Deployment orphan") && message.contains("correct scaleTargetRef"), "{message}");
    let refused = cluster.read("orphan").await.unwrap_err();
    assert!(refused.contains(&message), "{refused}");
    message
}

async fn two_variants_on_one_target(cluster: &Cluster) -> String {
    let second_of = |name| {
        let mut object = Variant::cheap(1, 3).named(name).autoscaling();
        object["spec"]["scaleTargetRef"]["name"] = json!("shared");
        object
    };
    cluster.apply(&[Variant::cheap(1, 3).named("shared").deployment(), second_of("first"), second_of("second")]);
    let (_, message) = cluster.condition("first", "TargetResolved", "False").await;
    assert!(message.contains("first, second") && message.contains("Deployment shared"), "{message}");
    assert_eq!(cluster.condition("second", "TargetResolved", "False").await.1, message);
    assert!(cluster.read("second").await.unwrap_err().contains(&message));
    message
}

async fn wrong_model(cluster: &Cluster) -> String {
    let declared = "meta-llama/Llama-3.1-8B";
    let misnamed = Variant::cheap(1, 3).named("misnamed").declaring(declared);
    cluster.apply(&[misnamed.deployment(), misnamed.autoscaling()]);
    // Until then no replica is ready, so nothing is missing yet.
    let message = cluster.event("misnamed", "MetricsUnavailable").await;
    assert!(message.contains(declared) && message.contains("model_name"), "{message}");
    assert!(message.contains(&format!("has series of {MODEL}")), "what exists: {message}");
    let (reason, told) = cluster.condition("misnamed", "EnginesAttributed", "False").await;
    assert_eq!(reason, "PodsServeAnotherModel");
    assert!(told.contains(MODEL) && told.contains(declared), "{told}");
    assert_eq!(cluster.event("misnamed", &reason).await, told);
    message
}

async fn tolerance_left_at_its_default(cluster: &Cluster) -> String {
    let tolerant = Variant::cheap(1, 20).named("tolerant");
    let [deployment, autoscaling, mut hpa] = tolerant.objects();
    hpa["spec"].as_object_mut().unwrap().remove("behavior");
    cluster.apply(&[deployment, autoscaling, hpa]);
    autoscaler_problem(cluster, "tolerant", "ToleranceSwallowsSteps", r#"tolerance to "0""#).await
}

async fn target_of_type_value(cluster: &Cluster) -> String {
    let valued = Variant::cheap(1, 3).named("valued");
    let [deployment, autoscaling, mut hpa] = valued.objects();
    hpa["spec"]["metrics"][0]["external"]["target"] = json!({ "type": "Value", "value": "1" });
    cluster.apply(&[deployment, autoscaling, hpa]);
    autoscaler_problem(cluster, "valued", "TargetNotAverageValue", "set target type AverageValue").await
}

async fn autoscaler_problem(cluster: &Cluster, variant: &str, expected: &str, remedy: &str) -> String {
    let (reason, message) = cluster.condition(variant, "AutoscalerReady", "False").await;
    assert_eq!(reason, expected);
    let note = cluster.event(variant, expected).await;
    for text in [&message, &note] {
        assert!(text.contains(&format!("HPA {}/{variant}", cluster.namespace)) && text.contains(remedy), "{text}");
    }
    // As its owner sees it.
    let described = Bed::get().kubectl(&["describe", "va", variant, "--namespace", &cluster.namespace]);
    assert!(described.contains(remedy), "{described}");
    note
}
