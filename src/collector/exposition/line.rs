//! One sample line of the Prometheus text exposition format (0.0.4; OpenMetrics sample lines without exemplars too).
//!
//! Ours because the kept libraries do not fit: `prometheus-parse` takes neither the colon in `vllm:…` nor a comma or an
//! escape in a label value, and `openmetrics-parser` is LGPL.

use std::borrow::Cow;

/// A sample: name, labels in order, value.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(crate) value: f64,
}

impl<'a> Line<'a> {
    /// Reads `text` into this line, reusing its memory; `false` when `text` is not a sample line.
    pub(crate) fn read(&mut self, text: &'a str) -> bool {
        self.try_read(text).is_some()
    }

    fn try_read(&mut self, text: &'a str) -> Option<()> {
        let text = text.trim_ascii();
        self.name = name(text)?;
        self.labels.clear();
        let rest = &text[self.name.len()..];
        let rest = match rest.strip_prefix('{') {
            Some(rest) => labels(rest, &mut self.labels)?,
            None => rest,
        };
        // A timestamp may follow the value; it is not used: the pod samples its gauges when it answers.
        self.value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        Some(())
    }

    /// The value of a label; an empty one means the same as none.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| &**value)
            .filter(|value| !value.is_empty())
    }
}

/// The metric name a sample line begins with.
pub(crate) fn name(text: &str) -> Option<&str> {
    let end = text.bytes().position(|byte| matches!(byte, b'{' | b' ' | b'\t'))?;
    text.get(..end).filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// Reads labels up to the closing brace; what follows it.
fn labels<'a>(mut rest: &'a str, labels: &mut Vec<(&'a str, Cow<'a, str>)>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
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

    fn parse(text: &str) -> Option<Line<'_>> {
        let mut line = Line::default();
        line.read(text).then_some(line)
    }

    #[test]
    fn values_may_hold_what_would_end_them() {
        let line = parse(r#"vllm:x{a="1,2",b="say \"hi\" }\\ \n=",} 4.5e3 1700000000000"#).unwrap();
        assert_eq!((line.name, line.value), ("vllm:x", 4500.0));
        assert_eq!(line.label("a"), Some("1,2"));
        assert_eq!(line.label("b"), Some("say \"hi\" }\\ \n="));
        assert_eq!(line.label("c"), None);
    }

    #[test]
    fn lines_without_labels_and_special_values_are_samples() {
        assert_eq!(parse("up 1").unwrap().value, 1.0);
        assert!(parse("up NaN").unwrap().value.is_nan());
        assert_eq!(parse("up +Inf").unwrap().value, f64::INFINITY);
    }

    #[test]
    fn what_is_not_a_sample_is_nothing() {
        for text in ["", "# TYPE up gauge", "up", "up{", "up{a=\"1} 1", "up{a=1} 1", "up{} x", "<html> 1", "{} 1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            parse(&text);
        }

        #[test]
        fn any_label_value_survives_escaping(value in "\\PC*", number in -1e12..1e12_f64) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("vllm:m{{model_name=\"{escaped}\",engine=\"0\"}} {number}");
            let line = parse(&text).unwrap();
            prop_assert_eq!(line.label("model_name"), Some(value.as_str()).filter(|value| !value.is_empty()));
            prop_assert_eq!(line.value, number);
        }
    }
}
