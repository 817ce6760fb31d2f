//! Who may read: callers that kube-apiserver vouches for, or that it authenticates and authorises for us.

use http::StatusCode;
use reqwest::RequestBuilder;

use crate::harness::{Bed, Cluster, Scenario, Variant, Wva};

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
