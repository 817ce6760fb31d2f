//! The requests, and in which of them ours is meant to be better.

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) accept: Option<&'static str>,
    /// The status of the answer that is meant to differ from the reference's, and how; `docs/metrics-api.md` tells users.
    pub(super) improvement: Option<(u16, &'static str)>,
}

const fn get(path: &'static str) -> Asked {
    Asked { method: "GET", path, accept: None, improvement: None }
}

const fn send(method: &'static str, path: &'static str) -> Asked {
    Asked { method, path, accept: None, improvement: None }
}

impl Asked {
    const fn accepting(self, accept: &'static str) -> Self {
        Self { accept: Some(accept), ..self }
    }

    const fn improved(self, status: u16, improvement: &'static str) -> Self {
        Self { improvement: Some((status, improvement)), ..self }
    }
}

pub(super) const REQUESTS: &[Asked] = &[
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector="),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3D%3Dbaz"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo!%3Dbar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo+in+(bar,baz)"),
    get(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%20in%20%28bar%29",
    ),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo+notin+(bar)"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo"),
    get(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo+in+(bar),foo!%3Dbaz",
    ),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/other-external-metric"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/other-external-metric?labelSelector=!foo"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dqux")
        .improved(404, "nothing matches: 404 that names what is known, not an empty list"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=!foo")
        .improved(404, "nothing matches: 404 that names what is known, not an empty list"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3E1")
        .improved(404, "nothing matches: 404 that names what is known, not an empty list"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/absent-metric")
        .improved(404, "an unknown metric: 404 that names the known ones, not an empty list"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=a+b"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Da%7C%7Cb"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo,"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo,,bar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=,foo"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar+baz"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=!foo%3Dbar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo+in+bar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo+in+(bar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo+in+(%3D)"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=!"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3E%2D1"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=a%2Fb%2Fc%3Dd"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=%2Fb%3Dd"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=-a%3Db"),
    get(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Daaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Ebar"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?limit=500"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?limit=many"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?limit=-1"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?limit=1&continue=x"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?resourceVersion=0"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?resourceVersionMatch=Exact"),
    get(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?resourceVersionMatch=Exact&resourceVersion=1",
    ),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?timeout=32s"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?timeout=abc"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?timeoutSeconds=5"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?timeoutSeconds=x"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?pretty=true"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?fieldSelector=metadata.name%3Da"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?fieldSelector=spec.x%3D1"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?fieldSelector=spec"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?watch=true"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?watch=1"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?watch=false"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?unknown=1"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?dryRun=All"),
    send("POST", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric"),
    send("PUT", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric"),
    send("PATCH", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric"),
    send("DELETE", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric"),
    send("OPTIONS", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/json"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("*/*"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/*")
        .improved(200, "a range of subtypes is understood"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/yaml"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/vnd.kubernetes.protobuf"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/vnd.kubernetes.protobuf, */*"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/json;q=0.5,application/yaml"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/cbor")
        .improved(406, "every 406 says the same"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("text/html")
        .improved(406, "every 406 says the same"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("text/html,*/*;q=0.1"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/json;as=Table;v=v1beta1;g=meta.k8s.io"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/json;as=Nonsense;v=v1;g=meta.k8s.io,application/json"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .improved(200, "a table for people"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=foo%3Dbar")
        .accepting("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
        .improved(406, "406, not 500"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=a+b")
        .accepting("application/yaml"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric?labelSelector=a+b")
        .accepting("application/vnd.kubernetes.protobuf"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric/a/b/c"),
    get("/apis/external.metrics.k8s.io/v1"),
    get("/apis/external.metrics.k8s.io/v2/namespaces/default/x"),
    get("/apis/nonsense.k8s.io").improved(404, "404 as a Status, not an index of paths"),
    get("/apis/nonsense.k8s.io/v1/x").improved(404, "404 as a Status, not an index of paths"),
    get("/apis/external.metrics.k8s.io/v1beta1/my-external-metric")
        .improved(200, "values of all namespaces, for kubectl get -A"),
    get("/apis/external.metrics.k8s.io/v1beta1/namespaces/default/my-external-metric/bar")
        .improved(200, "one value by the name of its variant"),
    get("/nonsense").improved(404, "404 as a Status, not an index of paths"),
    get("/apis").improved(200, "our own group beside the others; apiVersion; no address of the server"),
    get("/apis")
        .accepting("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        .improved(200, "real resources, where theirs has none"),
    get("/apis/external.metrics.k8s.io"),
    get("/apis/external.metrics.k8s.io/v1beta1")
        .improved(200, "one resource with its name and kind, of verbs get and list"),
    get("/apis/external.metrics.k8s.io/v1beta1/")
        .improved(200, "one resource with its name and kind, of verbs get and list"),
    get("/apis/custom.metrics.k8s.io").improved(200, "both versions"),
    get("/apis/custom.metrics.k8s.io/v1beta2")
        .improved(200, "the metrics of objects; theirs knows only those that were written to it"),
    get("/openapi/v3").improved(200, "links to the served groups alone"),
    get("/openapi/v3/apis/external.metrics.k8s.io/v1beta1?hash=0")
        .improved(200, "the document, not a redirect, which kube-apiserver answers with 502"),
    get("/openapi/v2").improved(200, "a smaller document"),
    // Metrics of objects: nothing was written to either, so that both know no object.
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/x/my-external-metric")
        .improved(404, "a metric of an unknown object: 404 that says what is known"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/*/my-external-metric")
        .improved(404, "nothing matches: 404 that says what is known, not an empty list"),
    get("/apis/custom.metrics.k8s.io/v1beta2/deployments.apps/*/my-external-metric")
        .improved(404, "nothing matches: 404 that says what is known, not an empty list"),
    get("/apis/custom.metrics.k8s.io/v1beta2/deployments.apps/x/my-external-metric")
        .improved(404, "an object without its namespace: 404 that says where to ask"),
    get("/apis/custom.metrics.k8s.io/v1beta1/nodes/n/my-external-metric")
        .improved(404, "a kind without metrics: 404 that names those with"),
    get("/apis/custom.metrics.k8s.io/v1beta1/nodes/*/my-external-metric")
        .improved(404, "a kind without metrics: 404 that names those with, not an empty list"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/nonsense/x/my-external-metric")
        .improved(404, "a kind that does not exist: 404, not 500"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/metrics/my-external-metric")
        .improved(404, "a metric of a namespace: 404 that names what has metrics"),
    get("/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/metrics/my-external-metric")
        .improved(404, "a metric of a namespace: 404 that names what has metrics"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/*/metrics/my-external-metric")
        .improved(404, "a metric of a namespace: 404 that names what has metrics, not an empty list"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/x/m?metricLabelSelector=a+b")
        .improved(400, "a selector that cannot be read: 400, not 500"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps")
        .improved(404, "404 like every other path that is short"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/x"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/x/m/more"),
    get("/apis/custom.metrics.k8s.io/v1beta2/nodes/x/m/more"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces"),
    get("/apis/custom.metrics.k8s.io/v1beta2/deployments.apps"),
    get("/apis/custom.metrics.k8s.io/v1beta2/deployments.apps/x"),
    send("POST", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/x/m"),
    send("DELETE", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/metrics/m"),
    get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/x/m?watch=true")
        .improved(405, "watch is refused here too, not taken for a list"),
    get("/livez"),
    get("/readyz"),
    get("/healthz"),
    get("/version").improved(200, "our own version"),
];
