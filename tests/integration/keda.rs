//! KEDA's questions, by a client that is generated from its published protocol, over mutual TLS.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::{prelude::*, test_runner::TestRunner};
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::{Code, body::Body};
use tower::ServiceExt as _;
use wva::{
    apiserver::{Labels, MetricsProvider, Refusal, Sample, Series, SeriesQuery, UnknownMetric},
    auth::Trust,
    keda::{
        self,
        protocol::{GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient},
    },
    serving::{Bound, CertificateSource, Peer, ServingOptions},
};

use crate::{
    apiserver_fuzz::cases,
    apiserver_harness::{Authority, ClientCertificate, connect, tls_client, trust_bundle},
};

/// Desired replicas in thousandths by variant, or why they are withheld; they can be changed.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<BTreeMap<String, Result<u64, String>>>>);

impl Values {
    fn set(&self, variant: &str, value: Result<u64, &str>) {
        self.0.lock().unwrap().insert(variant.to_owned(), value.map_err(str::to_owned));
    }
}

impl MetricsProvider for Values {
    fn metric_names(&self) -> &'static [&'static str] {
        &["wva_desired_replicas"]
    }

    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        let values = self.0.lock().unwrap();
        let series = values.iter().map(|(variant, value)| Series {
            namespace: "llm".into(),
            subject: variant.as_str().into(),
            object: None,
            labels: Labels::from_iter([("variant_name", variant.as_str())]),
            value: value
                .clone()
                .map(|milli| Sample { milli, timestamp: "2026-11-23T19:29:37Z".parse().unwrap(), window: None })
                .map_err(|message| Refusal { message }),
        });
        Ok(series.filter(|_| query.namespace == Some("llm")).collect())
    }

    fn subjects(&self, _: &str) -> Vec<Arc<str>> {
        self.0.lock().unwrap().keys().map(|name| name.as_str().into()).collect()
    }
}

/// One connection of HTTP/2.
#[derive(Clone)]
struct Connection(SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Body>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move { Ok(answer.await?.map(Body::new)) })
    }
}

/// A scaler on loopback.
struct Server {
    address: SocketAddr,
    certificate: Vec<CertificateDer<'static>>,
    clients: Authority,
    values: Values,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn start() -> Self {
        let clients = Authority::new("keda");
        let values = Values::default();
        let source = CertificateSource::SelfSigned { names: vec!["localhost".to_owned()] };
        let bound = Bound::bind(ServingOptions::new((Ipv4Addr::LOCALHOST, 0).into(), source)).await.unwrap();
        let (address, certificate, stop) = (bound.local_address(), bound.certificate_chain(), CancellationToken::new());
        let trust = Trust::new(trust_bundle(&clients, &Authority::new("front-proxy-ca")));
        tokio::spawn(bound.serve(keda::router(Arc::new(values.clone()), trust), stop.clone()));
        Self { address, certificate, clients, values, stop }
    }

    async fn client(&self, certificate: Option<&ClientCertificate>) -> ExternalScalerClient<Connection> {
        let stream = connect(self.address, tls_client(&self.certificate, certificate, &[b"h2"])).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let origin = format!("https://localhost:{}", self.address.port()).parse().unwrap();
        ExternalScalerClient::with_origin(Connection(sender), origin)
    }

    async fn keda(&self) -> ExternalScalerClient<Connection> {
        self.client(Some(&self.clients.client("keda-operator", ""))).await
    }
}

fn object(name: &str, variant: Option<&str>) -> ScaledObjectRef {
    let scaler_metadata: HashMap<_, _> =
        variant.iter().map(|variant| ("variantName".to_owned(), (*variant).to_owned())).collect();
    ScaledObjectRef { name: name.to_owned(), namespace: "llm".to_owned(), scaler_metadata }
}

fn metrics(object: ScaledObjectRef) -> GetMetricsRequest {
    let metric_name = "wva_desired_replicas".to_owned();
    GetMetricsRequest { scaled_object_ref: Some(object), metric_name }
}

#[tokio::test]
async fn keda_reads_desired_replicas_over_a_target_of_one() {
    let server = Server::start().await;
    server.values.set("llama", Ok(3000));
    server.values.set("asleep", Ok(0));
    let mut keda = server.keda().await;
    let spec = keda.get_metric_spec(object("llama", None)).await.unwrap().into_inner().metric_specs;
    assert_eq!((spec.len(), spec[0].metric_name.as_str(), spec[0].target_size_float), (1, "wva_desired_replicas", 1.0));
    for (object, desired) in [
        (object("llama", None), 3.0),
        (object("any", Some("llama")), 3.0),
        (object("asleep", None), 0.0),
        (object("llama", Some("")), 3.0),
    ] {
        let values = keda.get_metrics(metrics(object.clone())).await.unwrap().into_inner().metric_values;
        assert_eq!((values.len(), values[0].metric_value_float), (1, desired), "{object:?}");
        let active = keda.is_active(object.clone()).await.unwrap().into_inner().result;
        assert_eq!(active, desired > 0.0, "{object:?}");
    }
    let error = keda.stream_metric_spec(object("llama", None)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "KEDA then asks for the specification");
}

#[tokio::test]
async fn what_is_not_known_is_an_error_and_never_inactive() {
    let server = Server::start().await;
    server.values.set("llama", Err("variant llm/llama: its metrics are 130 s old, check its ServiceMonitor"));
    let mut keda = server.keda().await;
    let withheld = [
        keda.is_active(object("llama", None)).await.unwrap_err(),
        keda.get_metrics(metrics(object("llama", None))).await.unwrap_err(),
        keda.stream_is_active(object("llama", None)).await.unwrap_err(),
    ];
    for error in withheld {
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("130 s old"), "{error}");
    }
    let error = keda.is_active(object("lama", None)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains(r#"known there: "llama""#), "{error}");
    let without = GetMetricsRequest { scaled_object_ref: None, metric_name: String::new() };
    assert_eq!(keda.get_metrics(without).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_tells_the_state_and_its_changes_and_nothing_while_it_is_not_known() {
    let server = Server::start().await;
    server.values.set("llama", Ok(0));
    let mut stream = server.keda().await.stream_is_active(object("llama", None)).await.unwrap().into_inner();
    let mut told = async || stream.next().await.unwrap().unwrap().result;
    assert!(!told().await);
    server.values.set("llama", Ok(2000));
    assert!(told().await);
    server.values.set("llama", Err("metrics are old"));
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    server.values.set("llama", Ok(0));
    assert!(!told().await, "the next word is the next known state");
}

/// Messages of the protocol, to be bent.
fn messages() -> Vec<Vec<u8>> {
    let request = metrics(object("any", Some("llama")));
    vec![request.encode_to_vec(), object("llama", None).encode_to_vec(), Vec::new()]
}

#[test]
fn no_message_breaks_the_scaler() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (clients, values) = (Authority::new("keda"), Values::default());
    values.set("llama", Ok(3000));
    let trust = Trust::new(trust_bundle(&clients, &Authority::new("front-proxy-ca")));
    let router = keda::router(Arc::new(values), trust);
    let peer = Peer::new((Ipv4Addr::LOCALHOST, 1).into(), clients.client("keda-operator", "").chain());
    let methods = prop::sample::select(vec!["IsActive", "GetMetricSpec", "GetMetrics", "StreamIsActive", "Nonsense"]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let tried = (methods, prop::sample::select(messages()), changes, prop::option::weighted(0.1, any::<u32>()));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(500), failure_persistence: None, ..ProptestConfig::default() });
    let answered = std::cell::Cell::new(0);
    runner
        .run(&tried, |(method, mut message, changes, length)| {
            for (at, byte) in changes {
                if !message.is_empty() {
                    let at = at.index(message.len());
                    message[at] = byte;
                }
            }
            let length = length.unwrap_or(u32::try_from(message.len()).unwrap());
            let framed = [&[0], &length.to_be_bytes()[..], &message].concat();
            let mut request = http::Request::post(format!("/externalscaler.ExternalScaler/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(axum::body::Body::from(framed))
                .unwrap();
            request.extensions_mut().insert(peer.clone());
            let answer = runtime.block_on(router.clone().oneshot(request)).unwrap();
            // An error is told by gRPC, and only there.
            prop_assert_eq!(answer.status().as_u16(), 200);
            answered.set(answered.get() + u32::from(!answer.headers().contains_key("grpc-status")));
            Ok(())
        })
        .unwrap();
    assert!(answered.get() > 0, "some of them are understood");
}

#[tokio::test]
async fn nobody_without_a_certificate_of_the_configured_authority_is_answered() {
    let server = Server::start().await;
    server.values.set("llama", Ok(3000));
    let stranger = Authority::new("keda").client("keda-operator", "");
    for certificate in [None, Some(&stranger)] {
        let error = server.client(certificate).await.is_active(object("llama", None)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    }
}
