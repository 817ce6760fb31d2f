use proptest::prelude::*;

use super::*;

fn profile() -> Profile {
    Profile::built_in("llama-3.1-8b-h100").unwrap()
}

/// A cache so small that a few sequences fill it.
fn small() -> Profile {
    Profile { kv_tokens: 2048, max_num_seqs: 8, max_num_batched_tokens: 256, ..profile() }
}

fn at_ms(milliseconds: u64) -> Picoseconds {
    Picoseconds::from_millis(milliseconds)
}

fn run(engine: &mut Engine, until: Picoseconds) -> Vec<Completion> {
    let mut completions = Vec::new();
    engine.advance_to(until, &mut completions);
    completions
}

#[test]
fn a_lone_request_takes_the_iterations_the_formula_says() {
    let mut engine = Engine::new(&profile(), Picoseconds::ZERO);
    engine.submit(Request::new(Picoseconds::ZERO, 1000, 3)).unwrap();
    let completions = run(&mut engine, at_ms(1000));

    // 7 ms + 1000·0.019 ms, then two decode iterations over 1000 and 1001 KV tokens.
    let first = 26_000_000_000;
    let decode = |kv_tokens: u64| 7_000_000_000 + 6_300_000 + 41_300 * kv_tokens;
    assert_eq!(completions[0].ttft().get(), first);
    assert_eq!(completions[0].finished_at.get(), first + decode(1000) + decode(1001));
    assert_eq!(engine.idle_since(), completions[0].finished_at);
    assert_eq!(engine.metrics().generation_tokens, 3);
    assert_eq!(engine.metrics().inter_token_latency.counts()[0], 2);
}

#[test]
fn a_prompt_longer_than_the_token_budget_is_computed_in_chunks() {
    let mut engine = Engine::new(&profile(), Picoseconds::ZERO);
    engine.submit(Request::new(Picoseconds::ZERO, 5000, 1)).unwrap();
    let completions = run(&mut engine, at_ms(1000));
    assert_eq!(completions[0].ttft().get(), 3 * 7_000_000_000 + 5000 * 19_000_000);
    assert_eq!(engine.metrics().iteration_tokens.count(), 3);
}

#[test]
fn a_cached_prefix_is_not_computed_but_counted() {
    let mut engine = Engine::new(&profile(), Picoseconds::ZERO);
    let request = Request { cached_tokens: 1000, ..Request::new(Picoseconds::ZERO, 1000, 1) };
    engine.submit(request).unwrap();
    assert_eq!(run(&mut engine, at_ms(1000))[0].ttft().get(), 7_000_000_000 + 19_000_000);
    assert_eq!(engine.metrics().prefix_cache_hits, 1000);
    assert_eq!(engine.metrics().prompt_tokens, 1000);
}

#[test]
fn requests_of_one_instant_share_an_iteration_and_later_ones_wait_for_the_next() {
    let mut engine = Engine::new(&profile(), Picoseconds::ZERO);
    engine.submit(Request::new(Picoseconds::ZERO, 100, 50)).unwrap();
    engine.submit(Request::new(Picoseconds::ZERO, 100, 50)).unwrap();
    assert_eq!((engine.running(), engine.waiting()), (0, 2));
    run(&mut engine, at_ms(1));
    engine.submit(Request::new(at_ms(1), 100, 50)).unwrap();
    assert_eq!((engine.running(), engine.waiting()), (2, 1));
    run(&mut engine, at_ms(11));
    assert_eq!((engine.running(), engine.waiting()), (3, 0));
}

#[test]
fn a_full_batch_leaves_the_rest_waiting() {
    let mut engine = Engine::new(&small(), Picoseconds::ZERO);
    for _ in 0..20 {
        engine.submit(Request::new(Picoseconds::ZERO, 10, 100)).unwrap();
    }
    run(&mut engine, at_ms(100));
    assert_eq!((engine.running(), engine.waiting()), (8, 12));
}

#[test]
fn admission_stops_below_the_whole_cache() {
    // 128 blocks, of which 126 may be taken by admission: three contexts of 40 blocks fit, and no fourth.
    let mut engine = Engine::new(&Profile { max_num_batched_tokens: 2048, ..small() }, Picoseconds::ZERO);
    for _ in 0..4 {
        engine.submit(Request::new(Picoseconds::ZERO, 640, 2)).unwrap();
    }
    run(&mut engine, at_ms(1));
    assert_eq!(engine.kv_blocks_used(), 120);
    assert_eq!((engine.running(), engine.waiting()), (3, 1));
}

#[test]
fn what_can_never_fit_is_given_back() {
    let mut engine = Engine::new(&small(), Picoseconds::ZERO);
    let request = Request::new(Picoseconds::ZERO, 2000, 100);
    assert_eq!(engine.submit(request), Err(request));
    assert_eq!(engine.submit(Request::new(Picoseconds::ZERO, u32::MAX, u32::MAX)).unwrap_err().prompt_tokens, u32::MAX);
    assert!(engine.is_idle());
}

#[test]
fn a_full_cache_preempts_the_newest_which_then_completes_all_the_same() {
    let mut engine = Engine::new(&small(), Picoseconds::ZERO);
    for _ in 0..3 {
        engine.submit(Request::new(Picoseconds::ZERO, 600, 400)).unwrap();
    }
    let completions = run(&mut engine, at_ms(60_000));
    assert_eq!(completions.len(), 3);
    assert!(engine.metrics().preemptions > 0);
    let preempted: Vec<_> = completions.iter().map(|completion| completion.preemptions > 0).collect();
    assert_eq!(preempted, [false, false, true], "the last to be admitted, and it alone, lost its place");
    assert_eq!(engine.metrics().prompt_tokens, 1800, "recomputed prompts count once");
    assert_eq!(engine.metrics().generation_tokens, 1200);
}

#[test]
fn an_aborted_engine_is_idle_and_can_go_on() {
    let mut engine = Engine::new(&profile(), Picoseconds::ZERO);
    for _ in 0..5 {
        engine.submit(Request::new(Picoseconds::ZERO, 3000, 50)).unwrap();
    }
    run(&mut engine, at_ms(100));
    assert_eq!(engine.abort(), 5);
    assert!(engine.is_idle() && engine.kv_blocks_used() == 0);
    assert_eq!(engine.idle_since(), at_ms(100));
    engine.submit(Request::new(at_ms(100), 10, 10)).unwrap();
    assert_eq!(run(&mut engine, at_ms(1000)).len(), 1);
}

/// One sequence at a time and lengths that do not vary make an M/D/1 queue, whose mean wait is ρS / 2(1 − ρ).
#[test]
fn waiting_agrees_with_the_queueing_formula_for_constant_service() {
    use rand::{SeedableRng, rngs::StdRng};
    use rand_distr::{Distribution, Exp};

    let profile = Profile { max_num_seqs: 1, kv_ms_per_token: 0.0, ..profile() };
    let service = (7.0 + 0.019 * 100.0) / 1000.0 + 9.0 * (7.0 + 0.0063) / 1000.0;
    for utilisation in [0.3, 0.7] {
        let between = Exp::new(utilisation / service).unwrap();
        let mut random = StdRng::seed_from_u64(7);
        let mut engine = Engine::new(&profile, Picoseconds::ZERO);
        let (mut completions, mut seconds) = (Vec::new(), 0.0);
        for _ in 0..100_000 {
            seconds += between.sample(&mut random);
            let arrival = Picoseconds::from_secs_f64(seconds);
            engine.advance_to(arrival, &mut completions);
            engine.submit(Request::new(arrival, 100, 10)).unwrap();
        }
        engine.advance_to(Picoseconds::from_secs_f64(seconds + 1000.0), &mut completions);

        let queued = engine.metrics().queue_time.sum() as f64 / 1e12 / completions.len() as f64;
        let expected = utilisation * service / (2.0 * (1.0 - utilisation));
        assert!((queued / expected - 1.0).abs() < 0.04, "ρ {utilisation}: {queued} s, expected {expected} s");
    }
}

/// Gaps in milliseconds and lengths.
fn requests() -> impl Strategy<Value = Vec<(u64, u32, u32, u32)>> {
    prop::collection::vec((0_u64..200, 1_u32..900, 1_u32..500, 0_u32..300), 1..40)
}

fn play(profile: &Profile, requests: &[(u64, u32, u32, u32)], pause_ms: Option<u64>) -> (Vec<Completion>, Engine) {
    let mut engine = Engine::new(profile, Picoseconds::ZERO);
    let (mut completions, mut now) = (Vec::new(), 0);
    let mut reach = |engine: &mut Engine, from: u64, to: u64| {
        for pause in (from..to).step_by(pause_ms.unwrap_or(u64::MAX) as usize) {
            engine.advance_to(at_ms(pause), &mut completions);
            assert!(engine.blocks.used() <= small().kv_blocks());
        }
        engine.advance_to(at_ms(to), &mut completions);
    };
    for &(gap, prompt, output, cached) in requests {
        reach(&mut engine, now, now + gap);
        now += gap;
        let request = Request { cached_tokens: cached, ..Request::new(at_ms(now), prompt, output) };
        engine.submit(request).unwrap();
    }
    reach(&mut engine, now, now + 600_000);
    (completions, engine)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_request_completes_and_every_token_is_counted(requests in requests()) {
        let (completions, engine) = play(&small(), &requests, None);
        prop_assert_eq!(completions.len(), requests.len());
        prop_assert!(engine.is_idle());
        prop_assert_eq!(engine.kv_blocks_used(), 0);
        let metrics = engine.metrics();
        prop_assert_eq!(metrics.finished, requests.len() as u64);
        prop_assert_eq!(metrics.prompt_tokens, requests.iter().map(|r| u64::from(r.1)).sum::<u64>());
        prop_assert_eq!(metrics.generation_tokens, requests.iter().map(|r| u64::from(r.2)).sum::<u64>());
        let intervals: u64 = requests.iter().map(|r| u64::from(r.2) - 1).sum();
        prop_assert_eq!(metrics.inter_token_latency.count(), intervals);
        // Gaps between tokens add up to the time from first to last, preempted or not.
        prop_assert_eq!(metrics.inter_token_latency.sum(), metrics.decode_time.sum());
        for completion in &completions {
            prop_assert!(completion.request.arrival < completion.first_token_at);
            prop_assert!(completion.first_token_at <= completion.finished_at);
        }
    }

    #[test]
    fn how_often_one_looks_changes_nothing(requests in requests(), pause_ms in 1_u64..50) {
        let (at_once, engine) = play(&small(), &requests, None);
        let (watched, watched_engine) = play(&small(), &requests, Some(pause_ms));
        prop_assert_eq!(at_once, watched);
        prop_assert_eq!(engine.metrics(), watched_engine.metrics());
        prop_assert_eq!(engine.idle_since(), watched_engine.idle_since());
    }
}
