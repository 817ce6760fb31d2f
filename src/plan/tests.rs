use clap::{Parser, error::ErrorKind};

use super::*;
use crate::interfaces::{Outcome, VariantKey};

const EXAMPLE: &str = include_str!("../../docs/examples/snapshot.yaml");

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    args: PlanArgs,
}

fn arguments(flags: &[&str]) -> Result<PlanArgs, clap::Error> {
    let given = ["plan", "--snapshot", "-"].into_iter().chain(flags.iter().copied());
    CommandLine::try_parse_from(given).map(|line| line.args)
}

fn planned(flags: &[&str]) -> anyhow::Result<Plan> {
    plan(Recording::read(EXAMPLE.as_bytes())?, &arguments(flags)?.what_if)
}

/// Desired replicas of the example's variants on L4 and on H100.
fn desired(decisions: &[Decision]) -> (u32, u32) {
    let of = |name: &str| {
        let decision = decisions.iter().find(|decision| decision.variant == VariantKey::new("llm", name)).unwrap();
        match &decision.outcome {
            Outcome::Desired(desired) => desired.replicas,
            Outcome::Withheld(withheld) => panic!("{}", withheld.message),
        }
    };
    (of("llama-l4"), of("llama-h100"))
}

#[test]
fn without_changes_it_is_the_engines_own_step() {
    let plan = planned(&[]).unwrap();
    assert_eq!(plan.decisions, engines::step(&State::default(), &plan.before).1);
    assert_eq!(plan.decisions, plan.replayed);
    assert_eq!((plan.changes.len(), plan.is_as_served), (0, None));
    let (l4, h100) = desired(&plan.decisions);
    assert!(l4 > 2 && h100 == 1, "the cheaper one grows");
}

/// Flags, what they must lead to on L4 and H100, and a clause of the changes.
type Case = (&'static [&'static str], fn(u32, u32) -> bool, &'static str);

#[test]
fn each_change_changes_what_it_says() {
    let cases: [Case; 7] = [
        (&["--cost", "llama-h100=1"], |l4, h100| l4 == 2 && h100 > 1, "cost of llm/llama-h100 1 instead of 30"),
        (&["--free", "L4=0", "--free", "H100=2"], |l4, h100| l4 == 2 && h100 > 1, "0 free accelerators of type L4"),
        (&["--limits", "limited"], |l4, h100| (l4, h100) == (2, 1), "accelerators limited"),
        (&["--max-replicas", "llm/llama-l4=2"], |l4, h100| l4 == 2 && h100 > 1, "maximum of llm/llama-l4 2"),
        (&["--min-replicas", "llama-h100=3"], |_, h100| h100 >= 3, "minimum of llm/llama-h100 3 instead of 1"),
        (
            &["--kv-cache-threshold", "100", "--queue-depth-threshold", "1000", "--spare-capacity-target", "1"],
            |l4, h100| (l4, h100) == (2, 1),
            "kvCacheThreshold 100 %",
        ),
        (
            &["--ttft", "500ms", "--itl", "40ms"],
            |l4, _| l4 >= 2,
            "time to first token 0.5 s; time between tokens 0.04 s",
        ),
    ];
    for (flags, expected, clause) in cases {
        let plan = planned(flags).unwrap();
        let (l4, h100) = desired(&plan.decisions);
        assert!(expected(l4, h100), "{flags:?}: {l4} and {h100}");
        assert!(plan.changes.join("; ").contains(clause), "{:?}", plan.changes);
        assert_eq!(plan.replayed, planned(&[]).unwrap().decisions, "what was is shown beside it");
    }
}

#[test]
fn a_change_of_what_is_not_there_is_refused_with_what_is() {
    for (flags, expected) in [
        (["--cost", "gone=1"], "it has llm/llama-h100, llm/llama-l4"),
        (["--cost", "other/llama-l4=1"], "variant other/llama-l4 is not in the snapshot"),
        (["--model", "gone"], "it has meta-llama/Llama-3.1-8B-Instruct"),
        (["--min-replicas", "llama-l4=99"], "more than the variant's maximum"),
        (["--kv-cache-threshold", "300"], "kvCacheThreshold"),
    ] {
        let message = planned(&flags).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    for flags in [["--cost", "a"], ["--ttft", "fast"], ["--limits", "some"], ["--free", "L4=-1"]] {
        assert_eq!(arguments(&flags).unwrap_err().kind(), ErrorKind::ValueValidation, "{flags:?}");
    }
}

#[test]
fn the_table_names_each_variant_its_reason_and_the_costs() {
    let plan = planned(&["--cost", "llama-h100=1"]).unwrap();
    let table = output::table(&plan);
    for part in
        ["what if: cost of llm/llama-h100", "llm/llama-l4 ", "  was", "saturation: ", "as set", "without the changes"]
    {
        assert!(table.contains(part), "{part} is missing from\n{table}");
    }
    let document = output::document(&plan);
    assert_eq!(document["decisions"].as_array().unwrap().len(), 2);
    assert_eq!(document["cost"]["asSet"], 15.0);
    assert_eq!(document["sameAsServed"], serde_json::Value::Null);
}

#[test]
fn a_recording_says_whether_its_decisions_were_served() {
    let mut recording = Recording::read(EXAMPLE.as_bytes()).unwrap();
    recording.decisions = engines::step(&recording.state, &recording.snapshot).1;
    let what_if = WhatIf::default();
    assert_eq!(plan(recording.clone(), &what_if).unwrap().is_as_served, Some(true));
    recording.decisions.pop();
    assert_eq!(plan(recording, &what_if).unwrap().is_as_served, Some(false));
}
