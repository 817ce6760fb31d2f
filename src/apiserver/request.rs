//! What a request is about, from its method and path: the same reading for authorisation and for the answer, so that
//! nobody is authorised for one thing and served another.

use std::{borrow::Cow, iter};

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use super::{list_options::asks_to_watch, status::ApiError};
use crate::auth::{Attributes, ResourceAttributes};

/// Segments of the deepest path that names something: `apis`, group, version, `namespaces`, namespace, resource, name and
/// subresource.
const DEEPEST: usize = 8;

/// The attributes of a request, by the rules of `k8s.io/apiserver`: `/apis/<group>/<version>/…` with anything behind it
/// is about a resource, everything else about a path.
///
/// # Errors
/// When the path cannot be read in one way only.
pub(super) fn attributes(method: &Method, uri: &Uri) -> Result<Attributes, ApiError> {
    let path = uri.path();
    let is_plain = is_plain(path);
    let mut decoded = [const { Cow::Borrowed("") }; DEEPEST + 1];
    let mut depth = 0;
    for raw in segments(path) {
        let segment = if is_plain && !raw.starts_with('.') { Cow::Borrowed(raw) } else { segment(raw)? };
        if let Some(place) = decoded.get_mut(depth) {
            *place = segment;
            depth += 1;
        }
    }
    let names: [&str; DEEPEST + 1] = decoded.each_ref().map(AsRef::as_ref);
    match names.get(..depth).unwrap_or_default() {
        ["apis", group, version, rest @ ..] if !rest.is_empty() => {
            Ok(Attributes::Resource(resource(method, uri, group, version, rest)))
        }
        _ => {
            let verb = method.as_str().to_ascii_lowercase();
            Ok(Attributes::NonResource { path: path.to_owned(), verb: Cow::Owned(verb) })
        }
    }
}

/// What is between the slashes of `path`, but for nothing. (`str::split` takes several times as long for such short parts.)
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    let next = move || {
        let (part, behind) = match rest?.bytes().position(|byte| byte == b'/') {
            Some(slash) => rest?.split_at_checked(slash)?,
            None => (rest?, ""),
        };
        rest = behind.get(1..);
        Some(part)
    };
    iter::from_fn(next).filter(|part| !part.is_empty())
}

/// Whether nothing in `path` needs to be decoded or could be odd, as in most.
fn is_plain(path: &str) -> bool {
    let is_plain = |byte: u8| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = byte.wrapping_sub(b'0') < 10;
        is_letter || is_digit || byte == b'/' || byte == b'-' || byte == b'_' || byte == b'.'
    };
    // To the end in any case, so that it is done for many bytes at a time.
    path.bytes().fold(true, |all, byte| all & is_plain(byte))
}

/// Decodes one segment; one that would read differently once decoded again or joined is refused.
fn segment(raw: &str) -> Result<Cow<'_, str>, ApiError> {
    let refused = || ApiError::BadRequest(format!("path segment {raw:?} cannot be a name"));
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| refused())?;
    let odd = decoded.contains(['/', '%', '\\']) || decoded.chars().any(char::is_control);
    if odd || decoded == "." || decoded == ".." { Err(refused()) } else { Ok(decoded) }
}

fn resource(method: &Method, uri: &Uri, group: &str, version: &str, rest: &[&str]) -> ResourceAttributes {
    // `namespaces/<name>` alone is about that namespace; with more behind it, it is the place of what follows.
    let (namespace, parts) = match rest {
        ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (Some(*namespace), parts),
        ["namespaces", namespace] => (Some(*namespace), rest),
        _ => (None, rest),
    };
    let part = |index: usize| parts.get(index).map(|part| (*part).to_owned());
    let name = part(1);
    ResourceAttributes {
        verb: verb(method, uri, name.is_some()),
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.map(str::to_owned),
        resource: part(0).unwrap_or_default(),
        subresource: part(2),
        name,
    }
}

fn verb(method: &Method, uri: &Uri, named: bool) -> Cow<'static, str> {
    Cow::Borrowed(match *method {
        Method::GET | Method::HEAD if asks_to_watch(uri) => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, path: &str) -> Result<Attributes, ApiError> {
        attributes(method, &path.parse().unwrap())
    }

    fn about(verb: &'static str, namespace: Option<&str>, resource: &str, name: Option<&str>) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: verb.into(),
            group: "g".to_owned(),
            version: "v".to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: resource.to_owned(),
            subresource: None,
            name: name.map(str::to_owned),
        })
    }

    #[test]
    fn a_request_is_read_as_kubernetes_reads_it() {
        for (method, path, expected) in [
            (Method::GET, "/apis/g/v/namespaces/ns/m", about("list", Some("ns"), "m", None)),
            (Method::GET, "/apis/g/v/namespaces/ns/m/", about("list", Some("ns"), "m", None)),
            (Method::GET, "/apis/g/v/namespaces/ns/m?labelSelector=a", about("list", Some("ns"), "m", None)),
            (Method::GET, "/apis/g/v/namespaces/ns/m?watch=true", about("watch", Some("ns"), "m", None)),
            (Method::GET, "/apis/g/v/namespaces/ns/m/x", about("get", Some("ns"), "m", Some("x"))),
            (Method::GET, "/apis/g/v/namespaces/ns", about("get", Some("ns"), "namespaces", Some("ns"))),
            (Method::GET, "/apis/g/v/m", about("list", None, "m", None)),
            (Method::HEAD, "/apis/g/v/m", about("list", None, "m", None)),
            (Method::POST, "/apis/g/v/m", about("create", None, "m", None)),
            (Method::DELETE, "/apis/g/v/m", about("deletecollection", None, "m", None)),
            (Method::OPTIONS, "/apis/g/v/m", about("", None, "m", None)),
            (Method::GET, "/apis/g/v/namespaces/n%73/m", about("list", Some("ns"), "m", None)),
            (Method::GET, "/apis/g/v/m/x//", about("get", None, "m", Some("x"))),
        ] {
            assert_eq!(of(&method, path).unwrap(), expected, "{method} {path}");
        }
        for path in ["/apis", "/apis/g", "/apis/g/v", "/apis/g/v/", "/metrics", "/", "/livez/ping"] {
            let expected = Attributes::NonResource { path: path.to_owned(), verb: "get".into() };
            assert_eq!(of(&Method::GET, path).unwrap(), expected);
        }
    }

    #[test]
    fn segments_are_what_is_between_slashes() {
        for path in ["", "/", "a", "/a", "a/", "//a//bc/", "/ä/b", "/apis/g/v/namespaces/ns/m/x/y/z"] {
            let expected: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
            assert_eq!(segments(path).collect::<Vec<_>>(), expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_refused() {
        for path in [
            "/apis/g/v/namespaces/a%2Fnamespaces%2Fb/m",
            "/apis/g/v/namespaces/%2e%2e/m",
            "/apis/g/v/./m",
            "/apis/g/v/namespaces/ns/m%2500",
            "/apis/g/v/namespaces/ns/%ff",
            "/apis/g/v/namespaces/ns/a%00",
            "/%2e%2e/metrics",
        ] {
            assert!(matches!(of(&Method::GET, path), Err(ApiError::BadRequest(_))), "{path}");
        }
    }
}
