//! Label selectors, in the whole grammar of Kubernetes. (`kube::core::Selector` matches, but does not parse, and knows
//! neither `>` nor `<`.)

mod parser;
mod validation;

use std::{collections::BTreeSet, fmt, str::FromStr};

use thiserror::Error;

use super::labels::Labels;

/// Requirements a set of labels must all meet; without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// What is required of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    /// Present, with one of these values.
    In(BTreeSet<String>),
    /// Absent, or with none of these values.
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    /// Present, an integer, and greater.
    GreaterThan(i64),
    /// Present, an integer, and less.
    LessThan(i64),
}

/// A selector that cannot be understood, in the words of `k8s.io/apimachinery`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidSelector(String);

impl Selector {
    /// Whether `labels` meet all requirements.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether it requires nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys of the labels that it speaks of.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| requirement.key.as_str())
    }

    /// The only values that the label `key` may have, if the selector lists them.
    pub fn values_listed_for(&self, key: &str) -> Option<&BTreeSet<String>> {
        self.0.iter().filter(|requirement| requirement.key == key).find_map(|requirement| match &requirement.operator {
            Operator::In(values) => Some(values),
            _ => None,
        })
    }

    /// The same requirements, those of label `alias` asked of label `key`.
    #[must_use]
    pub(super) fn reading(mut self, alias: &str, key: &str) -> Self {
        for requirement in self.0.iter_mut().filter(|requirement| requirement.key == alias) {
            key.clone_into(&mut requirement.key);
        }
        self
    }

    /// The requirements as `metav1.LabelSelector` writes them: key, operator, values. `None` without any, and for `>` and
    /// `<`, which it has no words for.
    pub(super) fn expressions(&self) -> Option<Vec<(&str, &'static str, Vec<&str>)>> {
        (!self.is_empty()).then_some(())?;
        self.0.iter().map(Requirement::expression).collect()
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parser::parse(text).map(Self).map_err(InvalidSelector)
    }
}

impl Requirement {
    fn expression(&self) -> Option<(&str, &'static str, Vec<&str>)> {
        let (operator, values) = match &self.operator {
            Operator::In(values) => ("In", values.iter().map(String::as_str).collect()),
            Operator::NotIn(values) => ("NotIn", values.iter().map(String::as_str).collect()),
            Operator::Exists => ("Exists", Vec::new()),
            Operator::DoesNotExist => ("DoesNotExist", Vec::new()),
            Operator::GreaterThan(_) | Operator::LessThan(_) => return None,
        };
        Some((&self.key, operator, values))
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let joined = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", joined(values)),
            Operator::In(values) => write!(f, "{key} in ({})", joined(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", joined(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", joined(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(text: &'static str) -> Labels {
        text.split(',').filter_map(|pair| pair.split_once('=')).collect()
    }

    #[test]
    fn a_selector_matches_as_in_kubernetes() {
        for (selector, of, expected) in [
            ("", "x=y", true),
            ("x=y", "x=y", true),
            ("x==y", "x=y", true),
            ("x=y,z=w", "x=y,z=w", true),
            ("x=y,z=w", "x=y", false),
            ("x!=y", "x=z", true),
            ("x!=y", "z=y", true),
            ("x!=y", "x=y", false),
            ("x in (y,z)", "x=z", true),
            ("x in (y,z)", "x=w", false),
            ("x in (y,z)", "", false),
            ("x notin (y,z)", "x=w", true),
            ("x notin (y,z)", "", true),
            ("x notin (y,z)", "x=y", false),
            ("x", "x=", true),
            ("x", "", false),
            ("!x", "", true),
            ("!x", "x=", false),
            ("x=", "x=", true),
            ("x in (),y", "x=,y=1", true),
            ("x in (,a)", "x=", true),
            ("x in (a,,b)", "x=", true),
            ("x>1", "x=2", true),
            ("x>1", "x=1", false),
            ("x>1", "x=two", false),
            ("x>1", "", false),
            ("x<7", "x=6", true),
            (" x  in ( y , z ) , !w ", "x=z", true),
            ("in in (in)", "in=in", true),
            ("notin", "notin=1", true),
            ("example.com/zone=a", "example.com/zone=a", true),
        ] {
            let parsed: Selector = selector.parse().unwrap();
            assert_eq!(parsed.matches(&labels(of)), expected, "{selector} on {of}");
        }
    }

    #[test]
    fn an_unreadable_selector_is_explained_in_upstreams_words() {
        for (selector, message) in [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("x=a||y=b", "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be"),
            ("x,", "found '', expected: identifier after ','"),
            ("x,,y", "found ',', expected: identifier after ','"),
            (",x", "found ',', expected: !, identifier, or 'end of string'"),
            ("x=y z", "found 'z', expected: ',' or 'end of string'"),
            ("!x=a", "found '=', expected: ',' or 'end of string'"),
            ("x in y", "unable to parse requirement: found 'y' expected: '('"),
            ("x in (y", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("x in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("x in (a=)", "unable to parse requirement: found '=', expected: ',' or ')'"),
            ("x=(", "unable to parse requirement: found '(', expected: identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("x<-1", "unable to parse requirement: values[0][x]: Invalid value: \"-1\": a valid label must be"),
            (
                "x>a",
                "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a/b/c=d",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of",
            ),
            ("/b=d", "unable to parse requirement: <nil>: Invalid value: \"/b\": prefix part must be non-empty"),
            (
                "A.b/c=d",
                "unable to parse requirement: <nil>: Invalid value: \"A.b/c\": prefix part a lowercase RFC 1123",
            ),
            ("-a=d", "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of"),
        ] {
            let error = selector.parse::<Selector>().unwrap_err().to_string();
            assert!(error.starts_with(message), "{selector}: {error}");
        }
        let long = format!("x={}", "a".repeat(64)).parse::<Selector>().unwrap_err().to_string();
        assert!(long.ends_with("must be no more than 63 bytes"), "{long}");
    }

    #[test]
    fn the_values_a_selector_lists_for_a_label_can_be_read() {
        let selector: Selector = "variant_name in (a,b),zone!=c".parse().unwrap();
        let listed = selector.values_listed_for("variant_name").unwrap();
        assert_eq!(listed.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(selector.values_listed_for("zone"), None);
    }

    #[test]
    fn an_alias_is_read_as_the_label_it_stands_for() {
        let selector = "exported_namespace=a,x".parse::<Selector>().unwrap().reading("exported_namespace", "namespace");
        assert_eq!(selector.to_string(), "namespace=a,x");
    }

    #[test]
    fn requirements_are_told_in_the_words_of_the_api() {
        let selector: Selector = "a=b,!c,d notin (e,f),g".parse().unwrap();
        let expected = [
            ("a", "In", vec!["b"]),
            ("c", "DoesNotExist", vec![]),
            ("d", "NotIn", vec!["e", "f"]),
            ("g", "Exists", vec![]),
        ];
        assert_eq!(selector.expressions().unwrap(), expected);
        assert_eq!("".parse::<Selector>().unwrap().expressions(), None);
        assert_eq!("a>1".parse::<Selector>().unwrap().expressions(), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,60}") {
            let _ = text.parse::<Selector>();
        }

        #[test]
        fn tokens_in_any_order_do_not_break_the_parser(
            tokens in prop::collection::vec(prop::sample::select(vec!["a", "in", "notin", "(", ")", ",", "=", "!", "<", ">", " "]), 0..12),
        ) {
            let _ = tokens.concat().parse::<Selector>();
        }

        #[test]
        fn a_selector_reads_back_as_what_it_displays(
            keys in prop::collection::vec(("[a-z]{1,3}", 0..6_u8, prop::collection::btree_set("[a-z0-9]{0,3}", 1..4), any::<u32>()), 0..5),
        ) {
            let requirements = keys.into_iter().map(|(key, operator, values, bound)| Requirement {
                key,
                operator: match operator {
                    0 => Operator::In(values),
                    1 => Operator::NotIn(values),
                    2 => Operator::Exists,
                    3 => Operator::DoesNotExist,
                    4 => Operator::GreaterThan(bound.into()),
                    _ => Operator::LessThan(bound.into()),
                },
            });
            let selector = Selector(requirements.collect());
            prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }
    }
}
