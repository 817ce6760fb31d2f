//! The running sequences.
//!
//! All decoding sequences advance one token per iteration, in lockstep. So what changes with every token is kept as
//! totals (sequences, KV tokens, how many cross into a new block at which step), and single sequences are touched only
//! when they join or leave. That makes an iteration as cheap for 256 sequences as for one.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::sequence::{Sequence, blocks_for};
use crate::fleet::profile::BLOCK_SIZE;

/// Position of a running sequence in the batch.
pub(super) type Seat = u16;

const PHASES: usize = BLOCK_SIZE as usize;

#[derive(Debug)]
pub(super) struct Batch {
    seats: Vec<Option<Running>>,
    empty: Vec<Seat>,
    /// Admissions so far: tells newer from older.
    admissions: u64,
    /// Decode iterations so far.
    steps: u64,
    decoding: u32,
    /// Tokens in the KV cache of decoding sequences.
    kv_tokens: u64,
    /// Decoding sequences by the step, modulo the block size, at which they need a new block.
    crossings: [u32; PHASES],
    /// Decoding sequences by the step after which they are complete; ties leave in order of admission.
    completions: BinaryHeap<Reverse<(u64, u64, Seat)>>,
}

#[derive(Debug)]
struct Running {
    sequence: Sequence,
    admission: u64,
    /// Tokens in the KV cache when it began to decode, or will be.
    context: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Prefilling { remaining: u32 },
    Decoding { since_step: u64 },
}

impl Batch {
    pub(super) fn new(max_num_seqs: u16) -> Self {
        Self {
            seats: (0..max_num_seqs).map(|_| None).collect(),
            empty: (0..max_num_seqs).rev().collect(),
            admissions: 0,
            steps: 0,
            decoding: 0,
            kv_tokens: 0,
            crossings: [0; PHASES],
            completions: BinaryHeap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len() - self.empty.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn has_seat(&self) -> bool {
        !self.empty.is_empty()
    }

    pub(super) fn decoding(&self) -> u32 {
        self.decoding
    }

    pub(super) fn kv_tokens(&self) -> u64 {
        self.kv_tokens
    }

    /// Decode steps until the next sequence completes.
    pub(super) fn steps_to_completion(&self) -> Option<u64> {
        self.completions.peek().map(|Reverse((step, ..))| step - self.steps)
    }

    /// New blocks that decode step number `ahead` (0: the next one) needs.
    pub(super) fn blocks_needed(&self, ahead: u64) -> u32 {
        self.crossings[((self.steps + ahead) % u64::from(BLOCK_SIZE)) as usize]
    }

    /// Most steps, up to `limit`, that fit into `free` blocks, and the blocks they take.
    pub(super) fn steps_within(&self, free: u32, limit: u64) -> (u64, u32) {
        // In one block size of steps every sequence crosses exactly once.
        let rounds = free.checked_div(self.decoding).map_or(0, u64::from).min(limit / u64::from(BLOCK_SIZE));
        let mut steps = rounds * u64::from(BLOCK_SIZE);
        let mut taken = rounds as u32 * self.decoding;
        while steps < limit && taken + self.blocks_needed(steps) <= free {
            taken += self.blocks_needed(steps);
            steps += 1;
        }
        (steps, taken)
    }

    /// Seats a sequence whose prompt is yet to be computed; `None` without a seat.
    pub(super) fn admit(&mut self, sequence: Sequence) -> Option<Seat> {
        let seat = self.empty.pop()?;
        let state = State::Prefilling { remaining: sequence.work() };
        self.seats[usize::from(seat)] =
            Some(Running { sequence, admission: self.admissions, context: sequence.context(), state });
        self.admissions += 1;
        Some(seat)
    }

    /// Computes up to `budget` tokens of the prompt in `seat`. Returns how many, and whether it is done.
    pub(super) fn prefill(&mut self, seat: Seat, budget: u32) -> (u32, bool) {
        match &mut self.seats[usize::from(seat)] {
            Some(Running { state: State::Prefilling { remaining }, .. }) => {
                let chunk = budget.min(*remaining);
                *remaining -= chunk;
                (chunk, *remaining == 0)
            }
            _ => (0, true),
        }
    }

    /// Every decoding sequence generates `count` tokens; none may complete before the last of these steps.
    pub(super) fn step(&mut self, count: u64) {
        self.steps += count;
        self.kv_tokens += u64::from(self.decoding) * count;
    }

    /// A sequence that is complete by now, with the blocks it gives back.
    pub(super) fn pop_completed(&mut self) -> Option<(Sequence, u32)> {
        let &Reverse((step, _, seat)) = self.completions.peek()?;
        if step > self.steps {
            return None;
        }
        self.completions.pop();
        self.leave(seat)
    }

    /// The sequence whose prompt has just been computed, to record its new token in.
    pub(super) fn prefilled(&mut self, seat: Seat) -> Option<&mut Sequence> {
        self.seats[usize::from(seat)].as_mut().map(|running| &mut running.sequence)
    }

    /// The sequence in `seat`, whose prompt is computed and first token counted, decodes from the next step on.
    /// Returns it, with its blocks, if that token was its last.
    pub(super) fn start_decoding(&mut self, seat: Seat) -> Option<(Sequence, u32)> {
        let running = self.seats[usize::from(seat)].as_mut()?;
        running.state = State::Decoding { since_step: self.steps };
        let remaining = running.sequence.request.output_tokens.saturating_sub(running.sequence.generated);
        self.decoding += 1;
        self.kv_tokens += u64::from(running.context);
        self.crossings[crossing(running.context, self.steps)] += 1;
        if remaining == 0 {
            return self.leave(seat);
        }
        self.completions.push(Reverse((self.steps + u64::from(remaining), running.admission, seat)));
        None
    }

    /// Takes the newest sequence out, to be computed again later, with its seat and the blocks it gives back.
    pub(super) fn preempt_newest(&mut self) -> Option<(Seat, Sequence, u32)> {
        let newest =
            (0..).zip(&self.seats).filter_map(|(seat, running)| Some((running.as_ref()?.admission, seat))).max();
        let (_, seat) = newest?;
        let (sequence, blocks) = self.leave(seat)?;
        self.completions.retain(|Reverse((.., other))| *other != seat);
        Some((seat, sequence, blocks))
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        *self = Self { admissions: self.admissions, steps: self.steps, ..Self::new(self.seats.len() as u16) };
    }

    fn leave(&mut self, seat: Seat) -> Option<(Sequence, u32)> {
        let Running { mut sequence, context, state, .. } = self.seats[usize::from(seat)].take()?;
        self.empty.push(seat);
        let State::Decoding { since_step } = state else {
            return Some((sequence, blocks_for(context)));
        };
        let decoded = (self.steps - since_step) as u32;
        sequence.generated += decoded;
        let kv_tokens = context + decoded;
        self.decoding -= 1;
        self.kv_tokens -= u64::from(kv_tokens);
        self.crossings[crossing(context, since_step)] -= 1;
        Some((sequence, blocks_for(kv_tokens)))
    }
}

/// The step, modulo the block size, at which a sequence needs a new block that had `context` tokens at `step`.
fn crossing(context: u32, step: u64) -> usize {
    let until_full = u64::from(context.next_multiple_of(BLOCK_SIZE) - context);
    ((step + until_full) % u64::from(BLOCK_SIZE)) as usize
}

/// The waiting queue: first come, first served.
pub(super) type Waiting = VecDeque<Sequence>;
