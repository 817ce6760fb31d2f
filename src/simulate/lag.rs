//! How long a rise in demand takes to become ready replicas, in four parts.
//!
//! An episode begins when the work that arrived over the last minute needs more replicas than are set. *Trigger* lasts until
//! the policy has a sample taken since then, *ask* until it asks for more, *grant* until more are set, *warm-up* until one of
//! them is ready. An episode that demand ends by itself does not count.

use serde::Serialize;

use super::world::World;
use crate::fleet::Picoseconds;

/// Seconds of arrivals that make the demand.
const WINDOW: usize = 60;

/// Mean length of each part, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionLag {
    /// From the rise to a sample of it.
    pub trigger_seconds: f64,
    /// From the sample to the ask.
    pub ask_seconds: f64,
    /// From the ask to more replicas being set.
    pub grant_seconds: f64,
    /// From there to one of them being ready.
    pub warm_up_seconds: f64,
}

#[derive(Debug)]
pub(super) struct LagTracker {
    models: Vec<ModelLag>,
}

#[derive(Debug)]
struct ModelLag {
    arrived: [f64; WINDOW],
    at: usize,
    episode: Option<Episode>,
    sums: DecisionLag,
    episodes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    began: Picoseconds,
    ready: u32,
    seen: Option<Picoseconds>,
    asked: Option<Picoseconds>,
    granted: Option<Picoseconds>,
}

impl LagTracker {
    pub(super) fn new(models: usize) -> Self {
        let lag =
            || ModelLag { arrived: [0.0; WINDOW], at: 0, episode: None, sums: DecisionLag::default(), episodes: 0 };
        Self { models: (0..models).map(|_| lag()).collect() }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self, time: Picoseconds, world: &mut World) {
        for (index, lag) in self.models.iter_mut().enumerate() {
            lag.arrived[lag.at] = world.models[index].take_work();
            lag.at = (lag.at + 1) % WINDOW;
            let set: u32 =
                world.variants.iter().filter(|variant| variant.model == index).map(|variant| variant.spec).sum();
            lag.follow(time, f64::from(set), world.ready(index));
        }
    }

    /// A sample was taken at `at` and can be used from `usable` on.
    pub(super) fn sampled(&mut self, at: Picoseconds, usable: Picoseconds) {
        for episode in self.models.iter_mut().filter_map(|lag| lag.episode.as_mut()) {
            if at >= episode.began {
                episode.seen.get_or_insert(usable);
            }
        }
    }

    /// The policy asked for the model's replicas.
    pub(super) fn asked(&mut self, time: Picoseconds, model: usize, for_more: bool) {
        if let Some(episode) = self.models[model].episode.as_mut().filter(|_| for_more) {
            episode.asked.get_or_insert(time);
        }
    }

    /// More replicas are set.
    pub(super) fn granted(&mut self, time: Picoseconds, model: usize) {
        if let Some(episode) = &mut self.models[model].episode {
            episode.granted.get_or_insert(time);
        }
    }

    /// Means over all episodes of all models.
    pub(super) fn means(&self, model: usize) -> DecisionLag {
        let ModelLag { sums, episodes, .. } = &self.models[model];
        let mean = |sum: f64| if *episodes == 0 { 0.0 } else { sum / f64::from(*episodes) };
        DecisionLag {
            trigger_seconds: mean(sums.trigger_seconds),
            ask_seconds: mean(sums.ask_seconds),
            grant_seconds: mean(sums.grant_seconds),
            warm_up_seconds: mean(sums.warm_up_seconds),
        }
    }

    /// Replicas' worth of work that arrived over the last minute.
    pub(super) fn demand(&self, model: usize) -> f64 {
        self.models[model].demand()
    }
}

impl ModelLag {
    fn demand(&self) -> f64 {
        self.arrived.iter().sum::<f64>() / WINDOW as f64
    }

    fn follow(&mut self, time: Picoseconds, set: f64, ready: u32) {
        let demand = self.demand();
        match self.episode {
            None if demand > set => {
                self.episode = Some(Episode { began: time, ready, seen: None, asked: None, granted: None });
            }
            Some(episode) if episode.granted.is_some() && ready > episode.ready => self.close(time, episode),
            Some(episode) if episode.granted.is_none() && demand <= set => self.episode = None,
            _ => {}
        }
    }

    fn close(&mut self, time: Picoseconds, episode: Episode) {
        self.episode = None;
        let granted = episode.granted.unwrap_or(time);
        // A grant without an ask of this episode follows one from before it.
        let asked = episode.asked.unwrap_or(episode.began).min(granted);
        let seen = episode.seen.unwrap_or(episode.began).min(asked);
        self.episodes += 1;
        self.sums.trigger_seconds += seen.since(episode.began).as_secs_f64();
        self.sums.ask_seconds += asked.since(seen).as_secs_f64();
        self.sums.grant_seconds += granted.since(asked).as_secs_f64();
        self.sums.warm_up_seconds += time.since(granted).as_secs_f64();
    }
}
