//! wva's serving half: the sockets, authentication, authorisation and API of `wva serve`, on made-up decisions.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use clap::Args;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use wva::{
    apiserver::{ApiServer, Readiness, RequestMetrics, router},
    auth::{
        Authenticator, Authorizer, Identity, StaticAccessReviewer, StaticTokenReviewer, TokenAuthenticator, Trust,
        TrustBundle,
    },
    clock::SystemClock,
    constants::MetricsGroup,
    decisions::DecisionStore,
    interfaces::{
        Decision, Desired, Direction, EngineName, ModelKey, Outcome, Reason, SaturationLevel, Signal, VariantKey,
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
    store.publish((0..variants).map(decision).collect(), MAX_AGE);
    let mut registry = MetricsRegistry::new();
    let requests = RequestMetrics::register(registry.registry_mut());
    let api = router(ApiServer {
        provider: store,
        delegate: None,
        groups: MetricsGroup::ALL.to_vec(),
        authenticator: Authenticator::new(
            Trust::new(trust(&std::fs::read_to_string(front_proxy_ca)?)?),
            TokenAuthenticator::new(StaticTokenReviewer::new("none", Identity::anonymous())),
        ),
        authorizer: Authorizer::new(StaticAccessReviewer::new("nobody")),
        readiness: Readiness::default(),
        requests,
        metrics_text: Arc::new(move || registry.encode().unwrap_or_default()),
        extra_routes: Router::new(),
    });
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

fn decision(number: usize) -> Decision {
    let now = Timestamp::now();
    Decision {
        variant: VariantKey::new("bench", format!("variant-{number}")),
        model: ModelKey::new("bench", format!("meta-llama/Llama-3.1-8B-{}", number / 2)),
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
