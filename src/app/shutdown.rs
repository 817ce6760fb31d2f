//! The end of a process: readiness first, then the port, then the rest.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::apiserver::Readiness;

/// Longest time to hand the leadership over in.
const RESIGNATION: Duration = Duration::from_secs(10);

/// Waits for SIGTERM or SIGINT, fails readiness, lets another replica lead (`resign`), keeps serving for `delay` so that
/// nobody is sent here any more, then cancels `serving`. A second signal ends the process at once, as it does
/// `k8s.io/apiserver`.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub(super) async fn on_signal(
    readiness: Readiness,
    delay: impl Fn() -> Duration,
    resign: impl Future<Output = ()>,
    serving: CancellationToken,
) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = serving.cancelled() => return Ok(()),
    }
    readiness.begin_shutdown();
    let delay = delay();
    info!(?delay, "signal received: no longer ready, still serving");
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        warn!("second signal: ending at once");
        std::process::exit(1);
    });
    let _ = tokio::join!(tokio::time::sleep(delay), tokio::time::timeout(RESIGNATION, resign));
    serving.cancel();
    Ok(())
}
