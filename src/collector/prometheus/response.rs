//! The query API's answers, reduced to the labels we group by.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// One series of an instant query: who it is about and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Labels that identify the engine instance.
    pub labels: SeriesLabels,
    /// Its value; may be NaN or infinite.
    pub value: f64,
}

/// Labels of a series. `None`: the label is absent; an empty value means the same to Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the labels of Prometheus and of engines by their own names")]
pub struct SeriesLabels {
    pub namespace: Option<Box<str>>,
    pub pod: Option<Box<str>>,
    pub exported_namespace: Option<Box<str>>,
    pub exported_pod: Option<Box<str>>,
    pub model_name: Option<Box<str>>,
    pub engine: Option<Box<str>>,
    pub instance: Option<Box<str>>,
    pub dp_rank: Option<Box<str>>,
    pub target_model_name: Option<Box<str>>,
    pub finished_reason: Option<Box<str>>,
    pub finish_reason: Option<Box<str>>,
    pub le: Option<Box<str>>,
    /// Ours: which part of a joined query the series is of.
    pub quantity: Option<Box<str>>,
    /// Labels that few series have.
    pub info: Option<Box<InfoLabels>>,
}

/// Labels of info metrics, which hold what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the labels of engines by their own names")]
pub struct InfoLabels {
    pub block_size: Option<Box<str>>,
    pub num_gpu_blocks: Option<Box<str>>,
    pub num_pages: Option<Box<str>>,
    pub page_size: Option<Box<str>>,
    pub running_lora_adapters: Option<Box<str>>,
    pub waiting_lora_adapters: Option<Box<str>>,
    pub max_lora: Option<Box<str>>,
}

impl SeriesLabels {
    /// The label of an info metric.
    pub(super) fn info(&self, name: &str) -> Option<&str> {
        let info = self.info.as_deref()?;
        let label = match name {
            "block_size" => &info.block_size,
            "num_gpu_blocks" => &info.num_gpu_blocks,
            "num_pages" => &info.num_pages,
            "page_size" => &info.page_size,
            "running_lora_adapters" => &info.running_lora_adapters,
            "waiting_lora_adapters" => &info.waiting_lora_adapters,
            "max_lora" => &info.max_lora,
            _ => return None,
        };
        label.as_deref().filter(|value| !value.is_empty())
    }

    /// Where the label `name` is kept; `None` for one we do not look at.
    fn slot(&mut self, name: &str) -> Option<&mut Option<Box<str>>> {
        Some(match name {
            "namespace" => &mut self.namespace,
            "pod" => &mut self.pod,
            "exported_namespace" => &mut self.exported_namespace,
            "exported_pod" => &mut self.exported_pod,
            "model_name" => &mut self.model_name,
            "engine" => &mut self.engine,
            "instance" => &mut self.instance,
            "dp_rank" => &mut self.dp_rank,
            "target_model_name" => &mut self.target_model_name,
            "finished_reason" => &mut self.finished_reason,
            "finish_reason" => &mut self.finish_reason,
            "le" => &mut self.le,
            "quantity" => &mut self.quantity,
            "block_size" => &mut self.info.get_or_insert_default().block_size,
            "num_gpu_blocks" => &mut self.info.get_or_insert_default().num_gpu_blocks,
            "num_pages" => &mut self.info.get_or_insert_default().num_pages,
            "page_size" => &mut self.info.get_or_insert_default().page_size,
            "running_lora_adapters" => &mut self.info.get_or_insert_default().running_lora_adapters,
            "waiting_lora_adapters" => &mut self.info.get_or_insert_default().waiting_lora_adapters,
            "max_lora" => &mut self.info.get_or_insert_default().max_lora,
            _ => return None,
        })
    }
}

/// By hand, because serde flattens the labels of info metrics only by way of a copy of all.
impl<'de> Deserialize<'de> for SeriesLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Labels;

        impl<'de> Visitor<'de> for Labels {
            type Value = SeriesLabels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the labels of a series")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SeriesLabels, A::Error> {
                let mut labels = SeriesLabels::default();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    match labels.slot(&name) {
                        Some(slot) => *slot = Some(map.next_value()?),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(labels)
            }
        }

        deserializer.deserialize_map(Labels)
    }
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The result of an instant query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) series: Vec<Series>,
    /// When it was evaluated, in seconds since 1970 by the server's clock; `None` for an empty result.
    pub(super) evaluated_at: Option<f64>,
    /// What the server warns of, such as a store that did not answer it: the result may not be whole.
    pub(super) warning: Option<String>,
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
pub(super) fn parse(body: &[u8]) -> Result<Result<Answer, ApiError>, serde_json::Error> {
    let answer = serde_json::from_slice::<RawAnswer<'_>>(body)?;
    match (answer.error_type, answer.data) {
        (Some(kind), _) => {
            Ok(Err(ApiError { kind: kind.into_owned(), message: answer.error.unwrap_or_default().into_owned() }))
        }
        (None, Some(data)) => Ok(Ok(Answer {
            warning: answer.warnings.into_iter().find(|warning| tells_of_a_gap(warning)).map(Cow::into_owned),
            evaluated_at: data.result.first().map(|raw| raw.value.0),
            series: data.result.into_iter().map(Series::from).collect(),
        })),
        (None, None) => Err(serde::de::Error::custom("neither data nor an error")),
    }
}

/// Whether a warning says that something is left out. Remarks on a query itself come in the same list, the harmless ones too
/// before Prometheus 2.54.
fn tells_of_a_gap(warning: &str) -> bool {
    !warning.starts_with("PromQL ")
}

/// One shape for both outcomes: serde's tagged enums would buffer the whole body.
#[derive(Deserialize)]
struct RawAnswer<'a> {
    #[serde(borrow, default, rename = "errorType")]
    error_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    warnings: Vec<Cow<'a, str>>,
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
        let answer = parse(body).unwrap().unwrap();
        assert_eq!((answer.evaluated_at, answer.warning.as_deref()), (Some(1.5), Some("partial")));
        let series = answer.series;
        assert_eq!(
            series[0].labels,
            SeriesLabels { pod: Some("a".into()), engine: Some("0".into()), ..SeriesLabels::default() }
        );
        assert_eq!(series[0].value, 0.25);
        assert!(series[1].value.is_nan());
        assert_eq!(series[2].value, f64::INFINITY);
    }

    #[test]
    fn remarks_on_a_query_leave_its_answer_whole() {
        let body = |warnings: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[]}},"warnings":{warnings}}}"#)
        };
        let info = "PromQL info: metric might not be a counter, name does not end in _total";
        for (warnings, told) in
            [(format!("[{info:?}]"), None), (format!("[{info:?},\"store b: timeout\"]"), Some("store b: timeout"))]
        {
            let answer = parse(body(&warnings).as_bytes()).unwrap().unwrap();
            assert_eq!(answer.warning.as_deref(), told, "{warnings}");
        }
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
