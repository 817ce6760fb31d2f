//! A YAML document as a tree that remembers lines, so that faults can be collected and shown where they stand.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;

/// A node and the line it begins on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) content: Content,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing, as after a key without a value.
    Empty,
    /// A string.
    Text(String),
    /// A number or boolean, as text.
    Plain(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in document order: key, line of the key, value.
    Map(Vec<(String, u64, Node)>),
}

impl Node {
    /// The same as JSON. What is no number or boolean of JSON stays a text.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Empty => Value::Null,
            Content::Text(text) => Value::String(text.clone()),
            Content::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            Content::List(nodes) => nodes.iter().map(Self::to_json).collect(),
            Content::Map(entries) => entries.iter().map(|(key, _, node)| (key.clone(), node.to_json())).collect(),
        }
    }
}

/// Reads the one document in `text`. A text without content is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { line: 1, content: Content::Map(Vec::new()) });
    }
    serde_saphyr::from_str::<Spanned<Content>>(text).map(Node::from).map_err(|error| error.to_string())
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self { line: spanned.referenced.line(), content: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list or a scalar")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Empty)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = sequence.next_element::<Spanned<Content>>()? {
            nodes.push(node.into());
        }
        Ok(Content::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Content>>()? {
            entries.push((key.value, key.referenced.line(), value.into()));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_lines_and_scalars_their_form() {
        let node = parse("a:\n  b: 5s\n  c: 80\nd: ['1', true, ~]\n").unwrap();
        let Content::Map(top) = node.content else { panic!("{node:?}") };
        let Content::Map(a) = &top[0].2.content else { panic!("{top:?}") };
        assert!(matches!(&a[0], (key, 2, Node { content: Content::Text(text), .. }) if key == "b" && text == "5s"));
        assert!(matches!(&a[1], (key, 3, Node { content: Content::Plain(text), .. }) if key == "c" && text == "80"));
        let Content::List(list) = &top[1].2.content else { panic!("{top:?}") };
        assert!(matches!(&list[0].content, Content::Text(text) if text == "1"));
        assert!(matches!(&list[1].content, Content::Plain(text) if text == "true"));
        assert!(matches!(&list[2].content, Content::Empty));
    }

    #[test]
    fn a_repeated_key_and_broken_syntax_are_errors_with_their_line() {
        for broken in ["a: 1\na: 2\n", "a: [1\n", "a: 1\n b: 2\n"] {
            let error = parse(broken).unwrap_err();
            assert!(error.contains("line"), "{broken:?}: {error}");
        }
    }

    #[test]
    fn a_text_without_content_is_an_empty_mapping() {
        for empty in ["", "\n  \n", "# nothing yet\n"] {
            assert!(matches!(parse(empty).unwrap().content, Content::Map(entries) if entries.is_empty()), "{empty:?}");
        }
    }
}
