//! wva's serving half: the sockets, authentication, authorisation and API of `wva serve`, on made-up decisions.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use wva::{
    apiserver::{ApiServer, RequestMetrics},
    auth::{
        AuthMetrics, Authenticator, Authorizer, HPA_CONTROLLER_USERS, Identity, StaticAccessReviewer,
        StaticTokenReviewer, TokenAuthenticator, Trust, TrustBundle,
    },
    clock::SystemClock,
    decisions::DecisionStore,
    interfaces::{
        Decision, Desired, Direction, EngineName, ModelKey, Outcome, Reason, SaturationLevel, Signal, Snapshot,
        VariantKey, VariantObservation,
    },
    serving::{Bound, CertificateSource, ServingOptions},
    telemetry::MetricsRegistry,
};

use super::Listen;

/// So long that no value grows too old while it is measured.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// PEM file of the authority of front proxies.
    #[arg(long)]
    front_proxy_ca: PathBuf,
    /// Variants, all in namespace `bench`.
    #[arg(long)]
    variants: usize,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { listen, front_proxy_ca, variants } = arguments;
    let store = Arc::new(DecisionStore::new(Arc::new(SystemClock), None));
    let observations = (0..variants).map(observation).collect::<Result<_, _>>()?;
    let mut snapshot = Snapshot { variants: observations, ..Snapshot::at(Timestamp::now()) };
    snapshot.ages.decision = MAX_AGE;
    store.publish_with(Arc::new(snapshot), (0..variants).map(decision).collect());
    let mut registry = MetricsRegistry::new();
    let requests = RequestMetrics::register(registry.registry_mut());
    let reviews = AuthMetrics::register(registry.registry_mut());
    let trust = Trust::new(trust(&std::fs::read_to_string(front_proxy_ca)?)?);
    let tokens = TokenAuthenticator::new(StaticTokenReviewer::new("none", Identity::anonymous()));
    let authenticator = Authenticator::new(trust, tokens).counted_by(&reviews);
    let authorizer = Authorizer::new(StaticAccessReviewer::new(HPA_CONTROLLER_USERS[0]));
    let api = ApiServer {
        requests,
        metrics_text: Arc::new(move || registry.encode().unwrap_or_default()),
        ..ApiServer::new(store, authenticator, authorizer)
    }
    .api();
    let certificate = CertificateSource::Files { certificate: listen.certificate, key: listen.key };
    let bound = Bound::bind(ServingOptions::new(listen.address, certificate)).await?;
    bound.serve(api, CancellationToken::new()).await;
    Ok(())
}

/// Front proxies are known as `kube-apiserver` publishes it.
fn trust(authority: &str) -> anyhow::Result<TrustBundle> {
    let data = [
        ("requestheader-client-ca-file", authority),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
    ];
    let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Ok(TrustBundle::from_config_map(&data)?)
}

/// A variant that scales the Deployment of its name.
fn observation(number: usize) -> serde_json::Result<VariantObservation> {
    let name = format!("variant-{number}");
    serde_json::from_value(serde_json::json!({
        "variant": {
            "key": {"namespace": "bench", "name": name},
            "model": {"namespace": "bench", "modelId": model(number)},
            "accelerator": "H100",
            "cost": 7.0,
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        },
        "target": {"state": "found", "spec": 20, "current": 20, "ready": 20},
    }))
}

fn model(number: usize) -> String {
    format!("meta-llama/Llama-3.1-8B-{}", number / 2)
}

fn decision(number: usize) -> Decision {
    let now = Timestamp::now();
    Decision {
        variant: VariantKey::new("bench", format!("variant-{number}")),
        model: ModelKey::new("bench", model(number)),
        accelerator: Some("H100".into()),
        current: Some(20),
        ready: 20,
        decided_at: now,
        saturation: SaturationLevel { kv_cache: Signal::present(0.875, now), queue_depth: Signal::present(0.2, now) },
        outcome: Outcome::Desired(Desired {
            replicas: 21,
            unconstrained: 21,
            direction: Direction::Up,
            reason: Reason { engine: EngineName::Saturation, text: "spare capacity 12 %".to_owned() },
            bound_by: None,
            oldest_input: Some(now),
        }),
    }
}
