//! Names of requests.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;
use uuid::{Builder, Uuid};

/// Longest audit id that is taken over.
const LONGEST: usize = 64;

/// The audit id that a request came with, if it can stand in a log line, or a new one.
pub(super) fn id(given: Option<&HeaderValue>) -> HeaderValue {
    let is_usable =
        |id: &&HeaderValue| !id.is_empty() && id.len() <= LONGEST && id.as_bytes().iter().all(u8::is_ascii_graphic);
    given.filter(is_usable).cloned().unwrap_or_else(made)
}

/// Unique by a random number of this process and a count: a random number of its own would cost a request a system call.
fn made() -> HeaderValue {
    static PROCESS: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = u128::from(COUNT.fetch_add(1, Ordering::Relaxed));
    let id = Builder::from_random_bytes((PROCESS.as_u128() ^ count).to_be_bytes()).into_uuid();
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_if_it_can_stand_in_a_log_line_and_made_anew_otherwise() {
        let given = HeaderValue::from_static("4c1b6a1e-3f6b-4e7c-9a36-0a5f8d6a2a11");
        assert_eq!(id(Some(&given)), given);
        for bad in ["", "a b", &"a".repeat(65)] {
            let made = id(Some(&HeaderValue::from_str(bad).unwrap()));
            assert!(Uuid::parse_str(made.to_str().unwrap()).is_ok(), "{made:?}");
        }
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| id(None).to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
