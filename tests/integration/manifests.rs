//! The manifests: every field is one the API knows, names agree, and rights are as narrow as promised.

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::{
    Resource,
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject},
        scheduling::v1::PriorityClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use wva::{
    config::{Config, Document, Layer},
    constants,
    crd::VariantAutoscaling,
    replication,
};

const KUSTOMIZATION: &str = "kustomization.yaml";
const OUR_METRICS: [&str; 5] = [
    constants::WVA_DESIRED_REPLICAS,
    constants::WVA_CURRENT_REPLICAS,
    constants::WVA_DESIRED_RATIO,
    constants::WVA_SATURATION_LEVEL,
    constants::WVA_SCALING_DECISION,
];

/// One object, and the file it is in.
struct Object {
    file: String,
    value: Value,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All YAML files below `folder`, as paths from the root of the repository.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else {
            assert!(Path::new(&path).extension().is_some_and(|extension| extension == "yaml"), "{path} is no manifest");
            found.push(path);
        }
    }
    found.sort();
    found
}

fn all() -> Vec<Object> {
    let paths = ["manifests", "apiservice"].into_iter().flat_map(files).filter(|path| !path.ends_with(KUSTOMIZATION));
    paths
        .flat_map(|file| {
            let text = fs::read_to_string(root().join(&file)).unwrap();
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
            documents.into_iter().map(move |value| Object { file: file.clone(), value })
        })
        .collect()
}

/// The objects of one kind.
fn of<K: Resource + DeserializeOwned>() -> Vec<K> {
    let own = all().into_iter().filter(|object| object.value["kind"] == K::KIND);
    own.map(|object| serde_json::from_value(object.value).unwrap()).collect()
}

fn the<K: Resource + DeserializeOwned>() -> K {
    let mut found = of();
    assert_eq!(found.len(), 1, "{}", K::KIND);
    found.remove(0)
}

/// Paths of `written` that reading and writing as the API's type loses or changes.
fn lost(path: &str, written: &Value, read: &Value, found: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                lost(&format!("{path}.{key}"), value, read.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => {
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                lost(&format!("{path}[{index}]"), written, read, found);
            }
        }
        (Value::Number(written), Value::Number(read)) if written.as_f64() == read.as_f64() => {}
        _ if written == read => {}
        _ => found.push(format!("{path}: {written} became {read}")),
    }
}

fn unknown_fields<K: Resource + DeserializeOwned + Serialize>(value: &Value) -> Vec<String> {
    let typed: K = serde_json::from_value(value.clone()).unwrap();
    let mut found = Vec::new();
    lost("", value, &serde_json::to_value(typed).unwrap(), &mut found);
    if value["apiVersion"] != K::API_VERSION {
        found.push(format!("apiVersion is {}, not {}", value["apiVersion"], K::API_VERSION));
    }
    found
}

#[test]
fn every_field_is_one_that_the_api_knows() {
    for Object { file, value } in all() {
        let kind = value["kind"].as_str().unwrap();
        let unknown = match kind {
            "APIService" => unknown_fields::<APIService>(&value),
            "ClusterRole" => unknown_fields::<ClusterRole>(&value),
            "ClusterRoleBinding" => unknown_fields::<ClusterRoleBinding>(&value),
            "ConfigMap" => unknown_fields::<ConfigMap>(&value),
            "CustomResourceDefinition" => unknown_fields::<CustomResourceDefinition>(&value),
            "Deployment" => unknown_fields::<Deployment>(&value),
            "HorizontalPodAutoscaler" => unknown_fields::<HorizontalPodAutoscaler>(&value),
            "Lease" => unknown_fields::<Lease>(&value),
            "NetworkPolicy" => unknown_fields::<NetworkPolicy>(&value),
            "PodDisruptionBudget" => unknown_fields::<PodDisruptionBudget>(&value),
            "PriorityClass" => unknown_fields::<PriorityClass>(&value),
            "Namespace" => unknown_fields::<Namespace>(&value),
            "Role" => unknown_fields::<Role>(&value),
            "RoleBinding" => unknown_fields::<RoleBinding>(&value),
            "Secret" => unknown_fields::<Secret>(&value),
            "ValidatingAdmissionPolicy" => unknown_fields::<ValidatingAdmissionPolicy>(&value),
            "ValidatingAdmissionPolicyBinding" => unknown_fields::<ValidatingAdmissionPolicyBinding>(&value),
            "Service" => unknown_fields::<Service>(&value),
            "ServiceAccount" => unknown_fields::<ServiceAccount>(&value),
            "VariantAutoscaling" => {
                let object: VariantAutoscaling = serde_json::from_value(value.clone()).unwrap();
                object.spec.validate().unwrap();
                let mut found = Vec::new();
                lost("", &value, &serde_json::to_value(object).unwrap(), &mut found);
                found
            }
            other => panic!("{file}: teach this test the kind {other}"),
        };
        assert_eq!(unknown, Vec::<String>::new(), "{file}: {kind} {}", value["metadata"]["name"]);
    }
}

#[test]
fn every_file_belongs_to_one_kustomization() {
    let all: Vec<String> = ["manifests", "apiservice"].into_iter().flat_map(files).collect();
    let mut listed = BTreeSet::new();
    for kustomization in all.iter().filter(|path| path.ends_with(KUSTOMIZATION)) {
        let folder = kustomization.trim_end_matches(KUSTOMIZATION);
        let content: Value = serde_saphyr::from_str(&fs::read_to_string(root().join(kustomization)).unwrap()).unwrap();
        for resource in content["resources"].as_array().unwrap() {
            let path = format!("{folder}{}", resource.as_str().unwrap());
            // Another kustomization, which lists its own files.
            if root().join(&path).is_dir() {
                assert!(root().join(&path).join(KUSTOMIZATION).exists(), "{path} is no kustomization");
                continue;
            }
            assert!(listed.insert(path.clone()), "{path} is listed twice");
        }
    }
    let present: BTreeSet<_> = all.into_iter().filter(|path| !path.ends_with(KUSTOMIZATION)).collect();
    assert_eq!(listed, present);
}

/// The `ConfigMap`s through which replicas share what they know.
fn shared_config_maps() -> Vec<String> {
    let decisions = (0..replication::DECISION_SHARDS).map(replication::decisions_name);
    let state = (0..replication::STATE_PARTS).map(replication::state_name);
    std::iter::once(replication::HEARTBEAT.to_owned()).chain(decisions).chain(state).collect()
}

/// The configuration that is shipped.
fn configuration() -> ConfigMap {
    of::<ConfigMap>().into_iter().find(|map| map.metadata.name.as_deref() == Some("wva-config")).unwrap()
}

/// The rights in one rule, as `group/resource:verbs`.
fn rights(rules: Option<Vec<PolicyRule>>) -> Vec<String> {
    let mut rights = Vec::new();
    for rule in rules.unwrap_or_default() {
        let verbs = rule.verbs.join(",");
        let names = rule.resource_names.map(|names| format!("[{}]", names.join(","))).unwrap_or_default();
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.push(format!("{group}/{resource}{names}:{verbs}"));
            }
        }
        rights.extend(rule.non_resource_urls.iter().flatten().map(|url| format!("{url}:{verbs}")));
    }
    rights.sort();
    rights
}

#[test]
fn wva_may_read_workloads_and_write_only_its_status_and_events() {
    let roles = of::<ClusterRole>();
    let wva = roles.into_iter().find(|role| role.metadata.name.as_deref() == Some("wva")).unwrap();
    assert_eq!(
        rights(wva.rules),
        [
            "/events:create,patch",
            "/namespaces:get,list,watch",
            "/nodes:get,list,watch",
            "/pods:get,list,watch",
            "/resourcequotas:get,list,watch",
            "apiextensions.k8s.io/customresourcedefinitions:get",
            "apps/deployments:get,list,watch",
            "apps/replicasets:get,list,watch",
            "apps/statefulsets:get,list,watch",
            "argoproj.io/rollouts:get,list,watch",
            "autoscaling/horizontalpodautoscalers:get,list,watch",
            "events.k8s.io/events:create,patch",
            "keda.sh/scaledobjects:get,list,watch",
            "leaderworkerset.x-k8s.io/leaderworkersets:get,list,watch",
            "llmd.ai/variantautoscalings/status:patch",
            "llmd.ai/variantautoscalings:get,list,watch",
            "resource.k8s.io/resourceclaims:get,list,watch",
            "resource.k8s.io/resourceclaimtemplates:get,list,watch",
            "resource.k8s.io/resourceslices:get,list,watch",
        ]
    );
    let mut in_its_namespace: Vec<_> = of::<Role>().into_iter().flat_map(|role| rights(role.rules)).collect();
    in_its_namespace.sort();
    let shared = shared_config_maps().join(",");
    assert_eq!(
        in_its_namespace,
        [
            "/configmaps[wva-config]:get,list,watch".to_owned(),
            format!("/configmaps[{shared}]:get,list,watch,update"),
            "/secrets[wva-serving-certificate]:get,update".to_owned(),
            "coordination.k8s.io/leases[wva]:get,update".to_owned(),
        ]
    );
    for name in shared_config_maps() {
        assert!(of::<ConfigMap>().iter().any(|map| map.metadata.name.as_deref() == Some(&name)), "{name} is created");
    }
    let certificate =
        of::<ClusterRole>().into_iter().find(|role| role.metadata.name.as_deref() == Some("wva-serving-certificate"));
    assert_eq!(
        rights(certificate.unwrap().rules),
        [concat!(
            "apiregistration.k8s.io/apiservices[v1beta1.external.metrics.k8s.io,v1beta1.custom.metrics.k8s.io,",
            "v1beta2.custom.metrics.k8s.io,v1beta1.external.metrics.llmd.ai]:get,patch"
        )],
        "and a ValidatingAdmissionPolicy narrows it to one field"
    );
}

#[test]
fn no_rule_writes_workloads_or_grants_everything() {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const OURS: [&str; 4] = ["variantautoscalings", "variantautoscalings/status", "events", "configmaps"];
    /// Writable where the object is named.
    const NAMED: [&str; 3] = ["secrets", "apiservices", "leases"];
    let rules = of::<ClusterRole>().into_iter().map(|role| (role.metadata, role.rules));
    let rules = rules.chain(of::<Role>().into_iter().map(|role| (role.metadata, role.rules)));
    let mut seen = 0;
    for (metadata, rules) in rules {
        // Opt-in, and no part of the installation: replica counts of workloads and nothing else.
        if metadata.name.as_deref() == Some("wva-actuation") {
            for rule in rules.unwrap() {
                assert_eq!(rule.verbs, ["patch"]);
                assert!(rule.resources.unwrap().iter().all(|resource| resource.ends_with("/scale")));
            }
            continue;
        }
        for rule in rules.unwrap() {
            seen += 1;
            let words = [Some(&rule.verbs), rule.resources.as_ref(), rule.api_groups.as_ref()];
            let wildcard = words.into_iter().flatten().flatten().any(|word| word.contains('*'));
            assert!(!wildcard, "{:?} grants everything", metadata.name);
            let is_named = rule.resource_names.as_ref().is_some_and(|names| !names.is_empty());
            let ours =
                rule.resources.iter().flatten().all(|resource| {
                    OURS.contains(&resource.as_str()) || is_named && NAMED.contains(&resource.as_str())
                });
            let reads = rule.verbs.iter().all(|verb| READ.contains(&verb.as_str()));
            assert!(ours || reads, "{:?} writes {:?}", metadata.name, rule.resources);
        }
    }
    assert!(seen >= 8);
}

#[test]
fn the_hpa_and_people_may_read_our_metrics_by_name_only() {
    for name in ["wva-external-metrics-reader", "wva-view"] {
        let role = of::<ClusterRole>().into_iter().find(|role| role.metadata.name.as_deref() == Some(name)).unwrap();
        let ours = |group: &String| group == constants::EXTERNAL_METRICS_GROUP;
        let reads: Vec<_> =
            role.rules.unwrap().into_iter().filter(|reads| reads.api_groups.iter().flatten().any(ours)).collect();
        assert_eq!(reads.len(), 1, "{name}");
        let mut resources = reads[0].resources.clone().unwrap();
        if name == "wva-view" {
            assert_eq!(resources.pop().unwrap(), "wva_desired_replicas/explain");
        }
        assert_eq!(resources, OUR_METRICS, "{name}");
        assert_eq!(reads[0].verbs, ["get", "list"], "{name}");
    }
}

#[test]
fn names_agree_from_the_api_service_to_the_pods() {
    let service: Service = the();
    let deployment = of::<Deployment>().into_iter().find(|d| d.metadata.name.as_deref() == Some("wva")).unwrap();
    let account: ServiceAccount = the();
    let namespace = service.metadata.namespace.as_deref();
    let namespaces = of::<Namespace>();
    assert!(namespaces.iter().any(|n| n.metadata.name.as_deref() == namespace));

    let mut groups = BTreeSet::new();
    let mut port_of_service = None;
    for api in of::<APIService>() {
        let spec = api.spec.unwrap();
        let (group, version) = (spec.group.unwrap(), spec.version.unwrap());
        assert_eq!(api.metadata.name.unwrap(), format!("{version}.{group}"));
        // kube-apiserver prefers the version of the higher priority.
        let priority = if version == "v1beta2" { 200 } else { 100 };
        assert_eq!((spec.group_priority_minimum, spec.version_priority), (100, priority), "{version}.{group}");
        let reference = spec.service.unwrap();
        let name_and_namespace = (reference.name, reference.namespace);
        assert_eq!(name_and_namespace, (service.metadata.name.clone(), service.metadata.namespace.clone()));
        assert_eq!((spec.insecure_skip_tls_verify, spec.ca_bundle), (None, None), "verified; wva writes the authority");
        port_of_service = reference.port;
        groups.insert(group);
    }
    let served: BTreeSet<_> = constants::MetricsGroup::ALL.map(|group| group.name().to_owned()).into();
    assert_eq!(groups, served);

    let service_spec = service.spec.unwrap();
    let port = &service_spec.ports.unwrap()[0];
    assert_eq!(port_of_service, Some(port.port));
    let pod = deployment.spec.unwrap().template;
    let labels = pod.metadata.unwrap().labels.unwrap();
    assert!(service_spec.selector.unwrap().iter().all(|(key, value)| labels.get(key) == Some(value)));
    let pod = pod.spec.unwrap();
    let container = &pod.containers[0];
    let listening = &container.ports.as_ref().unwrap()[0];
    assert_eq!(serde_json::to_value(&port.target_port).unwrap(), serde_json::to_value(&listening.name).unwrap());
    assert_eq!(listening.container_port, 6443);
    assert_eq!(
        (pod.service_account_name, deployment.metadata.namespace),
        (account.metadata.name.clone(), account.metadata.namespace.clone())
    );

    let config = configuration();
    let argument = format!("--config-map={}", config.metadata.name.unwrap());
    assert_eq!(container.args.as_deref(), Some(&["serve".to_owned(), argument][..]));
    assert_eq!(config.metadata.namespace.as_deref(), namespace);
    assert!(config.data.unwrap().contains_key("config.yaml"));

    let everywhere = of::<ClusterRoleBinding>().into_iter().filter_map(|b| Some((b.role_ref.name, b.subjects?)));
    let in_one = of::<RoleBinding>().into_iter().filter_map(|b| Some((b.role_ref.name, b.subjects?)));
    let mut ours = Vec::new();
    for (role, subjects) in everywhere.chain(in_one) {
        let is_ours = |subject: &Subject| {
            Some(&subject.name) == account.metadata.name.as_ref() && subject.namespace == account.metadata.namespace
        };
        if subjects.iter().any(is_ours) {
            ours.push(role);
        } else {
            assert_eq!(subjects[0].name, "horizontal-pod-autoscaler", "{role}");
        }
    }
    ours.sort();
    let certificate = "wva-serving-certificate";
    let authentication = ["extension-apiserver-authentication-reader", "system:auth-delegator"];
    assert_eq!(
        ours,
        [&authentication[..], &["wva", "wva", "wva-actuation", "wva-high-availability", certificate, certificate]]
            .concat()
    );
}

#[test]
fn the_pod_is_confined_and_probed_over_https() {
    let deployment = of::<Deployment>().into_iter().find(|d| d.metadata.name.as_deref() == Some("wva")).unwrap();
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(2));
    let pod = spec.template.spec.unwrap();
    let security = pod.security_context.unwrap();
    assert_eq!(security.run_as_non_root, Some(true));
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let container = &pod.containers[0];
    let confined = container.security_context.as_ref().unwrap();
    assert_eq!(confined.read_only_root_filesystem, Some(true));
    assert_eq!(confined.allow_privilege_escalation, Some(false));
    assert_eq!(confined.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
    for (probe, path) in [(&container.liveness_probe, "/livez"), (&container.readiness_probe, "/readyz")] {
        let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
        assert_eq!((get.path.as_deref(), get.scheme.as_deref()), (Some(path), Some("HTTPS")));
    }
    assert!(container.resources.as_ref().unwrap().requests.as_ref().unwrap().contains_key("memory"));
}

/// The commented-out keys put in force.
fn uncommented(text: &str) -> String {
    let is_key = |text: &str| text.split_whitespace().next().is_some_and(|word| word.ends_with(':'));
    let lines = text.lines().map(|line| match line.split_once("# ") {
        Some((indent, rest)) if indent.trim().is_empty() && is_key(rest) => format!("{indent}{rest}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn the_shipped_configuration_is_valid_and_so_are_the_keys_it_suggests() {
    let data = configuration().data.unwrap();
    let resolve = |text: &str| {
        let data = [("config.yaml".to_owned(), text.to_owned())].into();
        let document = Document::config_map("wva-system", "wva-config", data);
        Config::resolve(&[Layer::from_document(&document)]).map_err(|errors| errors.to_string())
    };
    let shipped = &data["config.yaml"];
    let suggested = uncommented(shipped);
    assert!(suggested.lines().any(|line| line.starts_with("saturation:")), "{suggested}");
    let (shipped, suggested) = (resolve(shipped).unwrap().config, resolve(&suggested).unwrap().config);
    assert!(shipped.prometheus.url.is_some());
    assert_eq!(suggested.saturation, shipped.saturation, "what is suggested is the default");
    assert_eq!(suggested.engine, shipped.engine);
    assert_eq!(suggested.ages, shipped.ages);
}

#[test]
fn the_sample_hpas_adopt_the_value_as_it_is() {
    let autoscalers = of::<HorizontalPodAutoscaler>();
    let variants: Vec<VariantAutoscaling> = all()
        .into_iter()
        .filter(|object| object.value["kind"] == "VariantAutoscaling")
        .map(|object| serde_json::from_value(object.value).unwrap())
        .collect();
    assert_eq!((autoscalers.len(), variants.len()), (2, 2));
    assert_eq!(variants[0].spec.model_id, variants[1].spec.model_id, "two variants of one model");
    assert_ne!(variants[0].spec.variant_cost, variants[1].spec.variant_cost, "a cheap and a dear one");
    for (autoscaler, variant) in autoscalers.into_iter().zip(variants) {
        let spec = autoscaler.spec.unwrap();
        let target = &variant.spec.scale_target_ref;
        assert_eq!(spec.scale_target_ref.name, target.name);
        assert_eq!(spec.scale_target_ref.kind, target.kind);
        assert_eq!(Some(spec.max_replicas), variant.spec.max_replicas);
        assert_eq!(spec.min_replicas, variant.spec.min_replicas);

        let metrics = spec.metrics.unwrap();
        assert_eq!(metrics.len(), 1);
        let external = metrics[0].external.as_ref().unwrap();
        assert_eq!(external.metric.name, constants::WVA_DESIRED_REPLICAS);
        let labels = external.metric.selector.as_ref().unwrap().match_labels.as_ref().unwrap();
        assert_eq!(labels.get(constants::LABEL_VARIANT_NAME), variant.metadata.name.as_ref());
        assert_eq!(external.target.type_, "AverageValue");
        assert_eq!(external.target.average_value.as_ref().unwrap().0, "1");

        let behavior = spec.behavior.unwrap();
        let (up, down) = (behavior.scale_up.unwrap(), behavior.scale_down.unwrap());
        assert_eq!(up.tolerance.unwrap().0, "0");
        assert_eq!(down.tolerance.unwrap().0, "0");
        assert_eq!((up.stabilization_window_seconds, down.stabilization_window_seconds), (Some(0), Some(300)));
        let policy = &up.policies.unwrap()[0];
        assert_eq!((policy.type_.as_str(), policy.value, policy.period_seconds), ("Pods", 1000, 15));
        assert!(!down.policies.unwrap().is_empty());
    }
}
