//! One vLLM-like engine advanced by simulated time: continuous batching with chunked prefill.
//!
//! An iteration gives every decoding sequence one token and spends the rest of the token budget on prompts, first come,
//! first served. It takes T = α + `β_p`·prefill tokens + `β_d`·decoding sequences + γ·their KV tokens. A sequence is
//! admitted when its whole context fits into 99 % of the KV cache; when decoding finds no free block, the newest sequence
//! is preempted and later computed again. Left out: prefix-cache eviction, swapping, speculative decoding.
//!
//! The state after `advance_to(t)` does not depend on how many calls it took to get there: time is whole picoseconds, and
//! an iteration starts only once time moves past its start, so all that arrives at one instant is batched together.

mod batch;
mod blocks;
mod histogram;
mod metrics;
mod sequence;

use self::{
    batch::{Batch, Seat, Waiting},
    blocks::Blocks,
    sequence::{Sequence, blocks_for},
};
pub use self::{histogram::Histogram, metrics::EngineMetrics};
use super::{
    profile::{Profile, Timing},
    request::{Completion, Request},
    time::Picoseconds,
};

/// An engine.
#[derive(Debug)]
pub struct Engine {
    timing: Timing,
    max_num_batched_tokens: u32,
    now: Picoseconds,
    /// When it last became idle.
    idle_since: Picoseconds,
    waiting: Waiting,
    batch: Batch,
    blocks: Blocks,
    /// The iteration in flight.
    iteration: Option<Iteration>,
    /// Seat of the prompt that is computed in part; admission in order leaves at most one.
    partial: Option<Seat>,
    /// Seats whose prompt the iteration in flight completes.
    prefilled: Vec<Seat>,
    metrics: EngineMetrics,
}

#[derive(Clone, Copy, Debug)]
struct Iteration {
    start: Picoseconds,
    end: Picoseconds,
    prefill_tokens: u32,
}

impl Engine {
    /// An idle engine that starts at `now`.
    pub fn new(profile: &Profile, now: Picoseconds) -> Self {
        Self {
            timing: Timing::new(profile),
            // Every sequence of a full batch must be able to decode.
            max_num_batched_tokens: profile.max_num_batched_tokens.max(u32::from(profile.max_num_seqs) + 1),
            now,
            idle_since: now,
            waiting: Waiting::new(),
            batch: Batch::new(profile.max_num_seqs.max(1)),
            blocks: Blocks::new(profile.kv_blocks()),
            iteration: None,
            partial: None,
            prefilled: Vec::new(),
            metrics: EngineMetrics::default(),
        }
    }

    /// Whether a request of this size can ever run here.
    pub fn fits(&self, request: &Request) -> bool {
        blocks_for(request.prompt_tokens.saturating_add(request.output_tokens)) <= self.blocks.admission_limit()
    }

    /// Queues a request at the time reached.
    ///
    /// # Errors
    /// Gives the request back when it could never run: its tokens exceed the KV cache.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        if !self.fits(&request) {
            return Err(request);
        }
        self.waiting.push_back(Sequence::new(request, self.now));
        Ok(())
    }

    /// Works until `time`, and appends what completes by then. Earlier times do nothing.
    pub fn advance_to(&mut self, time: Picoseconds, completions: &mut Vec<Completion>) {
        loop {
            if let Some(iteration) = self.iteration {
                if iteration.end > time {
                    break;
                }
                self.finish(iteration, completions);
            }
            if self.is_idle() || self.now >= time {
                break;
            }
            if !(self.only_decodes() && self.decode_until(time, completions)) {
                self.start_iteration();
            }
        }
        self.now = self.now.max(time);
    }

    /// Makes every iteration from the next one on take `factor` times as long: thermal throttling, a bad link.
    pub fn slow_down(&mut self, factor: f64) {
        self.timing = self.timing.slower(factor);
    }

    /// Drops all requests. Returns how many.
    pub fn abort(&mut self) -> u64 {
        let count = (self.running() + self.waiting()) as u64;
        if count > 0 {
            self.idle_since = self.now;
        }
        self.metrics.aborted += count;
        self.waiting.clear();
        self.batch.clear();
        self.blocks.give_back(self.blocks.used());
        self.iteration = None;
        self.partial = None;
        self.prefilled.clear();
        count
    }

    /// Requests in the batch.
    pub fn running(&self) -> usize {
        self.batch.len()
    }

    /// Requests that wait for a place in the batch.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Used share of the KV cache, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        self.blocks.usage()
    }

    /// Blocks of the KV cache.
    pub fn kv_blocks(&self) -> u32 {
        self.blocks.total()
    }

    /// Blocks of the KV cache in use.
    pub fn kv_blocks_used(&self) -> u32 {
        self.blocks.used()
    }

    /// Whether it has no request.
    pub fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.waiting.is_empty()
    }

    /// When it last became idle.
    pub fn idle_since(&self) -> Picoseconds {
        self.idle_since
    }

    /// What it has counted so far.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    /// Whether nothing can happen but decoding until a sequence completes: blocks only get scarcer meanwhile.
    fn only_decodes(&self) -> bool {
        self.partial.is_none()
            && self.batch.decoding() > 0
            && self.waiting.front().is_none_or(|head| !self.admissible(head))
    }

    fn admissible(&self, sequence: &Sequence) -> bool {
        self.batch.has_seat() && self.blocks.admits(blocks_for(sequence.context()))
    }

    /// Runs the decode-only iterations that end by `time`, at most until one completes a sequence or lacks blocks, at
    /// once. Returns whether there was any.
    fn decode_until(&mut self, time: Picoseconds, completions: &mut Vec<Completion>) -> bool {
        let sequences = self.batch.decoding();
        let first = self.timing.iteration(0, sequences, self.batch.kv_tokens()).get();
        let growth = self.timing.growth(sequences);
        // Duration of `steps` iterations, the sum of an arithmetic series.
        let duration =
            |steps: u64| (steps * first).saturating_add(growth.saturating_mul(steps * steps.saturating_sub(1) / 2));

        let available = time.since(self.now).get();
        let limit = self.batch.steps_to_completion().unwrap_or(0).min(available / first);
        let (limit, _) = self.batch.steps_within(self.blocks.free(), limit);
        let steps = largest(limit, |steps| duration(steps) <= available);
        if steps == 0 {
            return false;
        }
        let (_, blocks) = self.batch.steps_within(self.blocks.free(), steps);
        self.blocks.take(blocks);
        self.now += Picoseconds::new(duration(steps));
        self.metrics.iteration_tokens.observe_times(sequences.into(), steps);
        self.metrics.inter_token_latency.observe_series(first, growth, steps, sequences.into());
        self.decode(steps, completions);
        true
    }

    fn start_iteration(&mut self) {
        let preempted = self.make_room();
        self.blocks.take(self.batch.blocks_needed(0));
        let sequences = self.batch.decoding();
        let budget = self.max_num_batched_tokens - sequences;
        let mut left = budget;
        if let Some(seat) = self.partial.take() {
            self.prefill(seat, &mut left);
        }
        // vLLM admits nothing in an iteration that had to preempt.
        if !preempted {
            self.admit(&mut left);
        }
        let prefill_tokens = budget - left;
        let duration = self.timing.iteration(prefill_tokens, sequences, self.batch.kv_tokens());
        self.iteration = Some(Iteration { start: self.now, end: self.now + duration, prefill_tokens });
    }

    /// Preempts the newest sequences until the next decode step has its blocks. Returns whether it had to.
    fn make_room(&mut self) -> bool {
        let mut preempted = false;
        while self.batch.blocks_needed(0) > self.blocks.free() {
            let Some((seat, mut sequence, blocks)) = self.batch.preempt_newest() else { break };
            if self.partial == Some(seat) {
                self.partial = None;
            }
            sequence.last_token_at = self.now;
            self.blocks.give_back(blocks);
            self.waiting.push_front(sequence);
            self.metrics.preemptions += 1;
            preempted = true;
        }
        preempted
    }

    fn admit(&mut self, left: &mut u32) {
        while *left > 0 {
            let Some(&head) = self.waiting.front().filter(|head| self.admissible(head)) else { break };
            let Some(seat) = self.batch.admit(head.admitted(self.now)) else { break };
            self.waiting.pop_front();
            self.blocks.take(blocks_for(head.context()));
            if head.admissions == 0 {
                self.metrics.looked_up(&head.request);
            }
            self.prefill(seat, left);
        }
    }

    fn prefill(&mut self, seat: Seat, left: &mut u32) {
        let (tokens, done) = self.batch.prefill(seat, *left);
        *left -= tokens;
        if done {
            self.prefilled.push(seat);
        } else {
            self.partial = Some(seat);
        }
    }

    fn finish(&mut self, iteration: Iteration, completions: &mut Vec<Completion>) {
        self.iteration = None;
        self.now = iteration.end;
        let sequences = u64::from(self.batch.decoding());
        let tokens = sequences + self.prefilled.len() as u64 + u64::from(iteration.prefill_tokens);
        self.metrics.iteration_tokens.observe(tokens);
        if sequences > 0 {
            let duration = iteration.end.since(iteration.start).get();
            self.metrics.inter_token_latency.observe_times(duration, sequences);
            self.decode(1, completions);
        }
        let mut prefilled = std::mem::take(&mut self.prefilled);
        for seat in prefilled.drain(..) {
            self.emit_after_prefill(seat, completions);
        }
        self.prefilled = prefilled;
    }

    /// Every decoding sequence generates `steps` tokens, the last of them now.
    fn decode(&mut self, steps: u64, completions: &mut Vec<Completion>) {
        self.metrics.generation_tokens += u64::from(self.batch.decoding()) * steps;
        self.batch.step(steps);
        while let Some((sequence, blocks)) = self.batch.pop_completed() {
            self.complete(&sequence, blocks, completions);
        }
    }

    fn emit_after_prefill(&mut self, seat: Seat, completions: &mut Vec<Completion>) {
        let Some(sequence) = self.batch.prefilled(seat) else { return };
        self.metrics.generation_tokens += 1;
        if sequence.generated == 0 {
            sequence.first_token_at = self.now;
            self.metrics.first_token(sequence, self.now);
        } else {
            self.metrics.inter_token_latency.observe(self.now.since(sequence.last_token_at).get());
        }
        sequence.generated += 1;
        if let Some((sequence, blocks)) = self.batch.start_decoding(seat) {
            self.complete(&sequence, blocks, completions);
        }
    }

    fn complete(&mut self, sequence: &Sequence, blocks: u32, completions: &mut Vec<Completion>) {
        debug_assert!(sequence.is_complete(), "{sequence:?}");
        self.blocks.give_back(blocks);
        let completion = sequence.complete(self.now);
        self.metrics.finished(sequence, completion.tpot(), self.now);
        completions.push(completion);
        if self.is_idle() {
            self.idle_since = self.now;
        }
    }
}

/// The largest number up to `limit` for which `fits` holds; it must hold for 0 and be monotone.
fn largest(limit: u64, fits: impl Fn(u64) -> bool) -> u64 {
    if fits(limit) {
        return limit;
    }
    let (mut yes, mut no) = (0, limit);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if fits(middle) { yes = middle } else { no = middle }
    }
    yes
}

#[cfg(test)]
mod tests;
