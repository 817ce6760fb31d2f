//! `/statusz`: what runs and since when, for people.

use axum::response::Response;
use jiff::Timestamp;

use super::respond::with_type;

/// Paths that say how the process does.
pub(super) const PATHS: [&str; 5] = ["/healthz", "/livez", "/metrics", "/readyz", "/version"];

/// The page of a process that `started` then, as `k8s.io/apiserver` has it.
pub(super) fn page(started: Timestamp, now: Timestamp) -> Response {
    with_type("text/plain; charset=utf-8", text(started, now))
}

fn text(started: Timestamp, now: Timestamp) -> String {
    let up = now.duration_since(started).as_secs().max(0);
    format!(
        "\nwva statusz\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
         guarantees and is for debugging purposes only.\n\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nBinary version: {}\n\
         Paths: {}\n",
        started.strftime("%a %b %d %H:%M:%S UTC %Y"),
        up / 3600,
        up / 60 % 60,
        up % 60,
        env!("CARGO_PKG_VERSION"),
        PATHS.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_since_when_and_for_how_long() {
        let page = text("2026-11-26T19:03:52Z".parse().unwrap(), "2026-11-27T21:04:00Z".parse().unwrap());
        assert!(page.starts_with("\nwva statusz\nWarning: "), "{page}");
        assert!(page.contains("\nStarted: Thu Nov 26 19:03:52 UTC 2026\nUp: 26 hr 00 min 08 sec\n"), "{page}");
        assert!(page.ends_with("\nPaths: /healthz /livez /metrics /readyz /version\n"), "{page}");
    }
}
