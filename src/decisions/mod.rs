//! The one shared state between deciding and serving: the latest decisions, in memory.
//!
//! The engine publishes a whole set at once; readers see the old set or the new one, never a mixture. A decision older
//! than its limit is refused, so a stopped engine makes the HPA hold instead of obeying yesterday's number.

mod explain;
mod published;
mod series;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::Value;

use self::{
    published::{Candidate, Published},
    series::{Context, Metric},
};
use crate::{
    apiserver::{MetricsProvider, Refusal, Series, SeriesQuery, Summary, UnknownMetric},
    clock::Clock,
    interfaces::{Decision, Outcome, Snapshot, age},
};

/// The latest decisions, and their rendering as series of the external metrics API.
///
/// Series are made when they are read: of ten thousand variants few are read between two decisions.
#[derive(Debug)]
pub struct DecisionStore {
    clock: Arc<dyn Clock>,
    controller_instance: Option<Arc<str>>,
    published: ArcSwap<Published>,
}

impl DecisionStore {
    /// An empty store. `controller_instance` becomes a label of every series, where several installations share a cluster.
    pub fn new(clock: Arc<dyn Clock>, controller_instance: Option<Arc<str>>) -> Self {
        Self { clock, controller_instance, published: ArcSwap::default() }
    }

    /// Replaces all decisions. Values older than `max_age` are refused from then on. Without the snapshot that they were
    /// made on, nothing is known of the objects that variants scale: see [`Self::publish_with`].
    pub fn publish(&self, decisions: Vec<Decision>, max_age: Duration) {
        self.published.store(Arc::new(Published::new(decisions, max_age, None)));
    }

    /// Replaces all decisions by those made on `snapshot`, which is kept to explain them by.
    pub fn publish_with(&self, snapshot: Arc<Snapshot>, decisions: Vec<Decision>) {
        let max_age = snapshot.ages.decision;
        self.published.store(Arc::new(Published::new(decisions, max_age, Some(snapshot))));
    }

    /// Replaces all decisions by those of another replica, whose clock need not agree with ours: they are as old as their
    /// confirmation, `received` by our clock. Our own `snapshot` explains them.
    pub fn publish_received(&self, snapshot: Arc<Snapshot>, decisions: Vec<Decision>, received: Timestamp) {
        let mut published = Published::new(decisions, snapshot.ages.decision, Some(snapshot));
        published.received = Some(received);
        self.published.store(Arc::new(published));
    }

    /// The latest decisions, in the order of their variants.
    pub fn decisions(&self) -> Arc<[Decision]> {
        self.published.load().decisions.clone()
    }

    /// Why no value of `decision` may be served any more.
    fn refusal(&self, decision: &Decision, published: &Published) -> Option<Refusal> {
        let max_age = published.max_age;
        let old = age(self.clock.now(), published.received.unwrap_or(decision.decided_at));
        (old > max_age).then(|| Refusal { message: explain::too_old(decision, old, max_age) })
    }
}

impl MetricsProvider for DecisionStore {
    fn metric_names(&self) -> &'static [&'static str] {
        &series::NAMES
    }

    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        let metric = Metric::from_name(query.metric).ok_or(UnknownMetric)?;
        let published = self.published.load();
        let mut found = Vec::new();
        for Candidate { index, decision, object } in published.candidates(query) {
            let refusal = self.refusal(decision, &published).or_else(|| published.shadow(metric, index, decision));
            let context = Context { controller_instance: self.controller_instance.as_ref(), object, refusal };
            series::add(metric, decision, &context, &mut found);
        }
        found.retain(|series| query.selector.matches(&series.labels));
        Ok(found)
    }

    fn subjects(&self, namespace: &str) -> Vec<Arc<str>> {
        let published = self.published.load();
        published.within(Some(namespace)).map(|(_, decision)| decision.variant.name.clone()).collect()
    }

    fn summary(&self, namespace: &str, subject: &str) -> Option<Summary> {
        let published = self.published.load();
        let (_, decision) = published.find(namespace, subject)?;
        let (desired, reason) = match &decision.outcome {
            Outcome::Desired(desired) => (Some(desired.replicas), desired.reason.to_string()),
            Outcome::Withheld(withheld) => (None, withheld.message.clone()),
        };
        Some(Summary {
            model: decision.model.model_id.clone(),
            accelerator: decision.accelerator.clone(),
            desired,
            current: decision.current,
            reason,
            age: age(self.clock.now(), decision.decided_at),
        })
    }

    fn explain(&self, namespace: &str, subject: &str) -> Option<Value> {
        let published = self.published.load();
        let (index, decision) = published.find(namespace, subject)?;
        Some(explain::explain(&published, index, decision, self.clock.now()))
    }
}

#[cfg(test)]
mod tests;
