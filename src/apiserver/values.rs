//! A read of a metric: which series answer it, and when an error is the better answer.
//!
//! An HPA adds up whatever it gets and ignores timestamps. So it is given exactly one item or an error, whose message it
//! shows to its owner; anyone else may list.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    MetricsProvider, Refusal, Sample, Series,
    provider::{Of, SeriesQuery},
    status::{ApiError, Subject},
    suggestion::{listed, nearest_first, quoted},
};
use crate::constants::LABEL_VARIANT_NAME;

/// Warnings sent with one answer; a client prints them one a line.
const MOST_WARNINGS: usize = 10;

/// A read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) query: SeriesQuery<'a>,
    /// API group it came by, for errors.
    pub(super) group: &'a str,
    /// Whether the reader adds up what it gets.
    pub(super) sums: bool,
}

/// What is served, and what a person should know about it.
#[derive(Debug)]
pub(super) struct Answer {
    /// Series with a value, in the order of namespaces, variants and labels.
    pub(super) present: Vec<(Series, Sample)>,
    pub(super) warnings: Vec<String>,
}

/// Every series that matches `question`, with or without a value, in the order of namespaces, variants and labels.
///
/// # Errors
/// When nothing matches.
pub(super) fn matching(question: &Question<'_>, provider: &dyn MetricsProvider) -> Result<Vec<Series>, ApiError> {
    let mut series = provider.select(&question.query).map_err(|_| question.unknown_metric(provider))?;
    series.sort_by(|a, b| (&a.namespace, &a.subject, &a.labels).cmp(&(&b.namespace, &b.subject, &b.labels)));
    if series.is_empty() { Err(question.no_match(provider)) } else { Ok(series) }
}

/// Answers `question` out of `provider`.
///
/// # Errors
/// When nothing matches, when the reader would add up several series, and when the value is withheld.
pub(super) fn answer(question: &Question<'_>, provider: &dyn MetricsProvider) -> Result<Answer, ApiError> {
    let series = matching(question, provider)?;
    let is_ambiguous = series.len() > 1;
    if question.sums && is_ambiguous {
        return Err(ApiError::BadRequest(question.ambiguity(&series)));
    }
    let mut warnings = Vec::new();
    // Only a read within one namespace can be meant for an HPA.
    if question.query.namespace.is_some() && is_ambiguous {
        warnings.push(question.ambiguity(&series));
    }
    let has_one_subject = series.windows(2).all(|two| subject_of(&two[0]) == subject_of(&two[1]));
    let (present, withheld) = by_value(series);
    if !withheld.is_empty() && (has_one_subject || present.is_empty()) {
        return Err(ApiError::Unavailable(refusals(&withheld)));
    }
    warnings.extend(withheld.iter().map(|refusal| format!("left out: {refusal}")));
    summarise(&mut warnings);
    Ok(Answer { present, warnings })
}

/// Answers `question` with one series.
///
/// # Errors
/// As [`answer`], and when several match.
pub(super) fn one(question: &Question<'_>, provider: &dyn MetricsProvider) -> Result<(Series, Sample), ApiError> {
    let Answer { mut present, .. } = answer(&Question { sums: true, ..*question }, provider)?;
    present.pop().ok_or_else(|| question.no_match(provider))
}

impl Question<'_> {
    fn subject(&self) -> Subject {
        Subject { group: self.group.to_owned(), metric: self.query.metric.to_owned() }
    }

    fn unknown_metric(&self, provider: &dyn MetricsProvider) -> ApiError {
        let names = provider.metric_names().iter().map(|name| (*name).into()).collect();
        let metric = self.query.metric;
        let known = listed(&nearest_first([metric], names));
        ApiError::NotFound {
            message: format!("no metric {metric:?} is served; served are {known}"),
            metric: self.subject(),
        }
    }

    fn no_match(&self, provider: &dyn MetricsProvider) -> ApiError {
        let SeriesQuery { namespace, metric, .. } = self.query;
        let asked = self.selection();
        let message = match namespace {
            None => format!("no variant in any namespace has {metric} {asked}"),
            Some(namespace) => {
                let known = nearest_first(self.wanted(), provider.subjects(namespace));
                if known.is_empty() {
                    format!(
                        "no variant is known in namespace {namespace:?}: create a VariantAutoscaling there, or check the \
                         namespace"
                    )
                } else {
                    let known = listed(&known);
                    format!("no variant in namespace {namespace:?} has {metric} {asked}; known there: {known}")
                }
            }
        };
        ApiError::NotFound { message, metric: self.subject() }
    }

    /// Names that were asked for.
    fn wanted(&self) -> Vec<&str> {
        let listed = self.query.selector.values_listed_for(LABEL_VARIANT_NAME).into_iter().flatten();
        let named = match self.query.of {
            Of::Any => None,
            Of::Subject(name) => Some(name),
            Of::Object { name, .. } => name,
        };
        listed.map(String::as_str).chain(named).collect()
    }

    /// How the series were chosen, as the end of a sentence.
    fn selection(&self) -> String {
        let selector = self.query.selector;
        let of = match self.query.of {
            Of::Any if selector.is_empty() => return "(no selector given)".to_owned(),
            Of::Any => return format!("matching selector {:?}", selector.to_string()),
            Of::Subject(name) => format!("as {name:?}"),
            Of::Object { kind, name: Some(name), .. } => format!("of {kind} {name:?}"),
            Of::Object { kind, name: None, .. } => format!("of a {kind}"),
        };
        if selector.is_empty() { of } else { format!("{of} matching selector {:?}", selector.to_string()) }
    }

    /// Why an HPA cannot use what matches, and what to do.
    fn ambiguity(&self, series: &[Series]) -> String {
        let asked = self.selection();
        let metric = self.query.metric;
        let subjects = subjects_of(series);
        if subjects.len() > 1 {
            let names = listed(&subjects.iter().map(|(_, name)| Arc::clone(name)).collect::<Vec<_>>());
            return format!(
                "{metric} {asked} is that of {} variants ({names}), which an HPA adds up: select one by label \
                 {LABEL_VARIANT_NAME}",
                subjects.len()
            );
        }
        let telling = telling_labels(series);
        format!("{metric} {asked} has {} series, which an HPA adds up: select one by label {telling}", series.len())
    }
}

fn subject_of(one: &Series) -> (&Arc<str>, &Arc<str>) {
    (&one.namespace, &one.subject)
}

fn subjects_of(series: &[Series]) -> BTreeSet<(&Arc<str>, &Arc<str>)> {
    series.iter().map(subject_of).collect()
}

/// Labels in which `series` differ, with their values.
fn telling_labels(series: &[Series]) -> String {
    let keys: BTreeSet<&str> = series.iter().flat_map(|one| one.labels.iter().map(|(key, _)| key)).collect();
    let values_of = |key: &str| series.iter().map(|one| one.labels.get(key)).collect::<BTreeSet<_>>();
    let telling = keys.into_iter().filter_map(|key| {
        let values = values_of(key);
        let names: Vec<_> = values.iter().flatten().copied().collect();
        (values.len() > 1).then(|| format!("{key} ({})", quoted(&names)))
    });
    telling.collect::<Vec<_>>().join(" or ")
}

fn by_value(series: Vec<Series>) -> (Vec<(Series, Sample)>, Vec<Refusal>) {
    let (mut present, mut withheld) = (Vec::with_capacity(series.len()), Vec::new());
    for one in series {
        match one.value {
            Ok(sample) => present.push((one, sample)),
            Err(refusal) => withheld.push(refusal),
        }
    }
    (present, withheld)
}

fn refusals(withheld: &[Refusal]) -> String {
    let mut messages: Vec<_> = withheld.iter().map(|refusal| refusal.message.clone()).collect();
    messages.dedup();
    summarise(&mut messages);
    messages.join("; ")
}

fn summarise(messages: &mut Vec<String>) {
    let beyond = messages.len().saturating_sub(MOST_WARNINGS);
    if beyond > 0 {
        messages.truncate(MOST_WARNINGS);
        messages.push(format!("and {beyond} more"));
    }
}

#[cfg(test)]
pub(super) mod tests;
