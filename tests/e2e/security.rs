//! Who may read: callers that kube-apiserver vouches for, or that it authenticates and authorises for us.

use std::time::Duration;

use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use reqwest::RequestBuilder;
use serde_json::json;

use crate::harness::{Bed, Cluster, Scenario, Variant, Wva, eventually};

/// A service account of the scenario, with this role in its namespace or none.
fn account(cluster: &Cluster, name: &str, role: Option<&str>) -> String {
    let (bed, namespace) = (Bed::get(), cluster.namespace.as_str());
    bed.kubectl(&["create", "serviceaccount", name, "--namespace", namespace]);
    if let Some(role) = role {
        let (role, account) = (format!("--clusterrole={role}"), format!("--serviceaccount={namespace}:{name}"));
        bed.kubectl(&["create", "rolebinding", name, "--namespace", namespace, &role, &account]);
    }
    bed.kubectl(&["create", "token", name, "--namespace", namespace]).trim().to_owned()
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_read_with_a_right_to_it_and_by_nobody_else() {
    let scenario = Scenario::start("security").await;
    let cluster = &scenario.cluster;
    cluster.create(&[Variant::cheap(1, 3)]).await;
    let stranger = account(cluster, "stranger", None);
    // The rights that manifests/rbac/people.yaml adds to Kubernetes' own role.
    let viewer = account(cluster, "viewer", Some("view"));
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas?labelSelector=variant_name%3Dcheap",
        cluster.namespace
    );
    let (http, url) = (Wva::http(None), scenario.wva.url(&path));

    // Without a credential: `curl -k`, and with headers that only kube-apiserver may send.
    let careless = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    assert_eq!(status(careless.get(&url)).await, StatusCode::FORBIDDEN);
    let pretender = |client: &reqwest::Client| {
        client.get(&url).header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters")
    };
    assert_eq!(status(pretender(&http)).await, StatusCode::FORBIDDEN);
    // With a certificate, but not the front proxy's.
    let bed = Bed::get();
    let server = Wva::http(Some(&[bed.certificate.clone(), bed.key.clone()]));
    assert!(status(pretender(&server)).await.is_client_error());

    assert_eq!(status(http.get(&url).bearer_auth("nonsense")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(http.get(&url).bearer_auth(&stranger)).await, StatusCode::FORBIDDEN);
    let answer = http.get(&url).bearer_auth(&viewer).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let list = answer.text().await.unwrap();
    assert!(list.contains(r#""value":"1""#), "{list}");
    // The front proxy is believed, which is how every HPA reads.
    assert_eq!(status(pretender(&Wva::http(Some(&bed.front_proxy)))).await, StatusCode::OK);

    for closed in ["/metrics", "/debug/config/resolved"] {
        let url = scenario.wva.url(closed);
        assert_eq!(status(http.get(&url)).await, StatusCode::FORBIDDEN, "{closed}");
        assert_eq!(status(http.get(&url).bearer_auth(&viewer)).await, StatusCode::FORBIDDEN, "{closed}");
    }
    for open in ["/livez", "/readyz"] {
        assert_eq!(status(http.get(scenario.wva.url(open))).await, StatusCode::OK, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_kube_apiserver_the_callers_own_rights_count() {
    let scenario = Scenario::start("rights").await;
    let cluster = &scenario.cluster;
    cluster.create(&[Variant::cheap(1, 3)]).await;
    account(cluster, "stranger", None);
    account(cluster, "viewer", Some("view"));
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas?labelSelector=variant_name%3Dcheap",
        cluster.namespace
    );
    let read_as = |account: &str| {
        let user = format!("--as=system:serviceaccount:{}:{account}", cluster.namespace);
        Bed::get().try_kubectl(&["get", "--raw", &path, &user], None)
    };
    let refused = read_as("stranger").unwrap_err();
    assert!(refused.contains("(Forbidden)") && refused.contains("wva_desired_replicas"), "{refused}");
    let list = read_as("viewer").unwrap();
    assert!(list.contains(r#""value":"1""#), "{list}");
}

/// A front proxy of an authority that nobody trusts yet: that authority's certificate, and a client that shows the
/// proxy's.
fn unknown_front_proxy() -> (String, reqwest::Client) {
    front_proxy_called("front-proxy-client")
}

/// One with a certificate of this name.
fn front_proxy_called(name: &str) -> (String, reqwest::Client) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "rotated-front-proxy-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths = ["tls.crt", "tls.key"].map(|file| folder.path().join(file).to_str().unwrap().to_owned());
    std::fs::write(&paths[0], certificate.pem()).unwrap();
    std::fs::write(&paths[1], key.serialize_pem()).unwrap();
    (authority, Wva::http(Some(&paths)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_proxy_authority_counts_as_long_as_the_config_map_holds_it_on_open_connections_too() {
    const KEY: &str = "requestheader-client-ca-file";
    let scenario = Scenario::start("authorities").await;
    scenario.cluster.create(&[Variant::cheap(1, 3)]).await;
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas?labelSelector=variant_name%3Dcheap",
        scenario.cluster.namespace
    );
    let url = scenario.wva.url(&path);
    let (authority, proxy) = unknown_front_proxy();
    let read = || status(proxy.get(&url).header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters"));
    assert_eq!(read().await, StatusCode::UNAUTHORIZED);

    let maps = Api::<ConfigMap>::namespaced(scenario.cluster.client.clone(), "kube-system");
    let name = "extension-apiserver-authentication";
    let before = maps.get(name).await.unwrap().data.unwrap()[KEY].clone();
    let publish = async |bundle: &str| {
        let patch = Patch::Merge(json!({ "data": { KEY: bundle } }));
        maps.patch(name, &PatchParams::default(), &patch).await.unwrap();
    };
    publish(&format!("{before}\n{authority}")).await;
    let is = async |expected: StatusCode| {
        eventually(&format!("the answer is {expected}"), Duration::from_secs(10), async || {
            let found = read().await;
            (found == expected).then_some(()).ok_or_else(|| found.to_string())
        })
        .await;
    };
    is(StatusCode::OK).await;
    // Meanwhile the cluster's own front proxy is believed as before.
    assert_eq!(scenario.cluster.read("cheap").await, Ok(1));
    publish(&before).await;
    is(StatusCode::UNAUTHORIZED).await;
    assert_eq!(scenario.cluster.read("cheap").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_and_headers_that_are_given_go_before_the_published_ones_and_every_request_is_audited() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [authority_file, policy, log] = ["front-proxy-ca.crt", "policy.yaml", "audit.log"].map(file);
    let (first, gateway) = front_proxy_called("gateway");
    let (second, rotated) = front_proxy_called("gateway");
    std::fs::write(&authority_file, &first).unwrap();
    let rules =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
    std::fs::write(&policy, rules).unwrap();
    let scenario = Scenario::start("given-authorities").await;
    scenario.cluster.create(&[Variant::cheap(1, 3)]).await;
    let viewer = account(&scenario.cluster, "viewer", Some("view"));
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas?labelSelector=variant_name%3Dcheap",
        scenario.cluster.namespace
    );
    // A second one beside that of the scenario: kube-apiserver could not read from it.
    let mut wva = Wva::new(folder.path(), &Bed::get().prometheus_url);
    for flag in [
        format!("--requestheader-client-ca-file={authority_file}"),
        "--requestheader-allowed-names=gateway".to_owned(),
        "--requestheader-username-headers=X-User,X-Remote-User".to_owned(),
        format!("--authentication-kubeconfig={}", Bed::get().kubeconfig),
        format!("--authorization-kubeconfig={}", Bed::get().kubeconfig),
        "--authorization-always-allow-paths=/livez,/readyz,/statusz".to_owned(),
        format!("--audit-policy-file={policy}"),
        format!("--audit-log-path={log}"),
    ] {
        wva.flag(flag);
    }
    wva.start_again().await;
    let url = wva.url(&path);
    let as_admin = |client: &reqwest::Client, header: &'static str| {
        client.get(&url).header(header, "admin").header("X-Remote-Group", "system:masters")
    };
    // It has decided once.
    let answers = async |what: &str, client: &reqwest::Client, id: &str| {
        eventually(what, Duration::from_secs(20), async || {
            let found = status(as_admin(client, "X-User").header("Audit-Id", id)).await;
            (found == StatusCode::OK).then_some(()).ok_or_else(|| found.to_string())
        })
        .await;
    };
    answers("a value is served", &gateway, "of-the-gateway").await;
    let published = Wva::http(Some(&Bed::get().front_proxy));
    assert_eq!(status(as_admin(&published, "X-Remote-User")).await, StatusCode::UNAUTHORIZED);
    let (other, http) = (front_proxy_called("other").1, Wva::http(None));
    assert_eq!(status(as_admin(&other, "X-User")).await, StatusCode::UNAUTHORIZED);
    // Tokens and rights are reviewed by the cluster of the kubeconfig.
    assert_eq!(status(http.get(&url).bearer_auth(&viewer)).await, StatusCode::OK);
    for (path, expected) in [("/statusz", StatusCode::OK), ("/metrics/slis", StatusCode::FORBIDDEN)] {
        assert_eq!(status(http.get(wva.url(path))).await, expected, "{path}");
    }
    std::fs::write(&authority_file, &second).unwrap();
    answers("the new authority is trusted", &rotated, "of-the-new-one").await;
    assert_eq!(status(as_admin(&gateway, "X-User")).await, StatusCode::UNAUTHORIZED);

    wva.process().terminate();
    wva.process().exit(Duration::from_secs(20)).await;
    let audit = std::fs::read_to_string(&log).unwrap();
    let events: Vec<serde_json::Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The tries before its first decision have the same id.
    let event = events.iter().rfind(|event| event["auditID"] == "of-the-gateway").unwrap();
    assert_eq!(
        (&event["user"]["username"], &event["responseStatus"]["code"]),
        (&json!("admin"), &json!(200)),
        "{event}"
    );
    assert!(events.iter().any(|event| event["responseStatus"]["code"] == 401), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lookup_only_who_is_given_is_known_and_one_that_may_fail_does_not_stop_the_start() {
    let scenario = Scenario::start("lookup").await;
    let folder = tempfile::tempdir().unwrap();
    let starts = async |flags: &[String]| {
        let mut wva = Wva::new(folder.path(), &Bed::get().prometheus_url);
        for flag in flags {
            wva.flag(flag);
        }
        wva.start_again().await;
        wva
    };
    let published = Wva::http(Some(&Bed::get().front_proxy));
    let read = async |wva: &Wva| {
        let request = published.get(wva.url("/metrics"));
        status(request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters")).await
    };
    let skipped = starts(&["--authentication-skip-lookup".to_owned()]).await;
    // Nobody is trusted with anything but tokens: a certificate is no credential at all.
    assert_eq!(read(&skipped).await, StatusCode::FORBIDDEN);
    // The account may review tokens, but not read the ConfigMap.
    let kubeconfig = folder.path().join("reviewer.kubeconfig");
    let kubeconfig = kubeconfig.to_str().unwrap();
    Bed::get().testbed(&["kubeconfig", "default", &scenario.cluster.namespace, kubeconfig]);
    let tolerant = starts(&[
        format!("--authentication-kubeconfig={kubeconfig}"),
        "--authentication-tolerate-lookup-failure".to_owned(),
    ])
    .await;
    assert_eq!(read(&tolerant).await, StatusCode::FORBIDDEN);
    assert_eq!(read(&scenario.wva).await, StatusCode::OK);
}
