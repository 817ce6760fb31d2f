//! The same requests to the adapter library that every peer uses (its own `test-adapter`) and to ours, on the same values:
//! status, reason and body agree, but for the improvements that the table names.

mod requests;

use std::sync::Arc;

use serde_json::{Value, json};
use wva::apiserver::{Labels, MetricsProvider, Of, Sample, Series, SeriesQuery, UnknownMetric};

use self::requests::{Asked, REQUESTS};
use crate::harness::{Bed, Served, Wva, report, start_reference};

/// The values of the test-adapter's fake provider.
struct SameValues;

impl MetricsProvider for SameValues {
    fn metric_names(&self) -> &'static [&'static str] {
        &["my-external-metric", "other-external-metric"]
    }

    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        let values: &[(Option<&str>, u64)] = match query.metric {
            "my-external-metric" => &[(Some("bar"), 42), (Some("baz"), 43)],
            "other-external-metric" => &[(None, 44)],
            _ => return Err(UnknownMetric),
        };
        let series = values.iter().map(|(label, value)| Series {
            namespace: query.namespace.unwrap_or("default").into(),
            subject: label.unwrap_or("none").into(),
            object: None,
            labels: label.map(|value| ("foo", value)).into_iter().collect::<Labels>(),
            value: Ok(Sample { milli: value * 1000, timestamp: jiff::Timestamp::now(), window: None }),
        });
        let meant = |series: &Series| match query.of {
            Of::Any => true,
            Of::Subject(name) => name == &*series.subject,
            Of::Object { .. } => false,
        };
        Ok(series.filter(|one| meant(one) && query.selector.matches(&one.labels)).collect())
    }

    fn subjects(&self, _: &str) -> Vec<Arc<str>> {
        ["bar", "baz"].map(Into::into).to_vec()
    }
}

/// What came back, without what must differ: times, ids, and what items have beyond the reference's.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    status: u16,
    content_type: String,
    body: Value,
}

async fn ask(http: &reqwest::Client, port: u16, request: &Asked) -> Answer {
    let method = reqwest::Method::from_bytes(request.method.as_bytes()).unwrap();
    let mut sent = http
        .request(method, format!("https://localhost:{port}{}", request.path))
        .header("X-Remote-User", "alice")
        .header("X-Remote-Group", "system:masters");
    if let Some(accept) = request.accept {
        sent = sent.header("Accept", accept);
    }
    let response = sent.send().await.unwrap_or_else(|error| panic!("{request:?}: {error}"));
    let status = response.status().as_u16();
    let header = response.headers().get("content-type");
    let content_type = header.map_or("", |value| value.to_str().unwrap()).to_owned();
    let bytes = response.bytes().await.unwrap();
    Answer { status, body: body(&content_type, &bytes), content_type }
}

fn body(content_type: &str, bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    let document = if content_type.starts_with("application/json") {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    } else if content_type == "application/yaml" {
        serde_saphyr::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    } else if content_type.contains("protobuf") {
        // Both begin with the magic bytes; what is within is decoded by client-go in another test.
        json!({ "magic": bytes.starts_with(b"k8s\0") })
    } else {
        json!({ "text": text })
    };
    comparable(document)
}

fn comparable(mut document: Value) -> Value {
    for item in document["items"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for beyond in ["timestamp", "kind", "apiVersion", "metadata"] {
            item.remove(beyond);
        }
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_agree_with_the_adapter_library_but_for_the_improvements_that_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (_reference, reference_port) = start_reference(folder.path()).await;
    let served = Served::start(Arc::new(SameValues)).await;
    let http = Wva::http(Some(&Bed::get().front_proxy));
    let (mut agreed, mut improved, mut wrong) = (0, 0, Vec::new());
    for request in REQUESTS {
        let theirs = ask(&http, reference_port, request).await;
        let ours = ask(&http, served.port, request).await;
        match request.improvement {
            None if ours == theirs => agreed += 1,
            None => wrong.push(format!("{request:?}\n  theirs {theirs:?}\n  ours   {ours:?}")),
            Some((status, _)) if ours.status != status => wrong.push(format!("{request:?}\n  ours {ours:?}")),
            Some(_) if ours != theirs => improved += 1,
            Some(_) => wrong.push(format!("{request:?}\n  no longer differs: {ours:?}")),
        }
    }
    report("differential", &format!("{} requests: {agreed} agree, {improved} are listed improvements", REQUESTS.len()));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(REQUESTS.len() >= 60);
}
