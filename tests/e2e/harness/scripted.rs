//! The serving half of the product in this process, on values that a test sets: what is under test is the API and its
//! clients, and a value changes when the test says so.

use std::{net::Ipv4Addr, sync::Arc};

use jiff::Timestamp;
use kube::{Client, Config};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use wva::{
    apiserver::{ApiServer, MetricsProvider},
    auth::{
        Authenticator, Authorizer, KubeAccessReviewer, KubeTokenReviewer, TokenAuthenticator, TrustSources, watch_trust,
    },
    clock::SystemClock,
    decisions::DecisionStore,
    interfaces::{
        Decision, Desired, Direction, EngineName, ModelKey, Outcome, Reason, SaturationLevel, Signal, Snapshot,
        VariantKey, VariantObservation,
    },
    serving::{Bound, CertificateSource, ServingOptions},
};

use super::Bed;

/// `APIService`s of every group that is served.
const API_SERVICES: [&str; 4] = [
    "v1beta1.external.metrics.k8s.io",
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
    "v1beta1.external.metrics.llmd.ai",
];

/// A server in this process; it stops when dropped.
pub struct Served {
    pub port: u16,
    _stop: DropGuard,
}

impl Served {
    /// Serves `provider` with the real control plane's identities and rights.
    pub async fn start(provider: Arc<dyn MetricsProvider>) -> Self {
        let bed = Bed::get();
        let client = Client::try_from(Config::infer().await.unwrap()).unwrap();
        let stop = CancellationToken::new();
        let (trust, follow) = watch_trust(client.clone(), TrustSources::default(), stop.clone()).await.unwrap();
        tokio::spawn(follow);
        let tokens = TokenAuthenticator::new(KubeTokenReviewer::new(client.clone()));
        let authorizer = Authorizer::new(KubeAccessReviewer::new(client));
        let api = ApiServer::new(provider, Authenticator::new(trust, tokens), authorizer).api();
        let certificate =
            CertificateSource::Files { certificate: bed.certificate.clone().into(), key: bed.key.clone().into() };
        let bound = Bound::bind(ServingOptions::new((Ipv4Addr::LOCALHOST, 0).into(), certificate)).await.unwrap();
        let port = bound.local_address().port();
        tokio::spawn(bound.serve(api, stop.clone()));
        Self { port, _stop: stop.drop_guard() }
    }

    /// Lets kube-apiserver find every group here.
    pub fn register(&self) {
        let port = self.port.to_string();
        let mut arguments = vec!["adapter", "direct", &port, "--wait"];
        arguments.extend(API_SERVICES.iter().flat_map(|name| ["--apiservice", name]));
        Bed::get().testbed(&arguments);
    }
}

/// The extra `APIService`s go when a test ends: the scenarios after it serve one group, and the others would be stale.
impl Drop for Served {
    fn drop(&mut self) {
        for name in &API_SERVICES[1..] {
            let _ = Bed::get().try_kubectl(&["delete", "apiservice", name, "--ignore-not-found"], None);
        }
    }
}

/// A variant and what is decided on it.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// Name of the variant and of the Deployment that it scales.
    pub name: &'a str,
    /// `None` withholds the value.
    pub desired: Option<u32>,
}

/// Publishes the decisions of `scripts`, and no others.
pub fn publish(store: &DecisionStore, namespace: &str, scripts: &[Script<'_>]) {
    let now = Timestamp::now();
    let snapshot = Snapshot {
        variants: scripts.iter().map(|script| observation(namespace, script.name)).collect(),
        ..Snapshot::at(now)
    };
    store.publish_with(Arc::new(snapshot), scripts.iter().map(|script| decision(namespace, *script, now)).collect());
}

/// An empty store for [`publish`].
pub fn store() -> Arc<DecisionStore> {
    Arc::new(DecisionStore::new(Arc::new(SystemClock), None))
}

fn observation(namespace: &str, name: &str) -> VariantObservation {
    serde_json::from_value(json!({
        "variant": {
            "key": { "namespace": namespace, "name": name },
            "model": { "namespace": namespace, "modelId": "meta/llama" },
            "accelerator": "H100",
            "cost": 7.0,
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
        },
        "target": { "state": "found", "spec": 1, "current": 1, "ready": 1 },
    }))
    .unwrap()
}

fn decision(namespace: &str, script: Script<'_>, now: Timestamp) -> Decision {
    let outcome = match script.desired {
        Some(replicas) => Outcome::Desired(Desired {
            replicas,
            unconstrained: replicas,
            direction: Direction::Hold,
            reason: Reason { engine: EngineName::Saturation, text: "scripted".to_owned() },
            bound_by: None,
            oldest_input: Some(now),
        }),
        None => serde_json::from_value(json!({
            "state": "withheld",
            "kind": "metricsMissing",
            "message": format!("variant {namespace}/{}: no metrics; scripted", script.name),
        }))
        .unwrap(),
    };
    Decision {
        variant: VariantKey::new(namespace, script.name),
        model: ModelKey::new(namespace, "meta/llama"),
        accelerator: Some("H100".into()),
        current: Some(1),
        ready: 1,
        decided_at: now,
        saturation: SaturationLevel { kv_cache: Signal::present(0.5, now), queue_depth: Signal::Missing },
        outcome,
    }
}
