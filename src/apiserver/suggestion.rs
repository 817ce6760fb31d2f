//! Names for error messages: what was probably meant comes first.

use std::{cmp::Reverse, sync::Arc};

use strsim::damerau_levenshtein;

/// Names listed in one message.
const MOST: usize = 10;

/// Names that are compared letter by letter, which takes microseconds each: of more, those that begin alike.
const COMPARED: usize = 200;

/// `names`, the ones nearest to any of `wanted` first, equals in alphabetical order.
pub(super) fn nearest_first<'a>(wanted: impl IntoIterator<Item = &'a str>, mut names: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let wanted: Vec<&str> = wanted.into_iter().collect();
    let distance = |name: &str| wanted.iter().map(|wanted| damerau_levenshtein(wanted, name)).min();
    names.sort();
    if names.len() > COMPARED {
        names.sort_by_cached_key(|name| Reverse(wanted.iter().map(|wanted| alike(wanted, name)).max()));
    }
    let compared = names.len().min(COMPARED);
    if let Some(compared) = names.get_mut(..compared) {
        compared.sort_by_cached_key(|name| distance(name));
    }
    names
}

/// Bytes that both begin with.
fn alike(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

/// The first of `names`, in quotes, and how many there are beyond.
pub(super) fn listed(names: &[Arc<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(MOST).map(|name| &**name).collect();
    let beyond = names.len() - shown.len();
    let listed = quoted(&shown);
    if beyond == 0 { listed } else { format!("{listed} and {beyond} more") }
}

/// The few of `names` that are nearest to `wanted`, as part of a sentence.
pub fn nearest(wanted: &str, names: Vec<Arc<str>>) -> String {
    if names.is_empty() { "none".to_owned() } else { listed(&nearest_first([wanted], names)) }
}

/// `names` in quotes.
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn the_nearest_name_comes_first_and_long_lists_are_cut() {
        assert_eq!(
            nearest_first(["llama-h10"], names(&["qwen-a100", "llama-a100", "llama-h100"])),
            names(&["llama-h100", "llama-a100", "qwen-a100"])
        );
        assert_eq!(nearest_first([], names(&["b", "a"])), names(&["a", "b"]));
        let many: Vec<Arc<str>> = (0..12).map(|n| format!("v{n}").into()).collect();
        assert!(listed(&many).ends_with("\"v9\" and 2 more"));
        assert!(nearest("v9", many).starts_with("\"v9\", "));
        assert_eq!(nearest("a", Vec::new()), "none");
    }

    #[test]
    fn among_thousands_the_nearest_of_those_that_begin_alike_comes_first() {
        let many: Vec<Arc<str>> = (0..10_000).map(|n| format!("llama-{n}").into()).collect();
        for (wanted, nearest) in [("llama-7301", "llama-7301"), ("llama-73o1", "llama-7301"), ("lama-1", "llama-1")] {
            let ordered = nearest_first([wanted], many.clone());
            assert_eq!((&*ordered[0], ordered.len()), (nearest, many.len()), "{wanted}");
        }
    }
}
