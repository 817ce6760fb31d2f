//! An `Event` of `audit.k8s.io/v1`: what is written down at one stage of a request.

use std::{net::IpAddr, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{HeaderName, USER_AGENT},
};
use jiff::Timestamp;
use serde::Serialize;

use super::policy::{Level, Stage};
use crate::{
    apiserver::wire::{NoMetadata, Status, StatusDetails},
    auth::{Attributes, Identity, ResourceAttributes},
    serving::Peer,
};

/// Longest name of a client that is written whole, as in `k8s.io/apiserver`.
const LONGEST_USER_AGENT: usize = 1024;
/// Likewise of a request URI.
const LONGEST_URI: usize = 4096;
/// Proxies that are named of those that a client says the request came through.
const MOST_PROXIES: usize = 16;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What all events of one request say.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) level: Level,
    pub(super) id: HeaderValue,
    pub(super) uri: String,
    pub(super) identity: Arc<Identity>,
    pub(super) attributes: Arc<Attributes>,
    pub(super) source_ips: Vec<IpAddr>,
    pub(super) user_agent: String,
    pub(super) received: Timestamp,
}

/// What is said at one stage.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) subject: Arc<Subject>,
    pub(super) stage: Stage,
    pub(super) at: Timestamp,
    pub(super) outcome: Option<Outcome>,
    pub(super) decision: Option<Decision>,
}

/// How a request was answered.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// With this code.
    Code(u16),
    /// With this failure.
    Failure(Arc<Status>),
    /// With this code and these words.
    Said { code: u16, status: &'static str, message: String },
}

/// What was found on its rights.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) allowed: bool,
    pub(super) reason: String,
}

impl Subject {
    pub(super) fn verb(&self) -> &str {
        match &*self.attributes {
            Attributes::Resource(of) => &of.verb,
            Attributes::NonResource { verb, .. } => verb,
        }
    }
}

/// The request line's target, as the client sent it.
pub(super) fn request_uri(uri: &Uri) -> String {
    cut(uri.path_and_query().map_or_else(|| uri.path(), |path| path.as_str()), LONGEST_URI)
}

/// `text`, of which events keep so much: many wait, and clients choose it.
fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().find(|(at, _)| *at >= longest) {
        Some((at, _)) => format!("{}...TRUNCATED", &text[..at]),
        None => text.to_owned(),
    }
}

pub(super) fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    cut(&agent, LONGEST_USER_AGENT)
}

/// Where a request came from and through which proxies; all but the last is what somebody says.
pub(super) fn source_ips(peer: Option<&Peer>, headers: &HeaderMap) -> Vec<IpAddr> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let forwarded = headers.get(FORWARDED_FOR).map(text).unwrap_or_default();
    let forwarded = forwarded.split(',').filter_map(|ip| ip.trim().parse().ok());
    let mut ips: Vec<IpAddr> = forwarded.take(MOST_PROXIES).collect();
    let real: Option<IpAddr> = headers.get(REAL_IP).and_then(|value| text(value).trim().parse().ok());
    ips.extend(real.filter(|ip| !ips.contains(ip)));
    let remote = peer.map(|peer| peer.address.ip().to_canonical());
    if ips.last().copied() != remote {
        ips.extend(remote);
    }
    ips
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: User<'a>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[_]>::is_empty")]
    source_ips: &'a [IpAddr],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectReference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<ResponseStatus<'a>>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations<'a>>,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    extra: &'a std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference<'a> {
    resource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    api_group: &'a str,
    api_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subresource: Option<&'a str>,
}

#[derive(Serialize)]
struct ResponseStatus<'a> {
    metadata: NoMetadata,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a StatusDetails>,
    code: u16,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "authorization.k8s.io/decision")]
    decision: &'static str,
    #[serde(rename = "authorization.k8s.io/reason")]
    reason: &'a str,
}

impl Event {
    /// As one line of JSON, with its end.
    pub(super) fn write_json(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *line, &self.wire())?;
        line.push(b'\n');
        Ok(())
    }

    /// As one line of short text, with its end.
    pub(super) fn write_legacy(&self, line: &mut Vec<u8>) {
        let Subject { id, uri, identity, source_ips, user_agent, received, .. } = &*self.subject;
        let given = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
        let groups = identity.groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(",");
        let namespace = match &*self.subject.attributes {
            Attributes::Resource(of) => of.namespace.as_deref().unwrap_or_default(),
            Attributes::NonResource { .. } => "",
        };
        let response = self.outcome.as_ref().map_or("<deferred>".to_owned(), |outcome| outcome.code().to_string());
        let ip = source_ips.first().map_or("<unknown>".to_owned(), ToString::to_string);
        let text = format!(
            "{received} AUDIT: id={:?} stage={:?} ip={ip:?} method={:?} user={:?} groups={:?} as=\"<self>\" \
             asgroups=\"<lookup>\" user-agent={user_agent:?} namespace={:?} uri={uri:?} response={response:?}\n",
            id.to_str().unwrap_or_default(),
            self.stage.name(),
            self.subject.verb(),
            given(&identity.user),
            given(&groups),
            given(namespace),
        );
        line.extend(text.bytes());
    }

    fn wire(&self) -> Wire<'_> {
        let Subject { level, id, uri, identity, attributes, source_ips, user_agent, received } = &*self.subject;
        let object_ref = match &**attributes {
            Attributes::NonResource { .. } => None,
            Attributes::Resource(of) => Some(of.into()),
        };
        Wire {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: level.name(),
            audit_id: id.to_str().unwrap_or_default(),
            stage: self.stage.name(),
            request_uri: uri,
            verb: self.subject.verb(),
            user: User {
                username: &identity.user,
                uid: identity.uid.as_deref(),
                groups: &identity.groups,
                extra: &identity.extra,
            },
            source_ips,
            user_agent,
            object_ref,
            response_status: self.outcome.as_ref().map(Outcome::wire),
            request_received_timestamp: microseconds(*received),
            stage_timestamp: microseconds(self.at),
            annotations: self.decision.as_ref().map(|Decision { allowed, reason }| Annotations {
                decision: if *allowed { "allow" } else { "forbid" },
                reason,
            }),
        }
    }
}

impl<'a> From<&'a ResourceAttributes> for ObjectReference<'a> {
    fn from(of: &'a ResourceAttributes) -> Self {
        Self {
            resource: &of.resource,
            namespace: of.namespace.as_deref(),
            name: of.name.as_deref(),
            api_group: &of.group,
            api_version: &of.version,
            subresource: of.subresource.as_deref(),
        }
    }
}

impl Outcome {
    fn code(&self) -> u16 {
        match self {
            Self::Code(code) | Self::Said { code, .. } => *code,
            Self::Failure(status) => status.code,
        }
    }

    fn wire(&self) -> ResponseStatus<'_> {
        let plain = ResponseStatus {
            metadata: NoMetadata {},
            status: "",
            message: "",
            reason: "",
            details: None,
            code: self.code(),
        };
        match self {
            Self::Code(_) => plain,
            Self::Said { status, message, .. } => ResponseStatus { status, message, ..plain },
            Self::Failure(failure) => ResponseStatus {
                status: failure.status,
                message: &failure.message,
                reason: failure.reason,
                details: failure.details.as_ref(),
                ..plain
            },
        }
    }
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// `metav1.MicroTime`.
fn microseconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::serving::Certificates;

    fn event(outcome: Option<Outcome>) -> Event {
        let subject = Subject {
            level: Level::Metadata,
            id: HeaderValue::from_static("4c1b6a1e"),
            uri: "/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/m?labelSelector=a".to_owned(),
            identity: Arc::new(Identity::new("alice", ["dev", "ops"])),
            attributes: Arc::new(Attributes::Resource(ResourceAttributes {
                verb: "list".into(),
                group: "external.metrics.k8s.io".to_owned(),
                version: "v1beta1".to_owned(),
                namespace: Some("llm".to_owned()),
                resource: "m".to_owned(),
                ..ResourceAttributes::default()
            })),
            source_ips: vec![[10, 0, 0, 1].into()],
            user_agent: "kubectl".to_owned(),
            received: "2026-11-26T19:04:00.1436Z".parse().unwrap(),
        };
        Event {
            subject: Arc::new(subject),
            stage: Stage::ResponseComplete,
            at: "2026-11-26T19:04:00.14408Z".parse().unwrap(),
            outcome,
            decision: Some(Decision { allowed: true, reason: String::new() }),
        }
    }

    #[test]
    fn an_event_is_written_as_the_reference_writes_it() {
        let mut line = Vec::new();
        event(Some(Outcome::Code(200))).write_json(&mut line).unwrap();
        // The order of fields of k8s.io/apiserver too.
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"4c1b6a1e","#,
                r#""stage":"ResponseComplete","requestURI":"/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/m?labelSelector=a","#,
                r#""verb":"list","user":{"username":"alice","groups":["dev","ops"]},"sourceIPs":["10.0.0.1"],"#,
                r#""userAgent":"kubectl","objectRef":{"resource":"m","namespace":"llm","#,
                r#""apiGroup":"external.metrics.k8s.io","apiVersion":"v1beta1"},"#,
                r#""responseStatus":{"metadata":{},"code":200},"#,
                r#""requestReceivedTimestamp":"2026-11-26T19:04:00.143600Z","stageTimestamp":"2026-11-26T19:04:00.144080Z","#,
                r#""annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""}}"#,
                "\n"
            )
        );
        let mut line = Vec::new();
        event(None).write_legacy(&mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"2026-11-26T19:04:00.1436Z AUDIT: id="4c1b6a1e" stage="ResponseComplete" ip="10.0.0.1" method="list" "#,
                r#"user="alice" groups="\"dev\",\"ops\"" as="<self>" asgroups="<lookup>" user-agent="kubectl" "#,
                r#"namespace="llm" uri="/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/m?labelSelector=a" "#,
                r#"response="<deferred>""#,
                "\n"
            )
        );
    }

    #[test]
    fn a_failure_is_told_with_its_words() {
        let failure = Status {
            kind: "Status",
            api_version: "v1",
            metadata: NoMetadata {},
            status: "Failure",
            message: "no variant".to_owned(),
            reason: "NotFound",
            details: None,
            code: 404,
        };
        let written: Value = serde_json::to_value(event(Some(Outcome::Failure(Arc::new(failure)))).wire()).unwrap();
        assert_eq!(
            written["responseStatus"],
            json!({"metadata": {}, "status": "Failure", "message": "no variant", "reason": "NotFound", "code": 404})
        );
    }

    #[test]
    fn sources_are_the_proxies_and_the_peer_and_long_names_are_cut() {
        let peer = Peer::new(([127, 0, 0, 1], 5).into(), Certificates::from_iter([]));
        let headers = |given: &[(HeaderName, &str)]| -> HeaderMap {
            given.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
        };
        for (given, expected) in [
            (vec![], vec!["127.0.0.1"]),
            (vec![(FORWARDED_FOR, "10.0.0.1, nonsense, fd00::1")], vec!["10.0.0.1", "fd00::1", "127.0.0.1"]),
            (vec![(FORWARDED_FOR, "127.0.0.1")], vec!["127.0.0.1"]),
            (vec![(REAL_IP, "10.0.0.2")], vec!["10.0.0.2", "127.0.0.1"]),
        ] {
            let ips: Vec<_> = source_ips(Some(&peer), &headers(&given)).iter().map(ToString::to_string).collect();
            assert_eq!(ips, expected, "{given:?}");
        }
        let long = user_agent(&headers(&[(USER_AGENT, &"a".repeat(2000))]));
        assert_eq!((long.len(), long.ends_with("a...TRUNCATED")), (1024 + "...TRUNCATED".len(), true));
    }
}
