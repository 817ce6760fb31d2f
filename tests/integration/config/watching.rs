use std::{fs, path::Path, sync::Arc, time::Duration};

use http::{Request, Response};
use kube::client::Body;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use wva::{
    clock::SystemClock,
    config::{LiveConfig, LoadError, Location, Locations, load, watch},
};

use super::url;

/// Often enough that a test need not wait.
const POLL: Duration = Duration::from_millis(5);

/// Waits for the next configuration; the bound only ends a hanging test.
async fn next(generation: &mut Receiver<u64>) -> u64 {
    tokio::time::timeout(Duration::from_mins(1), generation.changed()).await.expect("no reload").unwrap();
    *generation.borrow_and_update()
}

/// What the kubelet does: the files are behind a link `..data`, which it swaps.
#[cfg(unix)]
fn mount(directory: &Path, version: &str, name: &str, text: &str) {
    use std::os::unix::fs::symlink;
    fs::create_dir(directory.join(version)).unwrap();
    fs::write(directory.join(version).join(name), text).unwrap();
    symlink(version, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    if !directory.join(name).exists() {
        symlink(format!("..data/{name}"), directory.join(name)).unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_mounted_config_map_is_followed_through_its_swapped_link() {
    let directory = tempfile::tempdir().unwrap();
    mount(directory.path(), "..1", "config.yaml", "saturation: {kvCacheThreshold: 80}\n");
    let locations = Locations { own: Some(Location::Path(directory.path().join("config.yaml"))), upstream: None };
    let documents = load(&locations, None).await.unwrap();
    let live = Arc::new(LiveConfig::start(vec![url()], &documents, Arc::new(SystemClock)).unwrap());
    let mut generation = live.subscribe();
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (live, stop) = (live.clone(), stop.clone());
        async move { watch(&live, &locations, documents, None, POLL, stop).await }
    });

    mount(directory.path(), "..2", "config.yaml", "saturation: {kvCacheThreshold: 60}\n");
    assert_eq!(next(&mut generation).await, 1);
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.6);

    stop.cancel();
    task.await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn upstreams_config_map_can_be_mounted_as_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    mount(directory.path(), "..1", "default", "kvCacheThreshold: 0.7\n");
    let locations = Locations { own: None, upstream: Some(Location::Path(directory.path().to_owned())) };
    let documents = load(&locations, None).await.unwrap();
    let live = LiveConfig::start(vec![url()], &documents, Arc::new(SystemClock)).unwrap();
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.7);
    let source = live.view().values["saturation.kvCacheThreshold"].source.clone();
    assert!(source.starts_with("directory ") && source.ends_with("key default line 1"), "{source}");
}

#[tokio::test]
async fn a_missing_file_and_a_missing_cluster_are_errors_that_say_which() {
    let at = |own| Locations { own: Some(own), upstream: None };
    let error = load(&at(Location::Path("/nonexistent/wva.yaml".into())), None).await.unwrap_err();
    assert!(error.to_string().contains("file /nonexistent/wva.yaml cannot be read"), "{error}");
    let map = Location::ConfigMap { namespace: "wva-system".into(), name: "wva-config".into() };
    let error = load(&at(map), None).await.unwrap_err();
    assert!(matches!(error, LoadError::NoCluster { .. }), "{error}");
}

#[tokio::test]
async fn a_watched_config_map_is_put_in_force() {
    let (service, mut api) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = kube::Client::new(service, "wva-system");
    let map = Location::ConfigMap { namespace: "wva-system".into(), name: "wva-config".into() };
    let locations = Locations { own: Some(map), upstream: None };
    let object = |threshold: &str, version: &str| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "wva-config", "namespace": "wva-system", "resourceVersion": version},
            "data": {"config.yaml": format!("saturation: {{kvCacheThreshold: {threshold}}}\n")},
        })
    };
    let answers = [
        ("/api/v1/namespaces/wva-system/configmaps/wva-config", object("80", "1")),
        (
            "/api/v1/namespaces/wva-system/configmaps?",
            serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": {"resourceVersion": "2"}, "items": [object("60", "2")],
            }),
        ),
    ];
    let server = tokio::spawn(async move {
        for (path, body) in answers {
            let (request, answer) = api.next_request().await.unwrap();
            assert!(request.uri().to_string().starts_with(path), "{}", request.uri());
            answer.send_response(Response::new(Body::from(body.to_string().into_bytes())));
        }
        let (request, answer) = api.next_request().await.unwrap();
        assert!(request.uri().to_string().contains("fieldSelector=metadata.name%3Dwva-config"), "{}", request.uri());
        let event = serde_json::json!({"type": "MODIFIED", "object": object("50", "3")});
        answer.send_response(Response::new(Body::from(format!("{event}\n").into_bytes())));
        // Kept open: further requests of the watch stay unanswered.
        api
    });

    let documents = load(&locations, Some(&client)).await.unwrap();
    let live = Arc::new(LiveConfig::start(vec![url()], &documents, Arc::new(SystemClock)).unwrap());
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.8);
    let mut generation = live.subscribe();
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (live, stop) = (live.clone(), stop.clone());
        async move { watch(&live, &locations, documents, Some(&client), POLL, stop).await }
    });
    while next(&mut generation).await < 2 {}
    assert_eq!(live.config().saturation.kv_cache_threshold, 0.5);
    let _api = server.await.unwrap();
    stop.cancel();
    task.await.unwrap();
}
