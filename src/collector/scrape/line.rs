//! One sample line of the Prometheus text exposition format (0.0.4; OpenMetrics sample lines without exemplars too).
//!
//! Ours because the kept libraries do not fit: `prometheus-parse` takes neither the colon in `vllm:…` nor a comma or an
//! escape in a label value, and `openmetrics-parser` is LGPL.

use std::borrow::Cow;

/// A sample: name, labels in order, value.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl<'a> Line<'a> {
    /// Parses `text`; `None` when it is not a sample line.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let end = text.find(['{', ' ', '\t'])?;
        let (name, rest) = text.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        // A timestamp may follow the value; it is not used: the pod samples its gauges when it answers.
        let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        is_name(name).then_some(Self { name, labels, value })
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| &**value)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Labels up to the closing brace, and what follows it.
#[expect(clippy::type_complexity, reason = "a parser's result: what was read and what is left")]
fn labels(mut rest: &str) -> Option<(Vec<(&str, Cow<'_, str>)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once('=')?;
        let (value, after) = quoted_value(quoted.trim_start().strip_prefix('"')?)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// A label value up to its closing quote with `\\`, `\"` and `\n` resolved, and what follows the quote.
fn quoted_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if text.as_bytes().get(end) == Some(&b'"') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_may_hold_what_would_end_them() {
        let line = Line::parse(r#"vllm:x{a="1,2",b="say \"hi\" }\\ \n=",} 4.5e3 1700000000000"#).unwrap();
        assert_eq!((line.name, line.value), ("vllm:x", 4500.0));
        assert_eq!(line.label("a"), Some("1,2"));
        assert_eq!(line.label("b"), Some("say \"hi\" }\\ \n="));
        assert_eq!(line.label("c"), None);
    }

    #[test]
    fn lines_without_labels_and_special_values_are_samples() {
        assert_eq!(Line::parse("up 1").unwrap().value, 1.0);
        assert!(Line::parse("up NaN").unwrap().value.is_nan());
        assert_eq!(Line::parse("up +Inf").unwrap().value, f64::INFINITY);
    }

    #[test]
    fn what_is_not_a_sample_is_nothing() {
        for text in ["", "# TYPE up gauge", "up", "up{", "up{a=\"1} 1", "up{a=1} 1", "up{} x", "<html> 1", "{} 1"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            Line::parse(&text);
        }

        #[test]
        fn any_label_value_survives_escaping(value in "\\PC*", number in -1e12..1e12_f64) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("vllm:m{{model_name=\"{escaped}\",engine=\"0\"}} {number}");
            let line = Line::parse(&text).unwrap();
            prop_assert_eq!(line.label("model_name"), Some(value.as_str()));
            prop_assert_eq!(line.value, number);
        }
    }
}
