//! A Kubernetes API server in memory: answers lists and watches as it is told, and keeps what it was asked.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use futures::{StreamExt, channel::mpsc, stream};
use http::{Request, Response, header::ACCEPT};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// The plural names of the resources that are asked for.
pub(crate) const PLURALS: [&str; 10] = [
    "variantautoscalings",
    "deployments",
    "statefulsets",
    "replicasets",
    "pods",
    "horizontalpodautoscalers",
    "scaledobjects",
    "namespaces",
    "nodes",
    "resourcequotas",
];

/// Plural names of kinds that a test may install, and how the API server lists each in its API version.
pub(crate) const LATE: [&str; 3] = ["rollouts", "things", "resourceslices"];

/// The server. Clones share it.
#[derive(Clone)]
pub(crate) struct DiscoveryApi {
    resources: Arc<Mutex<HashMap<&'static str, Resource>>>,
    requests: Arc<Mutex<Vec<Asked>>>,
    /// What each API version serves, beside what is built in.
    served: Arc<Mutex<HashMap<String, Value>>>,
    /// Resources that every request for fails.
    failing: Arc<Mutex<HashMap<&'static str, (u16, Value)>>>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: String,
}

struct Resource {
    /// Answers to lists, in order; the last one is repeated.
    lists: VecDeque<(u16, Value)>,
    sender: mpsc::UnboundedSender<Value>,
    /// What the first watch delivers; later ones deliver nothing.
    events: Option<mpsc::UnboundedReceiver<Value>>,
}

impl DiscoveryApi {
    /// A server on which every list is empty.
    pub(crate) fn new() -> Self {
        let empty = |plural| {
            let (sender, events) = mpsc::unbounded();
            (plural, Resource { lists: [(200, list(&[]))].into(), sender, events: Some(events) })
        };
        let resources = PLURALS.into_iter().chain(LATE).map(empty).collect();
        let resources = Arc::new(Mutex::new(resources));
        Self { resources, requests: Arc::default(), served: Arc::default(), failing: Arc::default() }
    }

    /// Lists of `plural` are answered so, one after the other; the last answer is repeated.
    pub(crate) fn lists(self, plural: &str, answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        self.resources.lock().unwrap().get_mut(plural).unwrap().lists = answers.into_iter().collect();
        self
    }

    /// Serves a kind of this API version from now on, with a scale subresource or without.
    pub(crate) fn install(&self, api_version: &str, kind: &str, plural: &str, scales: bool) {
        let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list", "watch"]});
        let mut resources = vec![resource(plural, kind)];
        if scales {
            resources.push(resource(&format!("{plural}/scale"), "Scale"));
        }
        let list =
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources});
        self.served.lock().unwrap().insert(api_version.to_owned(), list);
    }

    /// Sends a watch event, at once or as soon as there is a watch.
    pub(crate) fn send(&self, plural: &str, kind: &str, object: &Value) {
        let resources = self.resources.lock().unwrap();
        resources[plural].sender.unbounded_send(json!({"type": kind, "object": object})).unwrap();
    }

    /// Ends the watches of `plurals`, and answers every request for them so until [`Self::recover`].
    pub(crate) fn fail(&self, plurals: &[&'static str], answer: &(u16, Value)) {
        let (mut failing, mut resources) = (self.failing.lock().unwrap(), self.resources.lock().unwrap());
        for plural in plurals {
            failing.insert(plural, answer.clone());
            let (sender, events) = mpsc::unbounded();
            let resource = resources.get_mut(plural).unwrap();
            (resource.sender, resource.events) = (sender, Some(events));
        }
    }

    /// Answers again.
    pub(crate) fn recover(&self) {
        self.failing.lock().unwrap().clear();
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            tower::service_fn(move |request| std::future::ready(Ok::<_, Infallible>(server.answer(&request)))),
            "default",
        )
    }

    fn answer(&self, request: &Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let path = request.uri().path().to_owned();
        let accept = request.headers().get(ACCEPT).map_or("", |accept| accept.to_str().unwrap()).to_owned();
        let method = request.method().to_string();
        let plural = path.rsplit('/').next().unwrap().to_owned();
        let watch = query.contains("watch=true");
        self.requests.lock().unwrap().push(Asked { method, path: path.clone(), query, accept });
        if let Some(answer) = self.discovery(&path) {
            return answer;
        }
        if let Some((status, body)) = self.failing.lock().unwrap().get(plural.as_str()) {
            return respond(*status, body);
        }
        let mut resources = self.resources.lock().unwrap();
        let resource = resources.get_mut(plural.as_str()).unwrap_or_else(|| panic!("nobody may ask for {plural}"));
        if watch {
            let events = match resource.events.take() {
                Some(events) => events.boxed(),
                None => stream::pending().boxed(),
            };
            // The type first, as an API server has it.
            let line = |event: Value| format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"]);
            let lines = events.map(move |event| Ok(Frame::data(Bytes::from(line(event)))));
            return Response::new(StreamBody::new(lines).boxed_unsync());
        }
        let (status, body) =
            if resource.lists.len() > 1 { resource.lists.pop_front().unwrap() } else { resource.lists[0].clone() };
        respond(status, &body)
    }

    /// What an API version serves, or a definition, of which there are none.
    fn discovery(&self, path: &str) -> Option<Response<UnsyncBoxBody<Bytes, Infallible>>> {
        let api_version = path.strip_prefix("/apis/")?;
        let not_found = failure(404, "NotFound", "the server could not find the requested resource");
        if api_version.starts_with("apiextensions.k8s.io/v1/customresourcedefinitions/") {
            return Some(respond(not_found.0, &not_found.1));
        }
        if api_version.split('/').count() != 2 {
            return None;
        }
        Some(match self.served.lock().unwrap().get(api_version) {
            Some(served) => respond(200, served),
            None => respond(not_found.0, &not_found.1),
        })
    }
}

fn respond(status: u16, body: &Value) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = stream::iter([Ok(Frame::data(Bytes::from(body.to_string())))]);
    Response::builder().status(status).body(StreamBody::new(body).boxed_unsync()).unwrap()
}

/// A list as the API server writes it.
pub(crate) fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
}

/// A failure as the API server writes it.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
        "code": code, "reason": reason, "message": message});
    (code, status)
}
