//! One HPA: reads its variant's value through the API server and sets replicas as the stock controller would.

use std::{sync::Arc, time::Duration};

use super::{
    HPA_SYNC,
    server::MetricClient,
    world::{DemoVariant, World},
};
use crate::{
    clock::Clock,
    hpa::{Hpa, HpaSpec, SyncOutcome},
};

/// Shorter than the stock 300 s, so that a short demo shows the way down too.
const SCALE_DOWN_WINDOW: Duration = Duration::from_secs(30);

/// Syncs every [`HPA_SYNC`] of `clock`, for ever.
pub(super) async fn run(variant: DemoVariant, world: Arc<World>, client: MetricClient, clock: Arc<dyn Clock>) {
    let mut hpa = Hpa::new(HpaSpec::adopting(1, variant.max_replicas, SCALE_DOWN_WINDOW));
    let mut syncs = tokio::time::interval(clock.wall(HPA_SYNC));
    loop {
        syncs.tick().await;
        let reading = client.read(&world.model().namespace, variant.name).await;
        let reading = reading.as_deref().map_err(Clone::clone);
        let before = world.scale(variant.name);
        if let SyncOutcome::Scaled(replicas) = hpa.sync(clock.now(), before, reading)
            && replicas != before.spec
        {
            world.set_replicas(variant.name, replicas);
        }
    }
}
