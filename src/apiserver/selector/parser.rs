//! Text to requirements: tokens first, then a descent along the grammar. Accepts what `k8s.io/apimachinery`'s
//! `labels.Parse` accepts, and words its errors alike, since they are shown to users who know those words.

use std::{collections::BTreeSet, mem::replace};

use super::{
    Operator, Requirement,
    validation::{validate_key, validate_value},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A key, a value, or one of the words `in` and `notin`, which are operators only where one is expected.
    Word(&'a str),
    /// `=`, `==`, `!=`, `>`, `<`, `!`, `(`, `)` or `,`.
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

/// Splits off the first token of `text`.
fn token(text: &str) -> (Token<'_>, &str) {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let is_symbol = |byte: u8| matches!(byte, b'=' | b'!' | b'>' | b'<' | b'(' | b')' | b',');

    // By bytes: all of them are ASCII, and no part of another character is.
    let text = text.get(text.bytes().take_while(|byte| is_space(*byte)).count()..).unwrap_or_default();
    let Some(first) = text.bytes().next() else { return (Token::End, text) };
    if is_symbol(first)
        && let Some(symbol) = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol))
    {
        let (symbol, rest) = text.split_at(symbol.len());
        return (Token::Symbol(symbol), rest);
    }
    let end = text.bytes().position(|byte| is_space(byte) || is_symbol(byte)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (Token::Word(word), rest)
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser::new(text);
    let mut requirements = Vec::new();
    match parser.peek() {
        Token::End => return Ok(requirements),
        Token::Word(_) | Token::Symbol("!") => {}
        Token::Symbol(other) => return Err(format!("found '{other}', expected: !, identifier, or 'end of string'")),
    }
    loop {
        let requirement = parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
        requirements.push(requirement);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Symbol(",") => {}
            other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
        }
        let ahead = parser.peek();
        if !matches!(ahead, Token::Word(_) | Token::Symbol("!")) {
            return Err(format!("found '{}', expected: identifier after ','", ahead.text()));
        }
    }
}

struct Parser<'a> {
    ahead: Token<'a>,
    /// What is behind it.
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let (ahead, rest) = token(text);
        Self { ahead, rest }
    }

    fn peek(&self) -> Token<'a> {
        self.ahead
    }

    fn next(&mut self) -> Token<'a> {
        let (ahead, rest) = token(self.rest);
        self.rest = rest;
        replace(&mut self.ahead, ahead)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = self.word()?;
        validate_key(key)?;
        let operator = match self.peek() {
            // What follows `!key` is left to the caller, which expects the requirement to end here.
            _ if negated => Operator::DoesNotExist,
            Token::End | Token::Symbol(",") => Operator::Exists,
            _ => self.comparison(key)?,
        };
        Ok(Requirement { key: key.to_owned(), operator })
    }

    fn comparison(&mut self, key: &str) -> Result<Operator, String> {
        match self.next() {
            Token::Symbol("=" | "==") => self.value(key).map(|value| Operator::In([value].into())),
            Token::Symbol("!=") => self.value(key).map(|value| Operator::NotIn([value].into())),
            Token::Symbol(">") => self.bound(key).map(Operator::GreaterThan),
            Token::Symbol("<") => self.bound(key).map(Operator::LessThan),
            Token::Word("in") => self.values(key).map(Operator::In),
            Token::Word("notin") => self.values(key).map(Operator::NotIn),
            other => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.text())),
        }
    }

    fn word(&mut self) -> Result<&'a str, String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// One value; nothing at all is the empty one.
    fn value(&mut self, key: &str) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        let value = self.word()?;
        validate_value(key, 0, value)?;
        Ok(value.to_owned())
    }

    fn bound(&mut self, key: &str) -> Result<i64, String> {
        let value = self.value(key)?;
        value.parse().map_err(|_| {
            format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer")
        })
    }

    /// A set in parentheses; a missing element, as in `()` or `(a,,b)`, is the empty value.
    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        if !matches!(self.peek(), Token::Word(_) | Token::Symbol("," | ")")) {
            return Err(format!("found '{}', expected: ',', ')' or identifier", self.peek().text()));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.peek() {
                Token::Word(_) => self.word()?,
                Token::Symbol("," | ")") => "",
                other => return Err(format!("found '{}', expected: ',', or identifier", other.text())),
            };
            values.insert(value.to_owned());
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => break,
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
        for (index, value) in values.iter().enumerate() {
            validate_value(key, index, value)?;
        }
        Ok(values)
    }
}
