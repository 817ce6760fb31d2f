//! Against a mock of kube-apiserver that keeps `ConfigMap`s with their `resourceVersion`s.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::interfaces::{Desired, Direction, EngineName, ModelKey, Reason, SaturationLevel, VariantKey};

#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<Kept>>);

/// Objects by name, and the names of those written.
type Kept = (BTreeMap<String, Value>, Vec<String>);

impl Cluster {
    fn archive(&self) -> Archive {
        let cluster = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let name = parts.uri.path().rsplit('/').next().unwrap().to_owned();
                let (status, answer) = cluster.answer(&parts.method, &name, &body);
                let response = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }
        });
        Archive::new(Client::new(service, "wva-system"), "wva-system")
    }

    fn answer(&self, method: &Method, name: &str, body: &[u8]) -> (StatusCode, Value) {
        let mut kept = self.0.lock().unwrap();
        let new = || json!({"metadata": {"name": name, "resourceVersion": "1"}});
        let current = kept.0.entry(name.to_owned()).or_insert_with(new).clone();
        if method == Method::GET {
            return (StatusCode::OK, current);
        }
        let mut next: Value = serde_json::from_slice(body).unwrap();
        if next["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"] {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409});
            return (StatusCode::CONFLICT, status);
        }
        let version: u32 = next["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        next["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        kept.0.insert(name.to_owned(), next.clone());
        kept.1.push(name.to_owned());
        (StatusCode::OK, next)
    }

    /// The writes since the last look.
    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn decision(replicas: u32, text: &str, second: i64) -> Decision {
    Decision {
        variant: VariantKey::new("prod", "a"),
        model: ModelKey::new("prod", "meta/llama"),
        accelerator: None,
        current: Some(2),
        ready: 2,
        decided_at: at(second),
        saturation: SaturationLevel::default(),
        outcome: Outcome::Desired(Desired {
            replicas,
            unconstrained: replicas,
            direction: Direction::Up,
            reason: Reason { engine: EngineName::Saturation, text: text.to_owned() },
            bound_by: None,
            oldest_input: None,
        }),
    }
}

fn shard() -> String {
    decisions_name(super::super::shard_of(&ModelKey::new("prod", "meta/llama")))
}

#[tokio::test]
async fn decisions_are_written_when_an_hpa_could_tell_and_otherwise_a_heartbeat_will_do() {
    let cluster = Cluster::default();
    let mut archive = cluster.archive();
    archive.take_over(1).await.unwrap();
    assert_eq!(cluster.writes().len(), DECISION_SHARDS + STATE_PARTS + 1, "a term begins on every object");
    let state = State::default();
    archive.save(&[decision(3, "busy", 0)], &state, at(0)).await.unwrap();
    assert_eq!(
        cluster.writes().len(),
        DECISION_SHARDS + 2,
        "the first of a term writes all shards, heartbeat and state"
    );

    for (second, replicas, text, expected) in [
        (1, 3, "busy", vec![]),
        (2, 3, "busier", vec![]),
        (5, 3, "busier", vec![HEARTBEAT.to_owned()]),
        (6, 4, "busier", vec![shard(), HEARTBEAT.to_owned()]),
        (7, 4, "busier", vec![]),
        (36, 4, "still", vec![shard(), HEARTBEAT.to_owned()]),
        (37, 4, "still", vec![]),
    ] {
        archive.save(&[decision(replicas, text, second)], &state, at(second)).await.unwrap();
        assert_eq!(cluster.writes(), expected, "after {second} s");
    }
    archive.save(&[], &state, at(38)).await.unwrap();
    assert_eq!(cluster.writes(), [shard(), HEARTBEAT.to_owned()], "a variant that left");
}

#[tokio::test]
async fn a_new_leader_has_the_old_ones_state_and_the_old_one_can_write_no_more() {
    let cluster = Cluster::default();
    let (mut old, mut new) = (cluster.archive(), cluster.archive());
    assert_eq!(old.take_over(1).await.unwrap(), None, "the first leader finds nothing");
    let state: State = serde_json::from_value(json!({"version": 1, "variants": [[
        {"namespace": "prod", "name": "a"},
        {"desired": 3, "desiredSince": at(0), "ready": 2, "readySince": at(0), "spec": 2, "specSince": at(0)}]]}))
    .unwrap();
    old.save(&[decision(3, "busy", 0)], &state, at(0)).await.unwrap();

    assert_eq!(new.take_over(2).await.unwrap(), Some(state.clone()));
    cluster.writes();
    // It slept through the election, and wakes up.
    let error = old.save(&[decision(9, "outdated", 1)], &state, at(1)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Deposed { found: 2, ours: 1, .. }), "{error}");
    old.save(&[decision(9, "outdated", 2)], &state, at(2)).await.unwrap();
    assert_eq!(cluster.writes(), Vec::<String>::new());
    assert!(matches!(old.take_over(1).await.unwrap_err(), ArchiveError::Deposed { .. }));

    new.save(&[decision(3, "busy", 3)], &state, at(3)).await.unwrap();
    assert!(cluster.writes().contains(&shard()));
}

#[tokio::test]
async fn somebodys_edit_costs_one_write_and_not_the_leadership() {
    let cluster = Cluster::default();
    let mut archive = cluster.archive();
    archive.take_over(1).await.unwrap();
    let state = State::default();
    archive.save(&[decision(3, "busy", 0)], &state, at(0)).await.unwrap();
    let mut other = cluster.archive();
    other.term = Some(1);
    other.write(&shard(), Vec::new(), &[]).await.unwrap();
    assert!(archive.save(&[decision(4, "busy", 1)], &state, at(1)).await.is_err());
    archive.save(&[decision(4, "busy", 2)], &state, at(2)).await.unwrap();
    assert_eq!(archive.term(), Some(1));
}
