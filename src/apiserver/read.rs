//! The handler of value reads.

use std::{fmt, sync::Arc};

use axum::response::{IntoResponse as _, Response};
use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{USER_AGENT, WARNING},
    request::Parts,
};

use super::{
    Delegate, MetricsProvider, Sample, Selector, Series,
    accept::{Encoding, JSON, Offer, PLAIN, PROTOBUF, TABLE, YAML, negotiate},
    asked::{ANY_NAME, Asked},
    compression::compressed,
    custom, external,
    group::{Form, GroupVersion, ObjectKind},
    list_options::ListOptions,
    provider::{Of, SeriesQuery},
    request::segments,
    request_metrics::RequestMetrics,
    respond::{document, json, json_bytes, with_type, yaml_bytes},
    status::ApiError,
    table::table,
    values::{Answer, Question, answer, matching, one},
};
use crate::{
    auth::{Identity, ResourceAttributes},
    constants::{LABEL_EXPORTED_NAMESPACE, LABEL_NAMESPACE, LABEL_VARIANT_NAME},
};

/// User agents of people: they get indented JSON, as in `k8s.io/apiserver`.
const PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla"];
/// Variants that are few.
const FEW: usize = 8;
/// What external metrics are offered in.
const EXTERNAL_OFFERS: [Offer; 4] = [JSON, YAML, PROTOBUF, TABLE];

/// What the handler of one group and version needs.
pub(super) struct Reads {
    pub(super) provider: Arc<dyn MetricsProvider>,
    /// Of the group that is shared with other adapters.
    pub(super) delegate: Option<Arc<dyn Delegate>>,
    pub(super) version: &'static GroupVersion,
    pub(super) metrics: RequestMetrics,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Answers what is below `/apis/<group>/<version>/`, in the words of `attributes`, which the request was authorised for.
pub(super) async fn read(
    reads: &Reads,
    identity: &Identity,
    attributes: &ResourceAttributes,
    request: &Parts,
) -> Response {
    let Parts { method, uri, headers, .. } = request;
    if let Some(delegate) = delegate_for(reads, method, attributes, uri) {
        let answer = delegate.forward(uri, headers).await;
        return answer.unwrap_or_else(|refusal| ApiError::Unavailable(refusal.message).into_response());
    }
    let request = Request { reads, identity, uri, headers };
    let response = request.respond(method, attributes).unwrap_or_else(ApiError::into_response);
    // Boxed, because it is large itself and few answers are.
    Box::pin(compressed(response, headers)).await
}

/// Answers a `GET` of one of our metrics ([`Reads::are_own`]), not to watch, as [`read`] does, without waiting for anything.
pub(super) fn read_own(
    reads: &Reads,
    identity: &Identity,
    attributes: &ResourceAttributes,
    (uri, headers): (&Uri, &HeaderMap),
    options: ListOptions,
) -> Response {
    let request = Request { reads, identity, uri, headers };
    let asked = Asked::of(reads.version.form, attributes).ok_or(ApiError::NoSuchPath);
    asked.and_then(|asked| request.answer(asked, options)).unwrap_or_else(ApiError::into_response)
}

impl Reads {
    /// Whether `uri`, which `attributes` are the words of, is that of a metric of ours, which is never read elsewhere.
    pub(super) fn are_own(&self, attributes: &ResourceAttributes, uri: &Uri) -> bool {
        let ResourceAttributes { resource, subresource, .. } = attributes;
        let metric = if self.version.form == Form::External { Some(resource) } else { subresource.as_ref() };
        let is_known = metric.is_some_and(|metric| self.provider.metric_names().contains(&metric.as_str()));
        is_known && asked(self.version.form, attributes, uri).is_ok()
    }
}

/// Whether a read names the variant or object that it is about, as an HPA's does, and not all of a namespace: little work
/// however many there are.
pub(super) fn is_about_few(version: &GroupVersion, attributes: &ResourceAttributes, options: &ListOptions) -> bool {
    let is_named = attributes.name.as_ref().is_some_and(|name| name != ANY_NAME);
    let listed = options.selector.values_listed_for(LABEL_VARIANT_NAME);
    is_named || version.form == Form::External && listed.is_some_and(|names| names.len() <= FEW)
}

/// What `attributes` ask for; anything deeper in `uri` than what was authorised is another path.
fn asked<'a>(form: Form, attributes: &'a ResourceAttributes, uri: &Uri) -> Result<Asked<'a>, ApiError> {
    Asked::of(form, attributes)
        .filter(|_| segments(uri.path()).count() == depth(attributes))
        .ok_or(ApiError::NoSuchPath)
}

/// The other adapter, where the read is for it.
fn delegate_for<'a>(
    reads: &'a Reads,
    method: &Method,
    attributes: &ResourceAttributes,
    uri: &Uri,
) -> Option<&'a dyn Delegate> {
    let delegate = reads.delegate.as_deref()?;
    let ResourceAttributes { verb, resource, namespace: Some(_), name: None, .. } = attributes else { return None };
    if method != Method::GET || verb != "list" || reads.provider.metric_names().contains(&resource.as_str()) {
        return None;
    }
    // What cannot be understood is answered here.
    let options = ListOptions::from_uri(uri).ok()?;
    delegate.claims(resource, &options.selector).then_some(delegate)
}

/// One read, while it is answered.
struct Request<'a> {
    reads: &'a Reads,
    identity: &'a Identity,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

impl Request<'_> {
    fn respond(&self, method: &Method, attributes: &ResourceAttributes) -> Result<Response, ApiError> {
        let asked = asked(self.reads.version.form, attributes, self.uri)?;
        if method != Method::GET {
            return Err(ApiError::MethodNotAllowed);
        }
        let options = ListOptions::from_uri(self.uri)?;
        if options.watch {
            return Err(ApiError::WatchNotSupported { group: attributes.group.clone() });
        }
        self.answer(asked, options)
    }

    fn answer(&self, asked: Asked<'_>, options: ListOptions) -> Result<Response, ApiError> {
        match asked {
            Asked::Series { namespace, metric } => self.series(namespace, metric, Of::Any, options),
            Asked::Variant { namespace, metric, name } => {
                self.series(Some(namespace), metric, Of::Subject(name), options)
            }
            Asked::Explanation { namespace, metric, name } => self.explanation(namespace, metric, name, &options),
            Asked::Objects { namespace, metric, kind, name } => self.objects(namespace, metric, kind, name, &options),
            Asked::OfOthers { resource, name, metric } => {
                Err(custom::no_such_object(self.reads.version, resource, name, metric))
            }
        }
    }

    /// A list of external series or a table of them; with a name, the one value of that variant.
    fn series(
        &self,
        namespace: Option<&str>,
        metric: &str,
        of: Of<'_>,
        options: ListOptions,
    ) -> Result<Response, ApiError> {
        let offer = negotiate(self.headers, &EXTERNAL_OFFERS)?;
        let selector = options.selector.reading(LABEL_EXPORTED_NAMESPACE, LABEL_NAMESPACE);
        let question = self.question(SeriesQuery { namespace, metric, of, selector: &selector });
        let provider = &*self.reads.provider;
        let pretty = self.pretty(options.pretty);
        if offer.encoding == Encoding::Table {
            let series = matching(&question, provider)?;
            let table = table(provider, metric, &series, options.include_object);
            return json_bytes(&table, pretty).map(|body| with_type(offer.content_type, body));
        }
        let version = self.reads.version;
        if of != Of::Any {
            let (series, sample) = one(&question, provider)?;
            self.reads.metrics.serve(version.group, &[(series.clone(), sample)]);
            return document(&external::item(version, metric, &series, sample), offer, pretty);
        }
        let Answer { present, warnings } = answer(&question, provider)?;
        self.served(&present);
        with_warnings(document(&external::list(version, metric, &present), offer, pretty)?, &warnings)
    }

    fn objects(
        &self,
        namespace: Option<&str>,
        metric: &str,
        kind: &ObjectKind,
        name: Option<&str>,
        options: &ListOptions,
    ) -> Result<Response, ApiError> {
        let offer = negotiate(self.headers, &PLAIN)?;
        if !options.selector.is_empty() {
            return Err(ApiError::BadRequest(format!(
                "labelSelector selects objects by labels of their own, which are not known here: name the {}, or select \
                 series by metricLabelSelector",
                kind.kind
            )));
        }
        let of = Of::Object { group: kind.group, kind: kind.kind, name };
        let selector = options.metric_selector.clone().reading(LABEL_EXPORTED_NAMESPACE, LABEL_NAMESPACE);
        let question = self.question(SeriesQuery { namespace, metric, of, selector: &selector });
        let Answer { present, warnings } = answer(&question, &*self.reads.provider)?;
        self.served(&present);
        let (version, pretty) = (self.reads.version, self.pretty(options.pretty));
        let asked: &Selector = &options.metric_selector;
        let response = match version.form {
            Form::CustomV1Beta1 => document(&custom::list_v1beta1(version, metric, asked, &present), offer, pretty),
            _ => document(&custom::list_v1beta2(version, metric, asked, &present), offer, pretty),
        };
        with_warnings(response?, &warnings)
    }

    fn explanation(
        &self,
        namespace: &str,
        metric: &str,
        name: &str,
        options: &ListOptions,
    ) -> Result<Response, ApiError> {
        let offer = negotiate(self.headers, &[JSON, YAML])?;
        let explanation = external::explanation(self.reads.version, &*self.reads.provider, namespace, name, metric)?;
        if offer.encoding == Encoding::Yaml {
            return yaml_bytes(&explanation).map(|body| with_type(offer.content_type, body));
        }
        Ok(json(&explanation, self.pretty(options.pretty)))
    }

    fn question<'q>(&self, query: SeriesQuery<'q>) -> Question<'q> {
        Question { query, group: self.reads.version.group.name(), sums: self.identity.is_hpa_controller() }
    }

    fn served(&self, series: &[(Series, Sample)]) {
        self.reads.metrics.serve(self.reads.version.group, series);
    }

    fn pretty(&self, asked: Option<bool>) -> bool {
        asked.unwrap_or_else(|| is_person(self.headers))
    }
}

/// Segments of the path that `attributes` speak of: `apis`, group, version, and what is given behind.
fn depth(attributes: &ResourceAttributes) -> usize {
    let ResourceAttributes { namespace, name, subresource, .. } = attributes;
    let given = |part: &Option<String>| usize::from(part.is_some());
    3 + 2 * given(namespace) + 1 + given(name) + given(subresource)
}

fn with_warnings(mut response: Response, warnings: &[String]) -> Result<Response, ApiError> {
    for warning in warnings {
        response.headers_mut().append(WARNING, warning_header(warning)?);
    }
    Ok(response)
}

fn is_person(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    PEOPLE.iter().any(|person| agent.starts_with(person.as_bytes()))
}

/// `299` is a warning that persists; `-` an agent that does not name itself.
fn warning_header(text: &str) -> Result<HeaderValue, ApiError> {
    let quoted: String = text
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec![' '],
            c => vec![c],
        })
        .collect();
    HeaderValue::try_from(format!("299 - \"{quoted}\"")).map_err(|error| ApiError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_quoted_string() {
        let header = warning_header("variant \"a\\b\":\nold – stale").unwrap();
        assert_eq!(header.as_bytes(), "299 - \"variant \\\"a\\\\b\\\": old – stale\"".as_bytes());
    }
}
