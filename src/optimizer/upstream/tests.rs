use super::*;

fn variant(name: &str, cost: f64, capacity: f64, current: u32) -> UpstreamVariant {
    UpstreamVariant { name: name.to_owned(), cost, capacity, current, min: 0, max: None, accelerators: 2 }
}

#[test]
fn upstreams_cost_aware_vectors_hold() {
    let cheap = |current| variant("cheap", 5.0, 10_000.0, current);
    let dear = |current| variant("exp", 15.0, 20_000.0, current);
    assert_eq!(cost_aware(5_000.0, 0.0, &[cheap(2), dear(1)]), [3, 1], "vector 39");
    assert_eq!(cost_aware(25_000.0, 0.0, &[cheap(1)]), [4], "vector 40");
    let capped = UpstreamVariant { max: Some(3), ..cheap(2) };
    assert_eq!(cost_aware(30_000.0, 0.0, &[capped, dear(1)]), [3, 2], "vector 41");
    assert_eq!(cost_aware(0.0, 15_000.0, &[cheap(3), dear(2)]), [2, 2], "vector 42");
}

#[test]
fn upstreams_greedy_by_score_vectors_hold() {
    let model = |name: &str, required| ScoredModel {
        name: name.to_owned(),
        weight: 1.0,
        required,
        variants: vec![variant(name, 5.0, 15_000.0, 1)],
    };
    assert_eq!(greedy_by_score(&[model("a", 50_000.0)], 4), [[3]]);
    assert_eq!(greedy_by_score(&[model("a", 50_000.0), model("b", 10_000.0)], 8), [[4], [2]]);
    assert_eq!(greedy_by_score(&[model("a", 20_000.0), model("b", 20_000.0)], 8), [[3], [3]]);
}

#[test]
fn upstreams_rescale_vectors_hold() {
    let contender = |floor, priority, demand| Contender { floor, priority, demand };
    assert_eq!(rescale(&[contender(0, 1.0, 8), contender(0, 3.0, 8)], 8), [2, 6]);
    assert_eq!(rescale(&[contender(0, 1.0, 8), contender(0, 3.0, 4)], 8), [4, 4]);
    assert_eq!(rescale(&[contender(1, 1.0, 0), contender(1, 1.0, 8)], 6), [1, 5]);
}

#[test]
fn upstreams_enforcer_vectors_hold() {
    let variants = [variant("b", 5.0, 1.0, 1), variant("a", 5.0, 1.0, 2), variant("c", 9.0, 1.0, 3)];
    let with_minimum = [variant("b", 5.0, 1.0, 1), UpstreamVariant { min: 1, ..variant("a", 5.0, 1.0, 2) }];
    assert_eq!(enforce(&variants, &[1, 2, 3], true, Some(0.0)), [0, 0, 0], "no requests");
    assert_eq!(enforce(&variants, &[1, 2, 3], true, Some(7.0)), [1, 2, 3], "requests");
    assert_eq!(enforce(&variants, &[1, 2, 3], true, None), [1, 2, 3], "the query failed");
    assert_eq!(enforce(&variants, &[0, 0, 0], false, Some(0.0)), [0, 1, 0], "the cheapest, the first by name");
    assert_eq!(enforce(&variants, &[0, 0, 1], false, Some(0.0)), [0, 0, 1], "one is left");
    assert_eq!(enforce(&with_minimum, &[1, 2], true, Some(0.0)), [1, 2], "a minimum");
    assert_eq!(enforce(&with_minimum, &[0, 0], false, None), [0, 0], "a minimum");
    assert_eq!(enforce(&[], &[], false, None), [0_u32; 0]);
}
