//! What a person looks at when a number is odd: the configuration in force, and how collection fares. Authorised like
//! `/metrics`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};

use crate::{collector::CollectionTracker, config::LiveConfig, interfaces::MetricsCollector};

/// `/debug/config/resolved` (each value and where it came from, and what became of each query) and `/debug/collector`
/// (sources, queries, and the models that engines say they serve).
pub(super) fn routes(
    live: Arc<LiveConfig>,
    collector: Arc<dyn MetricsCollector>,
    tracker: CollectionTracker,
) -> Router {
    let queries = tracker.clone();
    let resolved = move |State(live): State<Arc<LiveConfig>>| async move {
        Json(json!({ "config": &*live.view(), "reload": &*live.status(), "queries": queries.statistics() }))
    };
    let collection = move || async move { Json(collection(&*collector, &tracker)) };
    Router::new()
        .route("/debug/config/resolved", get(resolved))
        .with_state(live)
        .route("/debug/collector", get(collection))
}

fn collection(collector: &dyn MetricsCollector, tracker: &CollectionTracker) -> Value {
    let ages = tracker.cache_ages().into_iter();
    let cache_ages: BTreeMap<&str, f64> = ages.map(|(source, age)| (source, age.as_secs_f64())).collect();
    json!({
        "sources": collector.sources(),
        "queries": tracker.statistics(),
        "cacheAgeSeconds": cache_ages,
        "servedModels": collector.served_models(&|_| true),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt, future::BoxFuture};
    use http::Request;
    use http_body_util::BodyExt;
    use jiff::Timestamp;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        clock::{Clock, SimulatedClock},
        config::{Documents, Layer},
        interfaces::{CollectorError, ModelKey, PodIdentity, ReplicaMetrics, ServedModel, SourceHealth, VariantKey},
    };

    /// Serves one model from a pod of `chat/llama`, and has failed last.
    struct Source(Timestamp);

    impl MetricsCollector for Source {
        fn fetch_saturation_metrics<'a>(
            &'a self,
            _: &'a ModelKey,
        ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn served_models(&self, _: &dyn Fn(&ModelKey) -> bool) -> Vec<ServedModel> {
            vec![ServedModel {
                model: ModelKey::new("chat", "meta/llama"),
                pod: "llama-0".into(),
                identity: Some(PodIdentity::ready(VariantKey::new("chat", "llama"))),
                sampled_at: self.0,
            }]
        }

        fn validate_metrics_availability<'a>(&'a self, _: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
            async { Ok(()) }.boxed()
        }

        fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
            async { Ok(()) }.boxed()
        }

        fn health(&self) -> SourceHealth {
            SourceHealth { name: "source".into(), last_success: None, last_error: Some("it is gone".to_owned()) }
        }
    }

    async fn read(router: &Router, path: &str) -> Value {
        let response =
            router.clone().oneshot(Request::get(path).body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn collection_is_told_by_source_by_query_and_by_model_and_the_resolved_view_tells_the_queries_too() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(now));
        let tracker = CollectionTracker::new(clock.clone());
        tracker.query_succeeded("running", Duration::from_millis(250), 7);
        tracker.query_failed("waiting", Duration::from_millis(500), "timeout", "no answer".to_owned());
        let url = ("WVA_PROMETHEUS_URL".to_owned(), "http://prometheus".to_owned());
        let layers = vec![Layer::from_environment([url], &[])];
        let live = Arc::new(LiveConfig::start(layers, &Documents::default(), clock).unwrap());
        let router = routes(live, Arc::new(Source(now)), tracker);

        let queries = json!({
            "running": {"count": 1, "errors": 0, "totalSeconds": 0.25, "series": 7, "lastError": null},
            "waiting": {"count": 1, "errors": 1, "totalSeconds": 0.5, "series": 0, "lastError": "no answer"},
        });
        let collection = read(&router, "/debug/collector").await;
        assert_eq!(collection["queries"], queries);
        assert_eq!(collection["sources"], json!([{"name": "source", "lastSuccess": null, "lastError": "it is gone"}]));
        assert_eq!(collection["cacheAgeSeconds"], json!({}), "nothing was fetched");
        let served = &collection["servedModels"][0];
        assert_eq!((&served["model"]["modelId"], &served["pod"]), (&json!("meta/llama"), &json!("llama-0")));
        assert_eq!(served["identity"]["variant"], json!({"namespace": "chat", "name": "llama"}));

        let resolved = read(&router, "/debug/config/resolved").await;
        assert_eq!(resolved["queries"], queries);
        assert!(resolved["config"].is_object() && resolved["reload"].is_object());
    }
}
