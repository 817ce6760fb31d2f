//! A read of a metric: which series answer it, and when an error is the better answer.
//!
//! An HPA adds up whatever it gets and ignores timestamps. So it is given exactly one item or an error, whose message it
//! shows to its owner; anyone else may list.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    API_VERSION, ITEM_KIND, LIST_KIND, MetricsProvider, Refusal, Sample, Series,
    quantity::Quantity,
    selector::Selector,
    status::{ApiError, Subject},
    suggestion::{listed, nearest_first, quoted},
    wire::{ExternalMetricValue, ExternalMetricValueList, NoMetadata},
};
use crate::constants::{EXTERNAL_METRICS_GROUP, LABEL_VARIANT_NAME};

/// Warnings sent with one answer; a client prints them one a line.
const MOST_WARNINGS: usize = 10;

/// A read.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// Where; `None` is everywhere.
    pub(super) namespace: Option<&'a str>,
    pub(super) metric: &'a str,
    pub(super) selector: &'a Selector,
    /// Whether the reader adds up what it gets.
    pub(super) sums: bool,
}

/// What is served, and what a person should know about it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) list: ExternalMetricValueList,
    pub(super) warnings: Vec<String>,
}

/// Answers `question` out of `provider`.
///
/// # Errors
/// When nothing matches, when the reader would add up several series, and when the value is withheld.
pub(super) fn answer(question: &Question<'_>, provider: &dyn MetricsProvider) -> Result<Answer, ApiError> {
    let matches = |labels: &BTreeMap<String, String>| question.selector.matches(labels);
    let mut series = provider
        .select(question.namespace, question.metric, &matches)
        .map_err(|_| question.unknown_metric(provider))?;
    series.sort_by(|a, b| (&a.namespace, &a.subject, &a.labels).cmp(&(&b.namespace, &b.subject, &b.labels)));
    let subjects = subjects_of(&series);
    if subjects.is_empty() {
        return Err(question.no_match(provider));
    }
    if question.sums && series.len() > 1 {
        return Err(ApiError::BadRequest(question.ambiguity(&series, &subjects)));
    }

    let mut warnings = Vec::new();
    // Only a read within one namespace can be meant for an HPA.
    if question.namespace.is_some() && series.len() > 1 {
        warnings.push(question.ambiguity(&series, &subjects));
    }
    let (present, withheld) = by_value(&series);
    if !withheld.is_empty() && (subjects.len() == 1 || present.is_empty()) {
        return Err(ApiError::Unavailable(refusals(&withheld)));
    }
    warnings.extend(withheld.iter().map(|refusal| format!("left out: {refusal}")));
    summarise(&mut warnings);
    Ok(Answer { list: list(question.metric, &present), warnings })
}

impl Question<'_> {
    fn subject(&self) -> Subject {
        Subject { group: EXTERNAL_METRICS_GROUP.to_owned(), metric: self.metric.to_owned() }
    }

    fn unknown_metric(&self, provider: &dyn MetricsProvider) -> ApiError {
        let names = provider.metric_names().iter().map(|name| (*name).into()).collect();
        let known = listed(&nearest_first([self.metric], names));
        ApiError::NotFound {
            message: format!("no metric {:?} is served; served are {known}", self.metric),
            metric: self.subject(),
        }
    }

    fn no_match(&self, provider: &dyn MetricsProvider) -> ApiError {
        let asked = self.selection();
        let message = match self.namespace {
            None => format!("no variant in any namespace has {} {asked}", self.metric),
            Some(namespace) => {
                let known = nearest_first(self.selector.values_of(LABEL_VARIANT_NAME), provider.subjects(namespace));
                if known.is_empty() {
                    format!(
                        "no variant is known in namespace {namespace:?}: create a VariantAutoscaling there, or check the \
                         namespace"
                    )
                } else {
                    let known = listed(&known);
                    format!("no variant in namespace {namespace:?} has {} {asked}; known there: {known}", self.metric)
                }
            }
        };
        ApiError::NotFound { message, metric: self.subject() }
    }

    /// How the series were chosen, as the end of a sentence.
    fn selection(&self) -> String {
        if *self.selector == Selector::default() {
            "(no selector given)".to_owned()
        } else {
            format!("matching selector {:?}", self.selector.to_string())
        }
    }

    /// Why an HPA cannot use what matches, and what to do.
    fn ambiguity(&self, series: &[Series], subjects: &BTreeSet<(Arc<str>, Arc<str>)>) -> String {
        let asked = self.selection();
        let metric = self.metric;
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

fn subjects_of(series: &[Series]) -> BTreeSet<(Arc<str>, Arc<str>)> {
    series.iter().map(|one| (Arc::clone(&one.namespace), Arc::clone(&one.subject))).collect()
}

/// Labels in which `series` differ, with their values.
fn telling_labels(series: &[Series]) -> String {
    let keys: BTreeSet<&String> = series.iter().flat_map(|one| one.labels.keys()).collect();
    let values_of = |key: &String| series.iter().map(|one| one.labels.get(key)).collect::<BTreeSet<_>>();
    let telling = keys.into_iter().filter_map(|key| {
        let values = values_of(key);
        let names: Vec<_> = values.iter().flatten().map(|value| value.as_str()).collect();
        (values.len() > 1).then(|| format!("{key} ({})", quoted(&names)))
    });
    telling.collect::<Vec<_>>().join(" or ")
}

fn by_value(series: &[Series]) -> (Vec<(&Series, Sample)>, Vec<&Refusal>) {
    let (mut present, mut withheld) = (Vec::with_capacity(series.len()), Vec::new());
    for one in series {
        match &one.value {
            Ok(sample) => present.push((one, *sample)),
            Err(refusal) => withheld.push(refusal),
        }
    }
    (present, withheld)
}

fn refusals(withheld: &[&Refusal]) -> String {
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

fn list(metric: &str, present: &[(&Series, Sample)]) -> ExternalMetricValueList {
    let metric_name = Arc::<str>::from(metric);
    let item = |(series, sample): &(&Series, Sample)| ExternalMetricValue {
        kind: ITEM_KIND,
        api_version: API_VERSION,
        metric_name: Arc::clone(&metric_name),
        metric_labels: Arc::clone(&series.labels),
        timestamp: sample.timestamp,
        window: sample.window.map(|window| window.as_secs()),
        value: Quantity { milli: sample.milli },
    };
    ExternalMetricValueList {
        kind: LIST_KIND,
        api_version: API_VERSION,
        metadata: NoMetadata {},
        items: present.iter().map(item).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::apiserver::UnknownMetric;

    /// Variants `a`, `b` (withheld) and `c` in `ns`; `a` also has a metric of two series.
    struct Provider;

    const METRIC: &str = "wva_desired_replicas";
    const LEVEL: &str = "wva_saturation_level";

    fn series(subject: &str, label: Option<(&str, &str)>, value: Result<u64, &str>) -> Series {
        let own = (LABEL_VARIANT_NAME, subject);
        let labels = [own].into_iter().chain(label).map(|(key, value)| (key.to_owned(), value.to_owned()));
        Series {
            namespace: "ns".into(),
            subject: subject.into(),
            labels: Arc::new(labels.collect()),
            value: value
                .map(|milli| Sample {
                    milli,
                    timestamp: "2026-11-23T19:29:37.9Z".parse().unwrap(),
                    window: (milli == 2_500).then_some(Duration::from_mins(1)),
                })
                .map_err(|message| Refusal { message: message.to_owned() }),
        }
    }

    impl MetricsProvider for Provider {
        fn metric_names(&self) -> &[&'static str] {
            &["wva_current_replicas", METRIC, LEVEL]
        }

        fn select(
            &self,
            namespace: Option<&str>,
            metric: &str,
            matches: &dyn Fn(&BTreeMap<String, String>) -> bool,
        ) -> Result<Vec<Series>, UnknownMetric> {
            let all = match metric {
                METRIC => vec![
                    series("c", None, Ok(2_500)),
                    series("a", None, Ok(21_000)),
                    series("b", None, Err("variant ns/b: metrics are 130 s old")),
                ],
                LEVEL => vec![
                    series("a", Some(("signal", "kv_cache")), Ok(800)),
                    series("a", Some(("signal", "queue_depth")), Err("variant ns/a: no queue depth")),
                ],
                _ => return Err(UnknownMetric),
            };
            let here = |one: &Series| namespace.is_none_or(|namespace| namespace == &*one.namespace);
            Ok(all.into_iter().filter(|one| here(one) && matches(&one.labels)).collect())
        }

        fn subjects(&self, namespace: &str) -> Vec<Arc<str>> {
            if namespace == "ns" { ["c", "a", "b"].map(Into::into).to_vec() } else { Vec::new() }
        }
    }

    fn ask(namespace: Option<&str>, metric: &str, selector: &str, sums: bool) -> Result<Answer, ApiError> {
        let selector = selector.parse().unwrap();
        answer(&Question { namespace, metric, selector: &selector, sums }, &Provider)
    }

    fn items(answer: &Answer) -> Vec<String> {
        let name = |item: &ExternalMetricValue| format!("{}={}", item.metric_labels[LABEL_VARIANT_NAME], item.value);
        answer.list.items.iter().map(name).collect()
    }

    #[test]
    fn one_variant_is_served_as_documented() {
        let answer = ask(Some("ns"), METRIC, "variant_name=c", true).unwrap();
        assert_eq!(
            serde_json::to_value(&answer.list).unwrap(),
            json!({
                "kind": "ExternalMetricValueList",
                "apiVersion": "external.metrics.k8s.io/v1beta1",
                "metadata": {},
                "items": [{
                    "kind": "ExternalMetricValue",
                    "apiVersion": "external.metrics.k8s.io/v1beta1",
                    "metricName": METRIC,
                    "metricLabels": {"variant_name": "c"},
                    "timestamp": "2026-11-23T19:29:37Z",
                    "window": 60,
                    "value": "2500m",
                }],
            })
        );
        assert!(answer.warnings.is_empty());
        let without_window = ask(Some("ns"), METRIC, "variant_name=a", true).unwrap();
        assert!(serde_json::to_value(&without_window.list).unwrap()["items"][0].get("window").is_none());
    }

    #[test]
    fn an_hpa_is_never_given_values_it_would_add_up() {
        for selector in ["", "variant_name in (a,c)", "variant_name in (a,b)"] {
            let error = ask(Some("ns"), METRIC, selector, true).unwrap_err();
            let ApiError::BadRequest(message) = error else { panic!("{error:?}") };
            assert!(message.contains("\"a\"") && message.contains("select one by label variant_name"), "{message}");
        }
        let ApiError::BadRequest(message) = ask(Some("ns"), LEVEL, "variant_name=a", true).unwrap_err() else {
            panic!()
        };
        assert!(message.contains(r#"signal ("kv_cache", "queue_depth")"#), "{message}");
        assert_eq!(items(&ask(Some("ns"), LEVEL, "signal=kv_cache", true).unwrap()), ["a=800m"]);
    }

    #[test]
    fn a_person_gets_the_list_in_order_and_is_told_what_is_wrong_with_it() {
        let answer = ask(Some("ns"), METRIC, "", false).unwrap();
        assert_eq!(items(&answer), ["a=21", "c=2500m"]);
        assert_eq!(answer.warnings.len(), 2, "{:?}", answer.warnings);
        assert!(answer.warnings[0].contains("3 variants") && answer.warnings[0].contains("an HPA adds up"));
        assert_eq!(answer.warnings[1], "left out: variant ns/b: metrics are 130 s old");
    }

    #[test]
    fn a_list_over_all_namespaces_warns_only_of_what_is_missing() {
        assert_eq!(ask(None, METRIC, "", false).unwrap().warnings.len(), 1);
    }

    #[test]
    fn a_withheld_value_is_the_refusal_whoever_asks() {
        for (metric, selector, message) in [
            (METRIC, "variant_name=b", "variant ns/b: metrics are 130 s old"),
            (LEVEL, "variant_name=a", "variant ns/a: no queue depth"),
        ] {
            let error = ask(Some("ns"), metric, selector, false).unwrap_err();
            assert_eq!(error, ApiError::Unavailable(message.to_owned()));
        }
        let error = ask(Some("ns"), METRIC, "variant_name=b", true).unwrap_err();
        assert_eq!(error, ApiError::Unavailable("variant ns/b: metrics are 130 s old".to_owned()));
    }

    #[test]
    fn what_is_not_found_is_explained() {
        for (namespace, metric, selector, expected) in [
            (
                Some("ns"),
                METRIC,
                "variant_name=bb",
                r#"no variant in namespace "ns" has wva_desired_replicas matching selector "variant_name=bb"; known there: "b", "a", "c""#,
            ),
            (
                Some("elsewhere"),
                METRIC,
                "",
                r#"no variant is known in namespace "elsewhere": create a VariantAutoscaling there, or check the namespace"#,
            ),
            (
                None,
                METRIC,
                "variant_name=z",
                r#"no variant in any namespace has wva_desired_replicas matching selector "variant_name=z""#,
            ),
            (
                Some("ns"),
                "wva_desired_replica",
                "",
                r#"no metric "wva_desired_replica" is served; served are "wva_desired_replicas", "wva_current_replicas", "wva_saturation_level""#,
            ),
        ] {
            let error = ask(namespace, metric, selector, true).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(matches!(error, ApiError::NotFound { .. }));
        }
    }
}
