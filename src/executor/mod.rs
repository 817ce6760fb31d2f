//! When a cycle runs: at a fixed interval, when something changed, or both.
//!
//! Each executor runs one task at a time until it is cancelled; a task that takes longer than the interval delays the
//! next run instead of piling up.

use std::{fmt, future::Future, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// No executor runs without rest.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

/// Any of the three.
#[derive(Debug)]
pub enum Executor {
    /// At a fixed interval.
    Polling(PollingExecutor),
    /// When something changed.
    Reactive(ReactiveExecutor),
    /// Both.
    Hybrid(HybridExecutor),
}

impl Executor {
    /// Runs `task` until `shutdown`, as the executor it is.
    pub async fn start<F, Fut>(self, shutdown: CancellationToken, task: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        match self {
            Self::Polling(polling) => polling.start(shutdown, task).await,
            Self::Reactive(reactive) => reactive.start(shutdown, task).await,
            Self::Hybrid(hybrid) => hybrid.start(shutdown, task).await,
        }
    }
}

/// Runs the task at an interval, the first time at once.
pub struct PollingExecutor {
    interval: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl fmt::Debug for PollingExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollingExecutor").field("interval", &(self.interval)()).finish()
    }
}

impl PollingExecutor {
    /// An executor with this interval, asked anew for each run.
    pub fn new(interval: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { interval: Box::new(interval) }
    }

    /// Runs `task` until `shutdown`. A run that has begun is finished.
    pub async fn start<F, Fut>(self, shutdown: CancellationToken, mut task: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            task().await;
            let next = started + (self.interval)().max(LEAST_INTERVAL);
            if shutdown.run_until_cancelled(sleep_until(next)).await.is_none() {
                return;
            }
        }
    }
}

/// Runs the task when something changed, at most once per `gap`. Changes during a run or a gap are one change.
#[derive(Clone, Debug)]
pub struct ReactiveExecutor {
    changes: watch::Receiver<u64>,
    gap: Duration,
}

impl ReactiveExecutor {
    /// An executor that follows `changes`: a counter that is bumped whenever an input changed.
    pub fn new(changes: watch::Receiver<u64>, gap: Duration) -> Self {
        Self { changes, gap }
    }

    /// Runs `task` until `shutdown`, or until nobody can report changes any more.
    pub async fn start<F, Fut>(mut self, shutdown: CancellationToken, mut task: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = self.changes.changed() => if changed.is_err() { return },
            }
            let next = Instant::now() + self.gap;
            task().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = sleep_until(next) => {}
            }
        }
    }
}

/// Both: when something changed, and at the latest after the interval. The default.
pub struct HybridExecutor {
    interval: Box<dyn Fn() -> Duration + Send + Sync>,
    reactive: ReactiveExecutor,
}

impl fmt::Debug for HybridExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridExecutor").field("reactive", &self.reactive).finish_non_exhaustive()
    }
}

impl HybridExecutor {
    /// An executor that runs at least every `interval`, asked anew for each run, and follows `changes` at most once per
    /// `gap`.
    pub fn new(
        interval: impl Fn() -> Duration + Send + Sync + 'static,
        changes: watch::Receiver<u64>,
        gap: Duration,
    ) -> Self {
        Self { interval: Box::new(interval), reactive: ReactiveExecutor::new(changes, gap) }
    }

    /// Runs `task` until `shutdown`, the first time at once.
    pub async fn start<F, Fut>(self, shutdown: CancellationToken, mut task: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        let ReactiveExecutor { mut changes, gap } = self.reactive;
        let mut reporters_alive = true;
        loop {
            let started = Instant::now();
            changes.mark_unchanged();
            task().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = sleep_until(started + gap) => {}
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = changes.changed(), if reporters_alive => reporters_alive = changed.is_ok(),
                () = sleep_until(started + (self.interval)().max(gap)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Runs `executor` on paused time and counts how often the task ran by each of the asked moments (milliseconds).
    async fn runs_at<Fut: Future<Output = ()>>(
        moments: &[u64],
        start: impl FnOnce(CancellationToken, std::sync::Arc<AtomicU32>) -> Fut,
    ) -> Vec<u32> {
        let (shutdown, count) = (CancellationToken::new(), std::sync::Arc::new(AtomicU32::new(0)));
        let begin = Instant::now();
        let observe = async {
            let mut seen = Vec::new();
            for moment in moments {
                sleep_until(begin + Duration::from_millis(*moment)).await;
                seen.push(count.load(Ordering::SeqCst));
            }
            shutdown.cancel();
            seen
        };
        tokio::join!(observe, start(shutdown.clone(), count.clone())).0
    }

    fn counting(count: std::sync::Arc<AtomicU32>) -> impl FnMut() -> std::future::Ready<()> {
        move || {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polling_runs_at_once_and_then_every_interval() {
        let polling = PollingExecutor::new(|| Duration::from_millis(100));
        let seen = runs_at(&[50, 150, 250], |shutdown, count| polling.start(shutdown, counting(count))).await;
        assert_eq!(seen, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn reactive_coalesces_changes_and_rests_without_them() {
        let (changed, changes) = watch::channel(0);
        let reactive = ReactiveExecutor::new(changes, Duration::from_millis(100));
        let burst = async {
            for _ in 0..5 {
                sleep_until(Instant::now() + Duration::from_millis(10)).await;
                changed.send_modify(|count| *count += 1);
            }
            std::future::pending::<()>().await;
        };
        let seen = tokio::select! {
            seen = runs_at(&[5, 15, 90, 130, 1000], |shutdown, count| reactive.start(shutdown, counting(count))) => seen,
            () = burst => Vec::new(),
        };
        assert_eq!(seen, [0, 1, 1, 2, 2], "five changes within one gap are two runs");
    }

    #[tokio::test(start_paused = true)]
    async fn hybrid_follows_changes_and_never_rests_longer_than_its_interval() {
        let (changed, changes) = watch::channel(0);
        let hybrid = HybridExecutor::new(|| Duration::from_millis(500), changes, Duration::from_millis(20));
        let one_change = async {
            sleep_until(Instant::now() + Duration::from_millis(100)).await;
            changed.send_modify(|count| *count += 1);
            std::future::pending::<()>().await;
        };
        let seen = tokio::select! {
            seen = runs_at(&[50, 110, 590, 610], |shutdown, count| hybrid.start(shutdown, counting(count))) => seen,
            () = one_change => Vec::new(),
        };
        assert_eq!(seen, [1, 2, 2, 3]);
    }

    /// Runs an executor for a second in which changes come at these moments (milliseconds); tells when runs began.
    async fn runs(executor: impl FnOnce(watch::Receiver<u64>) -> Executor, changed_at: Vec<u64>) -> Vec<u64> {
        let (changed, changes) = watch::channel(0);
        let (shutdown, begin) = (CancellationToken::new(), Instant::now());
        let began = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = began.clone();
        let task = move || {
            seen.lock().unwrap().push(begin.elapsed().as_millis() as u64);
            std::future::ready(())
        };
        let story = async {
            for moment in changed_at {
                sleep_until(begin + Duration::from_millis(moment)).await;
                changed.send_modify(|count| *count += 1);
            }
            sleep_until(begin + Duration::from_secs(1)).await;
            shutdown.cancel();
        };
        tokio::join!(story, executor(changes).start(shutdown.clone(), task));
        std::sync::Arc::try_unwrap(began).unwrap().into_inner().unwrap()
    }

    fn hybrid(changes: watch::Receiver<u64>) -> Executor {
        let gap = Duration::from_millis(100);
        Executor::Hybrid(HybridExecutor::new(|| Duration::from_secs(5), changes, gap))
    }

    fn reactive(changes: watch::Receiver<u64>) -> Executor {
        Executor::Reactive(ReactiveExecutor::new(changes, Duration::from_millis(100)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_follows_every_change_within_the_gap() {
        for executor in [hybrid, reactive] {
            let moments = [150, 170, 400, 455, 730];
            let began = runs(executor, moments.to_vec()).await;
            for moment in moments {
                let waited = began.iter().find(|began| **began >= moment).map(|began| began - moment);
                assert!(waited.is_some_and(|waited| waited <= 101), "{moment}: {began:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_changes_makes_one_run_per_gap() {
        for executor in [hybrid, reactive] {
            let began = runs(executor, (1..900).collect()).await;
            assert!((9..=11).contains(&began.len()), "{began:?}");
            assert!(began.windows(2).all(|pair| pair[1] - pair[0] >= 100), "{began:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polling_takes_no_note_of_changes() {
        let polling = |_| Executor::Polling(PollingExecutor::new(|| Duration::from_millis(400)));
        assert_eq!(runs(polling, (1..900).collect()).await, [0, 400, 800]);
    }
}
