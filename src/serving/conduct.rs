//! How a connection has behaved: what it was refused counts against it alone, and without a right to anything it is not
//! kept.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};

/// Pause before each further request of a connection whose last one was refused.
const PAUSE: Duration = Duration::from_millis(50);

/// Shared by all requests of one connection.
///
/// Somebody without rights who asks as fast as they can would take the processor from those with rights. After a refusal
/// their further requests wait in one line, each for `PAUSE`, until one is granted. Front proxies are exempt: they pass
/// on the requests of many.
#[derive(Clone, Debug, Default)]
pub struct Conduct(Arc<State>);

#[derive(Debug, Default)]
struct State {
    refused: AtomicBool,
    /// Whether anything was ever granted.
    known: AtomicBool,
    line: Mutex<()>,
}

/// A place at the head of the line.
#[derive(Debug)]
pub struct Turn<'a>(#[expect(dead_code, reason = "held until the request is judged")] Option<MutexGuard<'a, ()>>);

impl Conduct {
    /// Waits where the last request was refused.
    pub async fn turn(&self) -> Turn<'_> {
        if !self.is_refused() {
            return Turn(None);
        }
        // Boxed, because few requests come here, and all are as large as this.
        Box::pin(self.line()).await
    }

    async fn line(&self) -> Turn<'_> {
        let place = self.0.line.lock().await;
        sleep(PAUSE).await;
        Turn(Some(place))
    }

    /// Whether the last request was refused.
    pub fn is_refused(&self) -> bool {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The last request was refused.
    pub fn refused(&self) {
        self.0.refused.store(true, Ordering::Relaxed);
    }

    /// The last request was granted.
    pub fn granted(&self) {
        self.0.refused.store(false, Ordering::Relaxed);
        self.0.known.store(true, Ordering::Relaxed);
    }

    /// Ends when nothing was granted within `limit`; never, when something was.
    pub(super) async fn stays_strange(&self, limit: Duration) {
        let mut pause = pin!(sleep(limit));
        // Looked at whenever the connection does something, and so without the timer once it does not matter.
        let is_over = |context: &mut Context<'_>| {
            if self.0.known.load(Ordering::Relaxed) { Poll::Pending } else { pause.as_mut().poll(context) }
        };
        poll_fn(is_over).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_requests_wait_in_line_until_one_is_granted() {
        let conduct = Conduct::default();
        let started = Instant::now();
        drop(conduct.turn().await);
        assert_eq!(started.elapsed(), Duration::ZERO);
        conduct.refused();
        let ask = async || drop(conduct.turn().await);
        tokio::join!(ask(), ask(), ask());
        assert!((PAUSE * 3..PAUSE * 4).contains(&started.elapsed()), "{:?}", started.elapsed());
        conduct.granted();
        let granted = Instant::now();
        ask().await;
        assert_eq!(granted.elapsed(), Duration::ZERO);
    }
}
