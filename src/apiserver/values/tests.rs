//! What a read is answered.

use std::time::Duration;

use super::*;
use crate::apiserver::{Selector, UnknownMetric};

/// Variants `a`, `b` (withheld) and `c` in `ns`; `a` also has a metric of two series.
pub(in crate::apiserver) struct Provider;

const METRIC: &str = "wva_desired_replicas";
const LEVEL: &str = "wva_saturation_level";

fn series(subject: &str, label: Option<(&'static str, &str)>, value: Result<u64, &str>) -> Series {
    let own = (LABEL_VARIANT_NAME, subject);
    Series {
        namespace: "ns".into(),
        subject: subject.into(),
        object: None,
        labels: [own].into_iter().chain(label).collect(),
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
    fn metric_names(&self) -> &'static [&'static str] {
        &["wva_current_replicas", METRIC, LEVEL]
    }

    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        let all = match query.metric {
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
        let here = |one: &Series| query.namespace.is_none_or(|namespace| namespace == &*one.namespace);
        let meant = |one: &Series| match query.of {
            Of::Subject(name) => name == &*one.subject,
            _ => true,
        };
        Ok(all.into_iter().filter(|one| here(one) && meant(one) && query.selector.matches(&one.labels)).collect())
    }

    fn subjects(&self, namespace: &str) -> Vec<Arc<str>> {
        if namespace == "ns" { ["c", "a", "b"].map(Into::into).to_vec() } else { Vec::new() }
    }
}

fn ask(namespace: Option<&str>, metric: &str, selector: &str, sums: bool) -> Result<Answer, ApiError> {
    let selector = selector.parse().unwrap();
    let query = SeriesQuery { namespace, metric, of: Of::Any, selector: &selector };
    answer(&Question { query, group: "external.metrics.k8s.io", sums }, &Provider)
}

fn items(answer: &Answer) -> Vec<String> {
    answer.present.iter().map(|(series, sample)| format!("{}={}", series.subject, sample.milli)).collect()
}

#[test]
fn a_name_means_one_series() {
    let selector = Selector::default();
    let one_of = |metric, name| {
        let query = SeriesQuery { namespace: Some("ns"), metric, of: Of::Subject(name), selector: &selector };
        one(&Question { query, group: "external.metrics.k8s.io", sums: false }, &Provider)
    };
    assert_eq!(one_of(METRIC, "a").unwrap().1.milli, 21_000);
    assert!(one_of(METRIC, "aa").unwrap_err().to_string().contains(r#"as "aa"; known there: "a""#));
    assert!(one_of(LEVEL, "a").unwrap_err().to_string().contains(r#"signal ("kv_cache", "queue_depth")"#));
}

#[test]
fn an_hpa_is_never_given_values_it_would_add_up() {
    for selector in ["", "variant_name in (a,c)", "variant_name in (a,b)"] {
        let error = ask(Some("ns"), METRIC, selector, true).unwrap_err();
        let ApiError::BadRequest(message) = error else { panic!("{error:?}") };
        assert!(message.contains("\"a\"") && message.contains("select one by label variant_name"), "{message}");
    }
    let ApiError::BadRequest(message) = ask(Some("ns"), LEVEL, "variant_name=a", true).unwrap_err() else { panic!() };
    assert!(message.contains(r#"signal ("kv_cache", "queue_depth")"#), "{message}");
    assert_eq!(items(&ask(Some("ns"), LEVEL, "signal=kv_cache", true).unwrap()), ["a=800"]);
}

#[test]
fn a_person_gets_the_list_in_order_and_is_told_what_is_wrong_with_it() {
    let answer = ask(Some("ns"), METRIC, "", false).unwrap();
    assert_eq!(items(&answer), ["a=21000", "c=2500"]);
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
