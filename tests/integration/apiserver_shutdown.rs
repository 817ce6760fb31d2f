//! Starting and stopping: no start with a broken certificate or a taken port, no stop that loses a request.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, routing::get};
use http::Method;
use tokio::{net::TcpStream, sync::Notify};
use wva::serving::{BindError, Bound, CertificateSource, ServingOptions};

use crate::apiserver_harness::TestServer;

/// A route whose answer waits: tells when a request is in it, and answers when told.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    fn route(&self) -> Router {
        let gate = self.clone();
        Router::new().route(
            "/debug/slow",
            get(|| async move {
                gate.entered.notify_one();
                gate.open.notified().await;
                "done"
            }),
        )
    }
}

async fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_port_is_closed() {
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let gate = Gate::default();
        let server = TestServer::start_with(gate.route(), |_| {}).await;
        let admin = server.cluster.client("admin", "system:masters");
        let client = server.client_over(Some(&admin), &[protocol]);
        let request = tokio::spawn(async move {
            let answer = client.get("/debug/slow", &[]).await;
            (answer, client)
        });
        gate.entered.notified().await;

        server.shutdown.cancel();
        while !is_refused(server.address).await {
            tokio::task::yield_now().await;
        }
        assert!(!server.served.is_finished(), "the server waits for the request");
        gate.open.notify_one();
        let (answer, client) = request.await.unwrap();
        assert_eq!((answer.status, answer.text.as_str()), (200, "done"));
        server.served.await.unwrap();
        assert!(client.try_send(Method::GET, "/livez", &[]).await.is_err(), "the connection was closed");
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_shutdown() {
    let server = TestServer::start().await;
    let client = server.client(None);
    assert_eq!(client.get("/livez", &[]).await.status, 200);
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.cancel();
    server.served.await.unwrap();
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_period_is_cut_off() {
    let gate = Gate::default();
    let server = TestServer::start_with(gate.route(), |options| options.grace_period = Duration::ZERO).await;
    let client = server.client(Some(&server.cluster.client("admin", "system:masters")));
    let request = tokio::spawn(async move { client.try_send(Method::GET, "/debug/slow", &[]).await });
    gate.entered.notified().await;
    server.shutdown.cancel();
    server.served.await.unwrap();
    assert!(request.await.unwrap().is_err());
}

#[tokio::test]
async fn a_taken_port_and_a_missing_certificate_stop_the_start() {
    let server = TestServer::start().await;
    let self_signed = CertificateSource::SelfSigned { names: vec!["localhost".to_owned()] };
    let error = Bound::bind(ServingOptions::new(server.address, self_signed)).await.unwrap_err();
    assert!(matches!(error, BindError::Listen { .. }));
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");

    let files = CertificateSource::Files { certificate: "absent/tls.crt".into(), key: "absent/tls.key".into() };
    let options = ServingOptions::new((Ipv4Addr::LOCALHOST, 0).into(), files);
    let error = Bound::bind(options).await.unwrap_err();
    assert!(error.to_string().contains("absent/tls.crt"), "{error}");
}
