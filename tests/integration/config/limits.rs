use wva::{
    config::Config,
    interfaces::{AcceleratorMode, ModelKey, OverrideKind, SaturationPolicy},
};

use super::{file, flags, messages, resolve};

fn kinds(config: &Config, model: &str) -> Vec<OverrideKind> {
    config.overrides_for(&ModelKey::new("llm", model)).iter().map(|order| order.kind).collect()
}

#[test]
fn accelerators_are_unlimited_unless_asked_for_otherwise() {
    let config = resolve([]).unwrap().config;
    assert_eq!(config.limits.accelerators, AcceleratorMode::Unlimited);
    let layers = [
        file("limits: {accelerators: limited, saturationPolicy: RoundRobin}\n"),
        flags(&["--limits-fit-nodes", "--limits-saturation-policy=None"]),
    ];
    let limits = resolve(layers).unwrap().config.limits;
    assert_eq!(limits.accelerators, AcceleratorMode::Limited);
    assert_eq!((limits.saturation_policy, limits.fit_nodes), (SaturationPolicy::None, true));
    let wrong = messages(resolve([file("limits: {saturationPolicy: Fair}\n")]));
    assert!(wrong[0].contains("limits.saturationPolicy") && wrong[0].contains("PriorityRoundRobin"), "{wrong:?}");
}

#[test]
fn a_model_has_its_own_overrides_and_inherits_the_others_key_by_key() {
    let config = resolve([file(
        "overrides: {pausedUntil: 2027-01-01T00:00:00Z}\n\
         models:\n- modelID: capped\n  overrides: {spendCap: 12.5, spendCapUntil: 2027-02-01T00:00:00Z}\n\
         - modelID: free\n  overrides: {pausedUntil: \"\"}\n",
    )])
    .unwrap()
    .config;
    assert_eq!(kinds(&config, "other"), [OverrideKind::Pause]);
    assert_eq!(kinds(&config, "capped"), [OverrideKind::Pause, OverrideKind::SpendCap]);
    assert_eq!(kinds(&config, "free"), []);
    let capped = config.overrides_for(&ModelKey::new("llm", "capped"));
    assert_eq!(capped[1].to_string(), "spend cap of 12.5 until 2027-02-01T00:00:00Z (configuration)");
}

#[test]
fn an_override_without_an_end_is_refused() {
    let wrong = messages(resolve([file("overrides: {spendCap: 12}\n")]));
    assert!(wrong.len() == 1 && wrong[0].contains("overrides.spendCapUntil is not set"), "{wrong:?}");
    for text in
        ["overrides: {pausedUntil: tomorrow}\n", "overrides: {spendCap: -3, spendCapUntil: 2027-01-01T00:00:00Z}\n"]
    {
        assert_eq!(messages(resolve([file(text)])).len(), 1, "{text}");
    }
}
