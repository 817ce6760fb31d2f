//! What can be wrong with a configuration. Every message names the key, who gave it, and what to do.

use std::fmt;

use thiserror::Error;

use super::Source;

/// One thing that is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such key.
    #[error("{key} ({given_by}) is not a configuration key{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// As it was spelled.
        key: String,
        /// Who gave it.
        given_by: Source,
        /// The key it resembles most, if any.
        nearest: Option<String>,
    },
    /// A key of upstream that means nothing here yet.
    #[error("{key} ({given_by}) is a key of the upstream autoscaler that is not supported yet; remove it")]
    UnsupportedKey {
        /// The key.
        key: String,
        /// Who gave it.
        given_by: Source,
    },
    /// A value outside its rule, by itself or beside another value.
    #[error("{key} is {value} ({given_by}), but {rule}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value in backticks, or a stand-in for a secret.
        value: String,
        /// Who gave it.
        given_by: Source,
        /// What it must be.
        rule: String,
    },
    /// One layer gives a key two values, under two of its names.
    #[error("{key} is given twice with different values ({first} and {second}); keep one")]
    GivenTwice {
        /// The key.
        key: String,
        /// One place.
        first: Source,
        /// The other.
        second: Source,
    },
    /// A document that cannot be read at all.
    #[error("{document} cannot be used: {message}")]
    Document {
        /// The document, such as `file /etc/wva/config.yaml`.
        document: String,
        /// What is wrong and what to do.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(key: impl Into<String>, value: &str, given_by: &Source, rule: impl Into<String>) -> Self {
        Self::InvalidValue {
            key: key.into(),
            value: format!("`{value}`"),
            given_by: given_by.clone(),
            rule: rule.into(),
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; docs/configuration.md lists them all".to_owned(),
        |nearest| format!("; did you mean {nearest}?"),
    )
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` when nothing is wrong. Repetitions are dropped.
    pub(super) fn check(errors: Vec<ConfigError>) -> Result<(), Self> {
        let mut distinct: Vec<ConfigError> = Vec::new();
        for error in errors {
            if !distinct.contains(&error) {
                distinct.push(error);
            }
        }
        if distinct.is_empty() { Ok(()) } else { Err(Self(distinct)) }
    }

    /// The single errors, in the order of the key table.
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                write!(f, "the configuration has {} errors:", all.len())?;
                all.iter().try_for_each(|error| write!(f, "\n  - {error}"))
            }
        }
    }
}
