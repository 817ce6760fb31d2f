//! The query API's answers, reduced to the labels we group by.

use std::borrow::Cow;

use serde::Deserialize;

/// One series of an instant query: who it is about and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Labels that identify the engine instance.
    pub labels: SeriesLabels,
    /// Its value; may be NaN or infinite.
    pub value: f64,
}

/// Labels of a series. `None`: the label is absent; an empty value means the same to Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the labels of Prometheus and vLLM by their own names")]
pub struct SeriesLabels {
    pub namespace: Option<Box<str>>,
    pub pod: Option<Box<str>>,
    pub exported_namespace: Option<Box<str>>,
    pub exported_pod: Option<Box<str>>,
    pub model_name: Option<Box<str>>,
    pub engine: Option<Box<str>>,
    pub instance: Option<Box<str>>,
    pub block_size: Option<Box<str>>,
    pub num_gpu_blocks: Option<Box<str>>,
    pub dp_rank: Option<Box<str>>,
    pub target_model_name: Option<Box<str>>,
    pub finished_reason: Option<Box<str>>,
    pub finish_reason: Option<Box<str>>,
    pub le: Option<Box<str>>,
    /// Ours: which part of a joined query the series is of.
    pub quantity: Option<Box<str>>,
}

/// What the API says of a failed query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    /// Its type, such as `bad_data`.
    pub(super) kind: String,
    /// Its message.
    pub(super) message: String,
}

/// Reads the answer to an instant query: the outer error says that `body` is no such answer, the inner one is the API's.
pub(super) fn parse(body: &[u8]) -> Result<Result<Vec<Series>, ApiError>, serde_json::Error> {
    let answer = serde_json::from_slice::<Answer<'_>>(body)?;
    match (answer.error_type, answer.data) {
        (Some(kind), _) => {
            Ok(Err(ApiError { kind: kind.into_owned(), message: answer.error.unwrap_or_default().into_owned() }))
        }
        (None, Some(data)) => Ok(Ok(data.result.into_iter().map(Series::from).collect())),
        (None, None) => Err(serde::de::Error::custom("neither data nor an error")),
    }
}

/// One shape for both outcomes: serde's tagged enums would buffer the whole body.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default, rename = "errorType")]
    error_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    result: Vec<RawSeries<'a>>,
}

#[derive(Deserialize)]
struct RawSeries<'a> {
    metric: SeriesLabels,
    #[serde(borrow)]
    value: (f64, &'a str),
}

impl From<RawSeries<'_>> for Series {
    fn from(raw: RawSeries<'_>) -> Self {
        // Prometheus writes `NaN`, `+Inf` and `-Inf`, which Rust reads; whatever else it may write is not a number.
        Self { labels: raw.metric, value: raw.value.1.parse().unwrap_or(f64::NAN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_with_what_is_not_a_number_kept_as_such() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"pod":"a","engine":"0","unknown":"x"},"value":[1.5,"0.25"]},
            {"metric":{},"value":[1.5,"NaN"]},
            {"metric":{},"value":[1.5,"+Inf"]}]},"warnings":["partial"]}"#;
        let series = parse(body).unwrap().unwrap();
        assert_eq!(
            series[0].labels,
            SeriesLabels { pod: Some("a".into()), engine: Some("0".into()), ..SeriesLabels::default() }
        );
        assert_eq!(series[0].value, 0.25);
        assert!(series[1].value.is_nan());
        assert_eq!(series[2].value, f64::INFINITY);
    }

    #[test]
    fn an_error_of_the_api_keeps_its_type_and_message() {
        let body = br#"{"status":"error","errorType":"bad_data","error":"1:2: parse error: \"x\""}"#;
        let error = parse(body).unwrap().unwrap_err();
        assert_eq!(error, ApiError { kind: "bad_data".into(), message: "1:2: parse error: \"x\"".into() });
    }

    #[test]
    fn what_is_no_instant_vector_is_not_taken_for_an_empty_one() {
        for body in [
            &b"<html>"[..],
            b"{",
            b"null",
            br#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#,
            br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}"#,
            br#"{"status":"success"}"#,
            br#"{"unrelated":1}"#,
        ] {
            assert!(parse(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
