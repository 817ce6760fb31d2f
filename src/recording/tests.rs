use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    engines::step,
    interfaces::{
        ModelKey, PerformanceSignals, ReplicaBounds, ReplicaMetrics, Role, ScaleObservation, Signal, TargetObservation,
        TargetReference, Variant, VariantKey, VariantObservation,
    },
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn variant(index: usize, cost: f64, ready: u32, kv_cache_usage: f64, queue: f64) -> VariantObservation {
    let name = format!("v{index}");
    let key = VariantKey::new("llm", name.as_str());
    let replica = |number| ReplicaMetrics {
        pod: format!("{name}-{number}").into(),
        instance: format!("{name}-{number}:8000").into(),
        variant: Some(key.clone()),
        kv_cache_usage: Signal::present(kv_cache_usage, at(0)),
        queue_length: Signal::present(queue, at(0)),
        running: Signal::NotDefined,
        performance: Arc::new(PerformanceSignals {
            arrival_rate: Signal::present(queue / 3.0, at(0)),
            ..PerformanceSignals::default()
        }),
        ..ReplicaMetrics::default()
    };
    VariantObservation {
        variant: Variant {
            key: key.clone(),
            model: ModelKey::new("llm", "m"),
            accelerator: Some("H100".into()),
            accelerators_per_replica: Some(1),
            profile: None,
            cost,
            role: Role::Both,
            bounds: ReplicaBounds::default(),
            target: TargetReference {
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: name.as_str().into(),
            },
            overrides: Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation {
            spec: ready,
            current: ready,
            ready,
            pending_since: vec![at(-1)],
        }),
        replicas: (0..ready).map(replica).collect(),
        autoscalers: Vec::new(),
    }
}

fn recording(second: i64) -> Recording {
    let mut snapshot = Snapshot::at(at(second));
    snapshot.variants = vec![variant(0, 1.0, 2, 0.95, 7.0), variant(1, 0.1 + 0.2, 1, 1.0 / 3.0, 0.0)];
    let (state, _) = step(&State::default(), &snapshot);
    snapshot.taken_at = at(second + 5);
    let (_, decisions) = step(&state, &snapshot);
    Recording { state, snapshot: Arc::new(snapshot), decisions }
}

#[test]
fn a_recording_survives_the_disk_and_gives_the_very_decisions() {
    let recording = recording(0);
    let read = Recording::read(&recording.pack().unwrap()).unwrap();
    assert_eq!(read, recording);
    assert_eq!(step(&read.state, &read.snapshot).1, recording.decisions);
}

#[test]
fn a_snapshot_alone_is_read_in_json_and_in_yaml() {
    let snapshot = recording(0).snapshot;
    let json = serde_json::to_string(&*snapshot).unwrap();
    let yaml = serde_saphyr::to_string(&*snapshot).unwrap();
    for text in [json, yaml] {
        let read = Recording::read(text.as_bytes()).unwrap();
        assert_eq!((read.snapshot, read.state), (snapshot.clone(), State::default()), "{text}");
    }
}

#[test]
fn what_is_no_recording_is_told_apart() {
    let other = Snapshot { version: 99, ..Snapshot::at(at(0)) };
    let cases = [
        (serde_json::to_vec(&other).unwrap(), "its snapshot is of version 99"),
        (b"{\"variants\": 3}".to_vec(), "neither a recording nor a snapshot"),
        (vec![0x1f, 0x8b, 1, 2, 3], "cannot be unpacked"),
        (vec![0xff, 0xfe], "cannot be unpacked"),
    ];
    for (bytes, expected) in cases {
        let message = Recording::read(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn the_schema_names_every_part_of_a_snapshot() {
    let text = schema().to_string();
    for part in ["takenAt", "pendingSince", "kvCacheUsage", "acceleratorsPerReplica", "saturationPerModel", "SpendCap"]
    {
        assert!(text.contains(part), "{part} is missing");
    }
}

#[test]
fn a_directory_keeps_the_newest_within_its_limits_and_leaves_other_files_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    let size = recording(0).pack().unwrap().len() as u64;
    let names = |limits| {
        let bounded = Directory::open(directory.path(), limits).unwrap();
        for second in 0..6 {
            bounded.add(&recording(second)).unwrap();
        }
        let found = bounded.recordings().unwrap();
        found.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let by_count = names(DirectoryLimits { files: 2, bytes: u64::MAX });
    assert_eq!(by_count, ["wva-2027-01-15T08-00-09.000Z.json.gz", "wva-2027-01-15T08-00-10.000Z.json.gz"]);
    assert_eq!(names(DirectoryLimits { files: 100, bytes: size * 7 / 2 }).len(), 3);
    assert_eq!(names(DirectoryLimits { files: 0, bytes: 0 }).len(), 1, "the newest stays");
    assert!(directory.path().join("notes.txt").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_number_is_read_back_to_the_last_bit(
        cost in any::<f64>().prop_filter("JSON has no others", |cost| cost.is_finite()),
        usage in prop_oneof![0.0..1.0_f64, Just(1e-300), Just(f64::MIN_POSITIVE), Just(1e22), Just(-0.0)],
        queue in 0.0..1e6_f64, ready in 0_u32..4, nanos in 0_u32..1_000_000_000,
    ) {
        let mut snapshot = Snapshot::at(Timestamp::new(1_800_000_000, nanos.cast_signed()).unwrap());
        snapshot.variants = vec![variant(0, cost, ready, usage, queue)];
        snapshot.ages.pending = Duration::new(3, nanos);
        let (state, decisions) = step(&State::default(), &snapshot);
        let recording = Recording { state, snapshot: Arc::new(snapshot), decisions };
        prop_assert_eq!(Recording::read(&recording.pack().unwrap()).unwrap(), recording);
    }
}
