//! The simulated fleet against closed forms: with one sequence at a time an engine is a single server, and its queue must
//! be the one that theory computes.

use wva::fleet::{Attainment, Completion, FlowControl, Picoseconds, Pool, PoolOptions, Profile, Request, VariantSpec};

/// Time of an iteration: a request of n output tokens is served for n of them.
const ITERATION_SECONDS: f64 = 0.01;

/// A uniform stream that is the same everywhere: splitmix64.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }
}

fn single_server(options: &PoolOptions) -> Pool {
    let profile = Profile {
        iteration_ms: ITERATION_SECONDS * 1e3,
        prefill_ms_per_token: 0.0,
        decode_ms_per_sequence: 0.0,
        kv_ms_per_token: 0.0,
        max_num_seqs: 1,
        ..Profile::built_in("llama-3.1-8b-h100").unwrap()
    };
    let mut pool = Pool::new(PoolOptions { record_completions: true, ..options.clone() });
    pool.add_variant(VariantSpec::new("server", profile));
    pool.add_replica("server", Picoseconds::ZERO).unwrap();
    pool
}

/// Plays Poisson arrivals at `rate` with lengths in tokens from `tokens`; returns what completed.
fn play(
    pool: &mut Pool,
    count: usize,
    rate: f64,
    mut tokens: impl FnMut(&mut Uniform) -> u32,
) -> (Vec<Completion>, Attainment) {
    let mut random = Uniform(42);
    let mut time = 0.0;
    let mut completions = Vec::new();
    for _ in 0..count {
        time += random.exponential(1.0 / rate);
        let output = tokens(&mut random);
        pool.submit(Request::new(Picoseconds::from_secs_f64(time), 1, output));
        completions.extend(pool.take_completions());
    }
    pool.advance_to(Picoseconds::from_secs_f64(time + 1e6));
    completions.extend(pool.take_completions());
    (completions, pool.attainment())
}

/// Mean time from arrival to the start of service: to the first token, less the one iteration that makes it.
fn mean_wait(completions: &[Completion]) -> f64 {
    let waits = completions.iter().map(|completion| completion.ttft().as_secs_f64() - ITERATION_SECONDS);
    waits.sum::<f64>() / completions.len() as f64
}

fn assert_close(measured: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((measured / expected - 1.0).abs() < tolerance, "{what}: {measured} measured, {expected} by theory");
}

#[test]
fn the_wait_is_pollaczek_and_khinchines_for_constant_exponential_and_two_point_service() {
    type Sampler = fn(&mut Uniform) -> u32;
    let cases: [(&str, Sampler); 3] = [
        ("M/D/1", |_| 200),
        ("M/M/1", |random| random.exponential(200.0).round().max(1.0) as u32),
        ("M/G/1", |random| if random.next() < 0.9 { 100 } else { 1100 }),
    ];
    for (name, sampler) in cases {
        for load in [0.5, 0.7] {
            let rate = load / (200.0 * ITERATION_SECONDS);
            let (completions, _) = play(&mut single_server(&PoolOptions::default()), 60_000, rate, sampler);
            let service: Vec<f64> = completions
                .iter()
                .map(|completion| f64::from(completion.request.output_tokens) * ITERATION_SECONDS)
                .collect();
            let mean = service.iter().sum::<f64>() / service.len() as f64;
            let square = service.iter().map(|seconds| seconds * seconds).sum::<f64>() / service.len() as f64;
            let expected = rate * square / (2.0 * (1.0 - rate * mean));
            assert_close(mean_wait(&completions), expected, 0.06, &format!("{name} at load {load}"));
        }
    }
}

/// One in service, one waiting at the engine, and the rest of the places at the gateway.
#[test]
fn a_bounded_queue_turns_away_the_share_that_m_m_1_k_says() {
    for (load, places) in [(0.8, 5), (1.2, 8)] {
        let options = PoolOptions {
            gateway_capacity: places - 2,
            flow_control: Some(FlowControl { queue_depth: 0, kv_cache: 1.0 }),
            ..PoolOptions::default()
        };
        // Long service, so that the 50 ms after which the gateway looks again do not count.
        let mean_tokens = 2000.0;
        let rate = load / (mean_tokens * ITERATION_SECONDS);
        let sampler = |random: &mut Uniform| random.exponential(mean_tokens).round().max(1.0) as u32;
        let (_, attainment) = play(&mut single_server(&options), 40_000, rate, sampler);
        let expected = (1.0 - load) * load_power(load, places) / (1.0 - load_power(load, places + 1));
        let measured = attainment.rejected as f64 / attainment.arrived as f64;
        assert_close(measured, expected, 0.06, &format!("M/M/1/{places} at load {load}"));
    }
}

fn load_power(load: f64, exponent: usize) -> f64 {
    load.powi(i32::try_from(exponent).unwrap())
}

#[test]
fn every_request_ends_or_is_counted_and_every_token_asked_for_comes_out() {
    let mut pool = Pool::new(PoolOptions { gateway_capacity: 20, record_completions: true, ..PoolOptions::default() });
    let small = Profile { kv_tokens: 8_000, max_num_seqs: 16, ..Profile::built_in("llama-3.1-8b-l40s").unwrap() };
    pool.add_variant(VariantSpec::new("small", small));
    let mut random = Uniform(7);
    let (mut time, mut tokens_out) = (0.0, 0);
    for step in 0..6_000 {
        time += random.exponential(0.25);
        let prompt = random.exponential(900.0).ceil() as u32;
        pool.submit(Request::new(Picoseconds::from_secs_f64(time), prompt, random.exponential(150.0).ceil() as u32));
        if step % 200 == 0 {
            pool.set_replicas("small", (random.next() * 6.0) as u32).unwrap();
        }
        if step % 1500 == 1499
            && let Some(id) = pool.replicas().first().map(wva::fleet::Replica::id)
        {
            pool.stop(id);
        }
        tokens_out += completed_tokens(&mut pool);
        let attainment = pool.attainment();
        let held: usize = pool.replicas().iter().map(|r| r.engine().running() + r.engine().waiting()).sum();
        assert_eq!(attainment.in_flight(), (held + pool.gateway_queue()) as u64, "at step {step}");
    }
    pool.set_replicas("small", 4).unwrap();
    pool.advance_to(Picoseconds::from_secs_f64(time + 1e5));
    tokens_out += completed_tokens(&mut pool);
    let attainment = pool.attainment();
    assert_eq!(attainment.in_flight(), 0);
    assert_eq!(attainment.arrived, attainment.completed + attainment.rejected + attainment.aborted);
    assert!(attainment.completed > 1000 && attainment.rejected > 0 && attainment.aborted > 0, "{attainment:?}");
    assert!(tokens_out > attainment.completed * 100, "{tokens_out}");
}

/// Output tokens of what completed, each of which must have been asked for.
fn completed_tokens(pool: &mut Pool) -> u64 {
    let completions = pool.take_completions();
    for completion in &completions {
        assert!(completion.first_token_at > completion.request.arrival);
        assert!(completion.finished_at >= completion.first_token_at);
    }
    completions.iter().map(|completion| u64::from(completion.request.output_tokens)).sum()
}
