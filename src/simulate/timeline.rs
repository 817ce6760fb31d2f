//! What happened over time, for the report: a bounded number of points, however long the run.

use super::world::World;
use crate::fleet::{Attainment, Picoseconds, ReplicaState};

/// More points than this are thinned out to half.
const MOST_POINTS: usize = 2_000;

/// Points at even intervals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// The points, by time.
    pub points: Vec<Point>,
    /// Seconds between two points less one.
    skip: u32,
    skipped: u32,
}

/// One moment. Counts are over all models.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Seconds since the start.
    pub seconds: f64,
    /// `spec.replicas` per variant.
    pub set: Vec<u32>,
    /// Ready replicas per variant.
    pub ready: Vec<u32>,
    /// Replicas' worth of work that arrived over the last minute.
    pub demand: f64,
    /// Requests held at gateways and waiting in engines.
    pub queued: u64,
    /// Requests that ended so far.
    pub completed: u64,
    /// Of these, those within their objective.
    pub met: u64,
    /// Replica hours times price so far.
    pub cost: f64,
}

impl Timeline {
    pub(super) fn tick(&mut self, time: Picoseconds, demand: f64, world: &World) {
        if self.skipped < self.skip {
            self.skipped += 1;
            return;
        }
        self.skipped = 0;
        self.points.push(point(time, demand, world));
        if self.points.len() > MOST_POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.skip = self.skip * 2 + 1;
        }
    }
}

fn point(time: Picoseconds, demand: f64, world: &World) -> Point {
    let sum = |of: fn(&Attainment) -> u64| world.attainments().iter().map(of).sum();
    let queued = world.models.iter().map(|model| {
        let waiting: usize = model.pool.replicas().iter().map(|replica| replica.engine().waiting()).sum();
        (waiting + model.pool.gateway_queue()) as u64
    });
    let mut ready = vec![0; world.variants.len()];
    for (count, variant) in ready.iter_mut().zip(&world.variants) {
        let pool = &world.models[variant.model].pool;
        let of_variant =
            pool.replicas().iter().filter(|replica| pool.variant_of(replica).name == variant.scenario.name);
        *count = of_variant.filter(|replica| replica.state() == ReplicaState::Ready).count() as u32;
    }
    Point {
        seconds: time.as_secs_f64(),
        set: world.variants.iter().map(|variant| variant.spec).collect(),
        ready,
        demand,
        queued: queued.sum(),
        completed: sum(|attainment| attainment.completed),
        met: sum(|attainment| attainment.met),
        cost: world.models.iter().map(|model| model.pool.cost()).sum(),
    }
}
