use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Picoseconds {
    Picoseconds::from_millis(seconds * 1000)
}

fn profile() -> Profile {
    Profile::built_in("llama-3.1-8b-h100").unwrap()
}

/// A pool whose variant `fast` starts in ten seconds.
fn pool(options: PoolOptions) -> Pool {
    let mut pool = Pool::new(options);
    pool.add_variant(VariantSpec { cold_start: seconds(10), ..VariantSpec::new("fast", profile()) });
    pool
}

/// The same with replicas that are ready at once.
fn ready_pool(replicas: u32, options: PoolOptions) -> Pool {
    let mut pool = pool(options);
    for _ in 0..replicas {
        pool.add_replica("fast", Picoseconds::ZERO).unwrap();
    }
    pool.advance_to(Picoseconds::ZERO);
    pool
}

fn counts(pool: &Pool) -> (u32, u32, u32) {
    let status = &pool.status()[0];
    (status.current, status.ready, status.draining)
}

#[test]
fn a_replica_starts_is_ready_drains_and_goes_and_is_paid_for_until_then() {
    let mut pool = pool(PoolOptions::default());
    pool.set_replicas("fast", 1).unwrap();
    pool.advance_to(seconds(9));
    assert_eq!(counts(&pool), (1, 0, 0));
    assert_eq!(pool.status()[0].pending_since_seconds, Some(0.0));

    pool.advance_to(seconds(10));
    assert_eq!(counts(&pool), (1, 1, 0));
    assert_eq!(pool.status()[0].pending_since_seconds, None);

    pool.submit(Request::new(seconds(20), 1000, 100));
    pool.advance_to(seconds(20) + Picoseconds::from_millis(100));
    pool.set_replicas("fast", 0).unwrap();
    assert_eq!(counts(&pool), (0, 0, 1));
    assert_eq!(pool.status()[0].spec, Some(0));

    pool.advance_to(seconds(3600));
    assert_eq!(counts(&pool), (0, 0, 0));
    assert_eq!(pool.attainment().completed, 1, "a draining replica finishes what it has");
    let hours = pool.status()[0].replica_hours;
    assert!((20.7 / 3600.0..20.8 / 3600.0).contains(&hours), "paid until its last token, not longer: {hours} h");
    assert_eq!(pool.status()[0].scale_actions, 2);
}

#[test]
fn cost_is_hours_times_price_and_starting_ones_cost_too() {
    let mut pool = pool(PoolOptions::default());
    pool.add_variant(VariantSpec::new("cheap", Profile { price: 0.25, ..profile() }));
    pool.set_replicas("fast", 2).unwrap();
    pool.set_replicas("cheap", 4).unwrap();
    pool.advance_to(seconds(1800));
    assert!((pool.cost() - (2.0 * 0.5 + 4.0 * 0.5 * 0.25)).abs() < 1e-9, "{}", pool.cost());
}

#[test]
fn requests_wait_at_the_gateway_until_a_replica_is_ready_and_their_wait_counts() {
    let mut pool = pool(PoolOptions { record_completions: true, ..PoolOptions::default() });
    pool.submit(Request::new(seconds(1), 100, 2));
    pool.set_replicas("fast", 1).unwrap();
    pool.submit(Request::new(seconds(5), 100, 2));
    assert_eq!(pool.gateway_queue(), 2);
    pool.advance_to(seconds(20));
    assert_eq!(pool.gateway_queue(), 0);

    let waits: Vec<_> = pool.take_completions().iter().map(|completion| completion.ttft() > seconds(7)).collect();
    assert_eq!(waits, [true, false]);
    assert_eq!(pool.attainment().met, 0);
    let engine = pool.replicas()[0].engine().metrics();
    assert_eq!(engine.time_to_first_token.counts()[..6].iter().sum::<u64>(), 2, "the engine sees only its own part");
}

#[test]
fn a_full_gateway_rejects() {
    let mut pool = pool(PoolOptions { gateway_capacity: 2, ..PoolOptions::default() });
    for _ in 0..5 {
        pool.submit(Request::new(seconds(1), 100, 2));
    }
    assert_eq!((pool.gateway_queue(), pool.attainment().rejected, pool.attainment().in_flight()), (2, 3, 2));
}

#[test]
fn a_request_too_long_for_every_replica_is_rejected_and_one_too_long_for_some_goes_to_the_others() {
    let mut pool = ready_pool(1, PoolOptions::default());
    pool.add_variant(VariantSpec::new("small", Profile { kv_tokens: 16_000, ..profile() }));
    pool.add_replica("small", Picoseconds::ZERO).unwrap();
    for _ in 0..4 {
        pool.submit(Request::new(seconds(1), 30_000, 2));
    }
    pool.submit(Request::new(seconds(1), 400_000, 2));
    pool.advance_to(seconds(60));
    assert_eq!((pool.attainment().completed, pool.attainment().rejected), (4, 1));
    assert_eq!(pool.replicas()[0].engine().metrics().finished, 4);
}

#[test]
fn equal_replicas_take_turns_and_the_least_loaded_is_chosen() {
    let mut pool = ready_pool(3, PoolOptions::default());
    for _ in 0..6 {
        pool.submit(Request::new(seconds(1), 100, 50));
    }
    let waiting = |pool: &Pool| pool.replicas().iter().map(|replica| replica.engine().waiting()).collect::<Vec<_>>();
    assert_eq!(waiting(&pool), [2, 2, 2]);
    pool.add_replica("fast", Picoseconds::ZERO).unwrap();
    for _ in 0..2 {
        pool.submit(Request::new(seconds(1), 100, 50));
    }
    assert_eq!(waiting(&pool), [2, 2, 2, 2]);
}

#[test]
fn a_heavier_variant_takes_a_larger_share() {
    let mut pool = pool(PoolOptions::default());
    pool.add_variant(VariantSpec { routing_weight: 3.0, ..VariantSpec::new("faster", profile()) });
    pool.add_replica("fast", Picoseconds::ZERO).unwrap();
    pool.add_replica("faster", Picoseconds::ZERO).unwrap();
    for _ in 0..40 {
        pool.submit(Request::new(seconds(1), 100, 50));
    }
    assert_eq!(pool.replicas().iter().map(|replica| replica.engine().waiting()).collect::<Vec<_>>(), [10, 30]);
}

#[test]
fn scaling_down_takes_starting_replicas_first_and_then_the_youngest() {
    let mut pool = pool(PoolOptions::default());
    pool.set_replicas("fast", 2).unwrap();
    pool.advance_to(seconds(20));
    pool.set_replicas("fast", 3).unwrap();
    pool.advance_to(seconds(40));
    pool.set_replicas("fast", 4).unwrap();
    let ids = |pool: &Pool| pool.replicas().iter().map(|replica| replica.id().0).collect::<Vec<_>>();
    assert_eq!(ids(&pool), [0, 1, 2, 3]);
    pool.set_replicas("fast", 3).unwrap();
    assert_eq!(ids(&pool), [0, 1, 2], "the starting one goes at once");
    pool.set_replicas("fast", 1).unwrap();
    assert_eq!(ids(&pool), [0]);
}

#[test]
fn a_stopped_replica_loses_its_requests_and_they_are_counted() {
    let mut pool = ready_pool(1, PoolOptions::default());
    for _ in 0..3 {
        pool.submit(Request::new(seconds(1), 100, 5000));
    }
    pool.advance_to(seconds(2));
    let id = pool.replicas()[0].id();
    pool.stop(id);
    assert!(pool.replica(id).is_none());
    assert_eq!((pool.attainment().aborted, pool.attainment().in_flight()), (3, 0));
}

#[test]
fn a_draining_replica_gets_no_new_requests_even_if_it_is_the_last() {
    let mut pool = ready_pool(1, PoolOptions::default());
    pool.submit(Request::new(seconds(1), 100, 5000));
    let id = pool.replicas()[0].id();
    pool.drain(id);
    pool.submit(Request::new(seconds(2), 100, 10));
    assert_eq!((pool.gateway_queue(), pool.replicas()[0].engine().running()), (1, 1));
}

#[test]
fn flow_control_keeps_the_queue_at_the_gateway_and_lets_it_go_as_room_appears() {
    let options = PoolOptions { flow_control: Some(FlowControl::default()), ..PoolOptions::default() };
    let mut pool = ready_pool(1, options);
    for _ in 0..1000 {
        pool.submit(Request::new(seconds(1), 500, 100));
    }
    pool.advance_to(seconds(2));
    let engine = pool.replicas()[0].engine();
    assert!(engine.waiting() <= 6, "{} wait at the engine", engine.waiting());
    assert!(pool.gateway_queue() > 500);
    pool.advance_to(seconds(600));
    assert_eq!((pool.gateway_queue(), pool.attainment().completed), (0, 1000));
}

#[test]
fn an_unknown_variant_is_an_error_that_names_the_known_ones() {
    let error = pool(PoolOptions::default()).set_replicas("slow", 1).unwrap_err();
    assert_eq!(error.to_string(), r#"the pool has no variant "slow"; it has ["fast"]: add the variant first"#);
}

#[derive(Clone, Debug)]
enum Event {
    Arrive(u32, u32),
    Scale(u32),
    StopOldest,
    Pass,
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        6 => (1_u32..3000, 1_u32..300).prop_map(|(prompt, output)| Event::Arrive(prompt, output)),
        2 => (0_u32..5).prop_map(Event::Scale),
        1 => Just(Event::StopOldest),
        1 => Just(Event::Pass),
    ];
    prop::collection::vec((0_u64..3000, event), 1..60)
}

fn play(events: &[(u64, Event)], flow_control: bool, pause_ms: Option<u64>) -> Pool {
    let mut pool = pool(PoolOptions {
        gateway_capacity: 8,
        flow_control: flow_control.then_some(FlowControl { queue_depth: 0, kv_cache: 0.8 }),
        ..PoolOptions::default()
    });
    let mut now = 0;
    for (gap, event) in events {
        if let Some(pause) = pause_ms {
            (now..now + gap).step_by(pause as usize).for_each(|at| pool.advance_to(Picoseconds::from_millis(at)));
        }
        now += gap;
        let at = Picoseconds::from_millis(now);
        pool.advance_to(at);
        match *event {
            Event::Arrive(prompt, output) => pool.submit(Request::new(at, prompt, output)),
            Event::Scale(count) => pool.set_replicas("fast", count).unwrap(),
            Event::StopOldest => pool.replicas().first().map(Replica::id).into_iter().for_each(|id| pool.stop(id)),
            Event::Pass => {}
        }
        let attainment = pool.attainment();
        let held: usize = pool.replicas().iter().map(|r| r.engine().running() + r.engine().waiting()).sum();
        assert_eq!(attainment.in_flight(), (held + pool.gateway_queue()) as u64, "{attainment:?}");
    }
    pool
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_request_is_lost_or_counted_twice(events in events(), flow_control: bool) {
        let mut pool = play(&events, flow_control, None);
        pool.set_replicas("fast", 1).unwrap();
        pool.advance_to(pool.now() + seconds(3600));
        let attainment = pool.attainment();
        prop_assert_eq!(attainment.in_flight(), 0);
        prop_assert!(attainment.met <= attainment.completed);
    }

    #[test]
    fn how_often_one_looks_changes_nothing(events in events(), flow_control: bool, pause_ms in 1_u64..80) {
        let (once, often) = (play(&events, flow_control, None), play(&events, flow_control, Some(pause_ms)));
        prop_assert_eq!(once.attainment(), often.attainment());
        prop_assert_eq!(once.status(), often.status());
        let metrics = |pool: &Pool| pool.replicas().iter().map(|r| r.engine().metrics().clone()).collect::<Vec<_>>();
        prop_assert_eq!(metrics(&once), metrics(&often));
    }
}
