//! Scraping without rounds: every target has a rhythm of its own, so that a slow one delays no other.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{ScrapeCollector, ScrapeTarget};

/// Targets scraped in one period; with more the period grows, so that the cost does not.
const PER_PERIOD: usize = 500;
/// Targets are looked up, and readers told of new signals, this many times per period.
const LOOKS_PER_PERIOD: u32 = 4;
/// A target that fails is asked less often, down to once in this many periods.
const GREATEST_STRETCH: u32 = 8;
/// That targets fail, or answer again, is told at every so many looks: a pod that ends fails once or twice. Rotated files
/// are taken up then too.
const LOOKS_TO_TELL: u32 = 20;
/// Where targets stay the same, engines that fell silent behind one are forgotten at every so many looks.
const LOOKS_TO_FORGET: u32 = 240;

/// The period for that many targets.
fn period(least: Duration, targets: usize) -> Duration {
    least * u32::try_from(targets.div_ceil(PER_PERIOD)).unwrap_or(u32::MAX).max(1)
}

/// Scrapes until `shutdown`. `refreshed` counts the looks at which there were new signals.
pub(super) async fn run(
    collector: Arc<ScrapeCollector>,
    least_period: Duration,
    shutdown: CancellationToken,
    refreshed: watch::Sender<u64>,
) {
    let slots = Arc::new(Semaphore::new(collector.options.concurrency));
    let mut rhythms = FuturesUnordered::new();
    let mut known: HashMap<ScrapeTarget, AbortHandle> = HashMap::new();
    let (pace, _) = watch::channel(least_period);
    let mut look = tokio::time::interval(collector.clock.wall(least_period) / LOOKS_PER_PERIOD);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut revision, mut looks) = (0, None, 0_u32);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = rhythms.next(), if !rhythms.is_empty() => {}
            _ = look.tick() => {
                looks = looks.wrapping_add(1);
                // Asked first: a change in between is seen at the next look.
                let current = collector.targets.revision();
                if current.is_none() || current != revision || looks.is_multiple_of(LOOKS_TO_FORGET) {
                    revision = current;
                    let targets: HashSet<ScrapeTarget> = collector.targets.scrape_targets().into_iter().collect();
                    pace.send_replace(period(least_period, targets.len()));
                    for (_, rhythm) in known.extract_if(|target, _| !targets.contains(target)) {
                        rhythm.abort();
                    }
                    for target in targets.iter().filter(|target| !known.contains_key(target)).collect::<Vec<_>>() {
                        let (handle, registration) = AbortHandle::new_pair();
                        let rhythm = keep_scraping(collector.clone(), target.clone(), pace.subscribe(), slots.clone());
                        rhythms.push(Abortable::new(rhythm, registration));
                        known.insert(target.clone(), handle);
                    }
                    collector.keep_only(&targets);
                }
                if looks.is_multiple_of(LOOKS_TO_TELL) {
                    collector.reload();
                    is_failing = collector.log_failures(is_failing);
                }
                let recorded = collector.recorded();
                if recorded != seen {
                    seen = recorded;
                    refreshed.send_modify(|count| *count += 1);
                }
            }
        }
    }
}

/// Scrapes one target over and over: at once, then at a phase of its own, so that targets spread over the period. A
/// circuit per target: after failures it is tried less and less often, with jitter, until it answers.
async fn keep_scraping(
    collector: Arc<ScrapeCollector>,
    target: ScrapeTarget,
    pace: watch::Receiver<Duration>,
    slots: Arc<Semaphore>,
) {
    let backoff = |period: Duration| {
        ExponentialBuilder::new()
            .with_min_delay(period)
            .with_max_delay(period * GREATEST_STRETCH)
            .with_jitter()
            .without_max_times()
            .build()
    };
    let phase =
        f64::from(BuildHasherDefault::<DefaultHasher>::default().hash_one(&target) as u32) / f64::from(u32::MAX);
    let mut next = Instant::now();
    let mut pauses = None;
    let mut is_first = true;
    loop {
        let answered = match slots.acquire().await {
            Ok(_slot) => collector.scrape_once(&target).await,
            Err(_) => return,
        };
        let period = *pace.borrow();
        let pause = if answered {
            pauses = None;
            if is_first { period.mul_f64(phase) } else { period }
        } else {
            pauses.get_or_insert_with(|| backoff(period)).next().unwrap_or(period)
        };
        is_first = false;
        // From start to start; after a slow answer from now, and never several at once.
        next = (next + collector.clock.wall(pause)).max(Instant::now());
        tokio::time::sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_grows_beyond_five_hundred_targets_so_that_scrapes_per_second_do_not() {
        let second = Duration::from_secs(1);
        for (targets, expected) in [(0, 1), (1, 1), (500, 1), (501, 2), (1000, 2), (50_000, 100)] {
            assert_eq!(period(second, targets), second * expected, "{targets}");
        }
    }
}
