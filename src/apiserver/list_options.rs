//! Query parameters of a read (`metav1.ListOptions`). All of them are checked, as the reference server does; only those
//! that can change an answer out of memory are kept.

use std::{borrow::Cow, string::FromUtf8Error};

use http::Uri;

use super::{selector::Selector, status::ApiError, table::IncludeObject};

/// Fields a field selector may name; every item would match, so the selector is checked and not applied.
const SELECTABLE_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// What a read asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListOptions {
    pub(super) selector: Selector,
    /// Of custom metrics, where [`Self::selector`] is about the objects.
    pub(super) metric_selector: Selector,
    /// What a table says of the objects behind its rows.
    pub(super) include_object: IncludeObject,
    pub(super) watch: bool,
    /// Whether the answer is for a person's eyes; `None` if the client does not say.
    pub(super) pretty: Option<bool>,
}

impl ListOptions {
    /// Reads the query of `uri`.
    ///
    /// # Errors
    /// When a parameter has a value it cannot have.
    pub(super) fn from_uri(uri: &Uri) -> Result<Self, ApiError> {
        let parameters = Parameters::of(uri);
        for integer in [&parameters.limit, &parameters.timeout_seconds].into_iter().flatten() {
            is_integer(integer)?;
        }
        parameters.timeout.as_deref().map_or(Ok(()), is_duration)?;
        parameters.field_selector.as_deref().map_or(Ok(()), is_field_selector)?;
        let given = |value: &Option<Cow<'_, str>>| value.as_ref().is_some_and(|value| !value.is_empty());
        if given(&parameters.resource_version_match) && !given(&parameters.resource_version) {
            return Err(ApiError::Invalid {
                field: "resourceVersionMatch",
                message: "resourceVersionMatch is forbidden unless resourceVersion is provided".to_owned(),
            });
        }
        let selector = |text: &Option<Cow<'_, str>>| match text {
            Some(text) => text.parse::<Selector>().map_err(|error| ApiError::BadRequest(error.to_string())),
            None => Ok(Selector::default()),
        };
        Ok(Self {
            selector: selector(&parameters.label_selector)?,
            metric_selector: selector(&parameters.metric_label_selector)?,
            include_object: IncludeObject::from_parameter(parameters.include_object.as_deref())?,
            watch: parameters.watch.as_deref().is_some_and(is_true),
            pretty: parameters.pretty.as_deref().map(is_true),
        })
    }
}

/// Whether the query of `uri` asks to watch; authorisation needs to know before the rest is looked at.
pub(super) fn asks_to_watch(uri: &Uri) -> bool {
    // Most queries name no such parameter in any form: no need to take them apart a second time.
    let may_be_it = |pair: &str| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        name == "watch" || name.contains('%')
    };
    let may_ask = uri.query().is_some_and(|query| query.split('&').any(may_be_it));
    may_ask && Parameters::of(uri).watch.as_deref().is_some_and(is_true)
}

/// Whether the query of `uri` has the parameter `name`.
pub(super) fn has_parameter(uri: &Uri, name: &str) -> bool {
    pairs(uri).any(|(key, _)| key == name)
}

/// The values of the parameter `name`, each time it is there.
pub(super) fn values_of(uri: &Uri, name: &str) -> Vec<String> {
    pairs(uri).filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

/// Names and values of the query, as `form_urlencoded` has them; what is not encoded, as most is, is not copied.
fn pairs(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// By hand, because [`percent_decode_str`](percent_encoding::percent_decode_str) takes several times as long, and each read of
/// an HPA comes here.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match first {
            b'+' => (b' ', behind),
            b'%' => escaped(behind).unwrap_or((b'%', behind)),
            other => (*other, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    let lossy = |error: FromUtf8Error| String::from_utf8_lossy(error.as_bytes()).into_owned();
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(lossy))
}

/// The byte of two hexadecimal digits, and what is behind them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*text.first()?)?, digit(*text.get(1)?)?);
    Some((u8::try_from(high * 16 + low).ok()?, text.get(2..)?))
}

/// The parameters that are looked at; of each the first value, as Go takes it.
#[derive(Default)]
struct Parameters<'a> {
    label_selector: Option<Cow<'a, str>>,
    metric_label_selector: Option<Cow<'a, str>>,
    field_selector: Option<Cow<'a, str>>,
    include_object: Option<Cow<'a, str>>,
    limit: Option<Cow<'a, str>>,
    pretty: Option<Cow<'a, str>>,
    resource_version: Option<Cow<'a, str>>,
    resource_version_match: Option<Cow<'a, str>>,
    timeout: Option<Cow<'a, str>>,
    timeout_seconds: Option<Cow<'a, str>>,
    watch: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    fn of(uri: &'a Uri) -> Self {
        let mut parameters = Self::default();
        for (name, value) in pairs(uri) {
            let place = match name.as_ref() {
                "labelSelector" => &mut parameters.label_selector,
                "metricLabelSelector" => &mut parameters.metric_label_selector,
                "fieldSelector" => &mut parameters.field_selector,
                "includeObject" => &mut parameters.include_object,
                "limit" => &mut parameters.limit,
                "pretty" => &mut parameters.pretty,
                "resourceVersion" => &mut parameters.resource_version,
                "resourceVersionMatch" => &mut parameters.resource_version_match,
                "timeout" => &mut parameters.timeout,
                "timeoutSeconds" => &mut parameters.timeout_seconds,
                "watch" => &mut parameters.watch,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        parameters
    }
}

/// Anything but `0` and `false` is true, as in `k8s.io/apimachinery`.
fn is_true(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

fn is_integer(value: &str) -> Result<(), ApiError> {
    let unreadable = |_| ApiError::BadRequest(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"));
    value.parse::<i64>().map(drop).map_err(unreadable)
}

/// Go's duration syntax: decimal numbers with units. The value itself does not matter: answers come at once.
fn is_duration(value: &str) -> Result<(), ApiError> {
    const UNITS: [&str; 7] = ["ns", "us", "µs", "ms", "s", "m", "h"];
    let mut rest = value;
    while !rest.is_empty() && rest != "0" {
        let unit_from = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(unit_from);
        let unit_to = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_to);
        if number.parse::<f64>().is_err() || !UNITS.contains(&unit) {
            return Err(ApiError::BadRequest(format!(
                "invalid timeout specified in the request URL - time: invalid duration {value:?}"
            )));
        }
        rest = tail;
    }
    Ok(())
}

fn is_field_selector(text: &str) -> Result<(), ApiError> {
    for term in text.split(',').filter(|term| !term.is_empty()) {
        let Some(field) =
            ["!=", "==", "="].iter().find_map(|operator| term.split_once(operator)).map(|(field, _)| field)
        else {
            return Err(ApiError::BadRequest(format!("invalid selector: '{text}'; can't understand '{term}'")));
        };
        if !SELECTABLE_FIELDS.contains(&field) {
            let known = SELECTABLE_FIELDS.map(|field| format!("{field:?}")).join(", ");
            return Err(ApiError::BadRequest(format!("{field:?} is not a known field selector: only {known}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    proptest! {
        #[test]
        fn queries_are_decoded_as_forms(query in "([a-c=&+%äΩ]|%[0-9a-fA-F]{2}){0,24}") {
            let uri: Uri = format!("/x?{}", query.replace(['ä', 'Ω'], "%ce%a9")).parse().unwrap();
            let expected: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect();
            prop_assert_eq!(pairs(&uri).collect::<Vec<_>>(), expected);
        }
    }

    fn options(query: &str) -> Result<ListOptions, ApiError> {
        ListOptions::from_uri(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn what_clients_send_is_read() {
        assert_eq!(options("").unwrap(), ListOptions::default());
        assert_eq!(options("limit=500&continue=&resourceVersion=0&dryRun=All").unwrap(), ListOptions::default());
        assert_eq!(options("fieldSelector=metadata.name%3Da,metadata.namespace!=b").unwrap(), ListOptions::default());
        assert_eq!(options("timeout=32s&timeoutSeconds=5").unwrap(), ListOptions::default());
        let selector: Selector = "a=b,x in (b,c)".parse().unwrap();
        assert_eq!(options("labelSelector=a%3Db%2Cx+in+%28b%2Cc%29").unwrap().selector, selector);
        assert_eq!(options("labelSelector=a%3Db%2Cx%20in%20(b,c)").unwrap().selector, selector);
        assert!(options("watch=1").unwrap().watch && options("watch=true").unwrap().watch);
        for (query, asked) in [("a=b&watch=1", true), ("w%61tch=1", true), ("a=watch&b=%77", false), ("", false)] {
            assert_eq!(asks_to_watch(&format!("/x?{query}").parse().unwrap()), asked, "{query}");
        }
        assert!(!options("watch=false").unwrap().watch && !options("watch=0").unwrap().watch);
        assert_eq!(options("pretty=true").unwrap().pretty, Some(true));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (query, message) in [
            ("limit=many", r#"strconv.ParseInt: parsing "many": invalid syntax"#),
            ("timeoutSeconds=1.5", r#"strconv.ParseInt: parsing "1.5": invalid syntax"#),
            ("timeout=abc", r#"invalid timeout specified in the request URL - time: invalid duration "abc""#),
            ("timeout=5", r#"invalid timeout specified in the request URL - time: invalid duration "5""#),
            (
                "fieldSelector=spec.x%3Dy",
                r#""spec.x" is not a known field selector: only "metadata.name", "metadata.namespace""#,
            ),
            ("fieldSelector=spec", "invalid selector: 'spec'; can't understand 'spec'"),
            ("labelSelector=a+b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ] {
            assert_eq!(options(query), Err(ApiError::BadRequest(message.to_owned())), "{query}");
        }
        let contradiction = options("resourceVersionMatch=Exact").unwrap_err();
        assert!(matches!(contradiction, ApiError::Invalid { field: "resourceVersionMatch", .. }));
    }
}
