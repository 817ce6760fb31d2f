//! KEDA's own operator and metrics adapter read wva as an external scaler: a `ScaledObject` drives the stock HPA, and what is
//! not known scales nothing to zero.

use std::{net::TcpListener, path::Path, time::Duration};

use http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::harness::{Bed, Load, MODEL, Process, Scenario, Variant, Wva, eventually, report};

const LIMIT: Duration = Duration::from_secs(60);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What KEDA's parts know each other by, and wva knows KEDA by; as files `ca.crt`, `tls.crt` and `tls.key` in `folder`.
fn write_certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "keda");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "keda-operator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    for (file, pem) in [("ca.crt", authority), ("tls.crt", certificate), ("tls.key", key.serialize_pem())] {
        std::fs::write(folder.join(file), pem).unwrap();
    }
}

/// KEDA's two processes; its adapter is what kube-apiserver asks for external metrics.
struct Keda {
    operator: Process,
    adapter: Process,
}

impl Keda {
    async fn start(programs: &Path, certificates: &Path, folder: &Path) -> Self {
        let bed = Bed::get();
        let definitions = programs.join("crd");
        bed.kubectl(&["apply", "--server-side", "-f", definitions.to_str().unwrap()]);
        let [metrics, service, health, own, port] = std::array::from_fn(|_| free_port());
        let certificates = certificates.to_str().unwrap();
        let environment = [
            ("KUBECONFIG", bed.kubeconfig.as_str()),
            ("WATCH_NAMESPACE", ""),
            ("POD_NAMESPACE", "default"),
            ("KEDA_CLUSTER_OBJECT_NAMESPACE", "default"),
        ];
        let start = |program: &str, name: &'static str, arguments: &[String]| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Process::of(programs.join(program).to_str().unwrap(), name, &arguments, &environment, folder)
        };
        let operator = start(
            "operator",
            "keda-operator",
            &[
                format!("--metrics-bind-address=127.0.0.1:{metrics}"),
                format!("--health-probe-bind-address=127.0.0.1:{health}"),
                format!("--metrics-service-bind-address=127.0.0.1:{service}"),
                format!("--cert-dir={certificates}"),
                "--enable-apiservice-patching=false".to_owned(),
                "--enable-webhook-patching=false".to_owned(),
            ],
        );
        let mut flags = bed.adapter_flags(port);
        flags.push(format!("--metrics-service-address=localhost:{service}"));
        flags.push(format!("--cert-dir={certificates}"));
        flags.push(format!("--port={own}"));
        let adapter = start("adapter", "keda-adapter", &flags);
        let keda = Self { operator, adapter };
        let http = Wva::http(None);
        eventually("KEDA's adapter is ready", LIMIT, async || {
            match http.get(format!("https://localhost:{port}/readyz")).send().await {
                Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
                other => Err(format!("{other:?}\n{}\n{}", keda.adapter.log(), keda.operator.log())),
            }
        })
        .await;
        bed.testbed(&["adapter", "direct", &port.to_string(), "--wait"]);
        keda
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scaled_object_follows_wva_and_is_not_scaled_to_zero_by_what_is_not_known() {
    let bed = Bed::get();
    let Some(programs) = &bed.keda else {
        report("KEDA", "skipped: `hack/testbed keda` has not built it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    let port = free_port();
    let mut scenario = Scenario::start_with("keda", &bed.prometheus_url, |wva| {
        wva.flag("--keda-enabled=true");
        wva.flag(format!("--keda-port={port}"));
        wva.flag(format!("--keda-client-ca-path={}", folder.path().join("ca.crt").display()));
    })
    .await;
    let variant = Variant::cheap(1, 3);
    let cluster = &scenario.cluster;
    cluster.apply(&[variant.deployment(), variant.autoscaling()]);
    eventually("wva knows the variant", LIMIT, async || cluster.read("cheap").await).await;
    let keda = Keda::start(programs, folder.path(), folder.path()).await;

    let pem = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let secret = |parameter: &str, key: &str| json!({ "parameter": parameter, "name": "wva-keda", "key": key });
    cluster.apply(&[
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "wva-keda" },
            "stringData": {
                "caCert": std::fs::read_to_string(&bed.authority).unwrap(),
                "tlsClientCert": pem("tls.crt"), "tlsClientKey": pem("tls.key"),
            },
        }),
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": { "name": "wva" },
            "spec": { "secretTargetRef": [
                secret("caCert", "caCert"), secret("tlsClientCert", "tlsClientCert"), secret("tlsClientKey", "tlsClientKey"),
            ] },
        }),
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": { "name": "of-keda" },
            "spec": {
                "scaleTargetRef": { "name": "cheap" },
                "pollingInterval": 1, "cooldownPeriod": 1, "minReplicaCount": 0, "maxReplicaCount": 5,
                "triggers": [{
                    "type": "external",
                    "metadata": {
                        "scalerAddress": format!("localhost:{port}"), "enableTLS": "true", "variantName": "cheap",
                    },
                    "authenticationRef": { "name": "wva" },
                }],
            },
        }),
    ]);
    scenario.load(Load::BUSY).await;
    cluster.scaled_to("cheap", variant.max, LIMIT).await;
    cluster.followed("keda-hpa-of-keda", LIMIT).await;

    // Now nothing is known: errors, and neither "inactive" nor 0.
    let (namespace, before) = (cluster.namespace.clone(), keda.operator.log().len());
    scenario.wva.kill();
    let cluster = &scenario.cluster;
    let told = cluster.scaling_active("keda-hpa-of-keda", LIMIT, |condition| condition.status == "False").await;
    // Several of KEDA's polls, each of which could have gone to zero.
    eventually("KEDA has asked in vain several times", LIMIT, async || {
        let log = keda.operator.log();
        let errors = log[before..]
            .lines()
            .filter(|line| line.contains(r#""level":"error""#) && line.contains(&namespace))
            .count();
        (errors >= 5).then_some(()).ok_or_else(|| errors.to_string())
    })
    .await;
    assert_eq!(cluster.replicas("cheap").await, variant.max, "nothing is scaled by what is not known");

    scenario.wva.start_again().await;
    let cluster = &scenario.cluster;
    cluster.followed("keda-hpa-of-keda", LIMIT).await;
    assert_eq!(cluster.replicas("cheap").await, variant.max);
    report(
        "KEDA",
        &format!(
            "operator and adapter: 1 → {} by a ScaledObject of {MODEL}; wva killed: held, HPA says {:?}; followed again",
            variant.max,
            told.reason.unwrap_or_default()
        ),
    );
    // While there is an operator that takes its finalizer away.
    bed.kubectl(&["delete", "scaledobject", "of-keda", "--namespace", &namespace]);
    bed.kubectl(&["delete", "--wait=false", "-f", programs.join("crd").to_str().unwrap()]);
}
