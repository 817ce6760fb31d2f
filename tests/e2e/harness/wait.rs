//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// What `look` finds once it finds it. Fails after `limit`, with what was seen last.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if started.elapsed() > limit => panic!("not within {limit:?}: {what}; last seen: {seen}"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Prints a line of what was measured.
pub fn report(scenario: &str, measured: &str) {
    println!("  [{scenario}] {measured}");
}

/// A duration as people read it.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
