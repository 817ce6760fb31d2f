//! What a client may hold of the server, and what it gets when it asks for more.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures::future::join_all;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::yield_now,
};
use tokio_rustls::client::TlsStream;
use wva::{
    serving::{Handler, Peer, ServingMetrics, ServingOptions},
    telemetry::MetricsRegistry,
};

use crate::apiserver_harness::{ClientCertificate, METRIC, TestServer, api_for_tests};

/// Short enough for a test to wait for.
const SOON: Duration = Duration::from_millis(50);

/// How a client of HTTP/2 begins, with settings that say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The frame of a whole request, the one of this number, to localhost.
fn request_frame(number: u32, path: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
    let host = b"localhost";
    // GET and https by number, path and host as literals.
    let block = [b"\x82\x87\x04", &[length(path)][..], path, b"\x01", &[length(host)][..], host].concat();
    // It ends its headers and its stream.
    [&[0, 0, length(&block), 1, 5][..], &(number * 2 + 1).to_be_bytes(), &block].concat()
}

/// The settings that a server announces on a new HTTP/2 connection, by their number.
async fn settings(server: &TestServer, certificate: Option<&ClientCertificate>) -> Vec<(u16, u32)> {
    let mut stream = server.connect(certificate, b"h2").await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame holds the settings");
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut body).await.unwrap();
    let setting = |bytes: &[u8]| {
        (u16::from_be_bytes([bytes[0], bytes[1]]), u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
    };
    body.chunks_exact(6).map(setting).collect()
}

#[tokio::test]
async fn streams_headers_and_bodies_of_a_connection_are_bounded_and_a_stranger_gets_fewer_streams() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    let server = TestServer::start().await;
    let certificate = server.front_proxy.client("front-proxy-client", "");
    for (certificate, streams) in [(Some(&certificate), 250), (None, 16)] {
        let announced = settings(&server, certificate).await;
        for limit in [(MAX_CONCURRENT_STREAMS, streams), (INITIAL_WINDOW_SIZE, 65536), (MAX_HEADER_LIST_SIZE, 65536)] {
            assert!(announced.contains(&limit), "{limit:?} of {announced:?}");
        }
    }
}

#[tokio::test]
async fn streams_of_a_connection_are_as_many_as_is_set() {
    let server = TestServer::start_with(Router::new(), |options| options.limits.max_concurrent_streams = 7).await;
    let certificate = server.front_proxy.client("front-proxy-client", "");
    let announced = settings(&server, Some(&certificate)).await;
    assert!(announced.contains(&(3, 7)), "{announced:?}");
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_the_server_goes_on() {
    let server = TestServer::start().await;
    // HTTP/1.1 looks at the limit when it would read more.
    for (protocol, length) in [(&b"h2"[..], 70_000), (b"http/1.1", 200_000)] {
        let long = "a".repeat(length);
        let client = server.client_over(None, &[protocol]);
        let refused = client.try_send(Method::GET, "/livez", &[("x-long", &long)]).await;
        assert!(refused.as_ref().is_ok_and(|answer| answer.status == 431), "{protocol:?}: {refused:?}");
        assert_eq!(client.get("/livez", &[("x-long", &long[..30_000])]).await.status, 200, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_body_is_not_read_and_its_sender_is_answered_all_the_same() {
    let server = TestServer::start().await;
    let client = server.client(Some(&server.cluster.client("admin", "system:masters")));
    let body = vec![b'a'; 1 << 20];
    let answer = client.http().post(client.url(METRIC)).body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(client.get("/livez", &[]).await.status, 200);
}

/// Whether the server closes `stream` without a word.
async fn is_cut_off(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut rest = Vec::new();
    // Cut off without a farewell is an error to TLS.
    stream.read_to_end(&mut rest).await.map_or(true, |read| read == 0)
}

#[tokio::test]
async fn whoever_only_holds_a_connection_is_cut_off() {
    let quick = |options: &mut ServingOptions| {
        options.limits.handshake_timeout = SOON;
        options.limits.grant_timeout = SOON;
    };
    let server = TestServer::start_with(Router::new(), quick).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut nothing = [0; 1];
    assert_eq!(silent.read(&mut nothing).await.unwrap_or_default(), 0, "without a handshake");

    for protocol in [&b"h2"[..], b"http/1.1"] {
        let mut stream = server.connect(None, protocol).await.unwrap();
        let mut rest = Vec::new();
        // HTTP/2 announces its settings first; then nothing but the end may come.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "without a request: {}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn connections_that_agree_on_no_tls_are_counted() {
    let mut registry = MetricsRegistry::new();
    let metrics = ServingMetrics::register(registry.registry_mut());
    let server = TestServer::start_with(Router::new(), |options| options.metrics = metrics).await;
    server.connect(None, b"h2").await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    drop(TcpStream::connect(server.address).await.unwrap());
    let two = "apiserver_tls_handshake_errors_total 2";
    while !registry.encode().unwrap().contains(two) {
        yield_now().await;
    }
}

#[tokio::test]
async fn whoever_was_granted_nothing_is_cut_off_and_others_stay() {
    let quick = |options: &mut ServingOptions| options.limits.grant_timeout = SOON;
    let server = TestServer::start_with(Router::new(), quick).await;
    let alice = server.cluster.client("alice", "dev");
    for (certificate, path, stays) in [(None, METRIC, false), (None, "/livez", false), (Some(&alice), METRIC, true)] {
        let mut stream = server.connect(certificate, b"http/1.1").await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let ended = async {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        };
        // Of two strangers, the one that came later is cut off later.
        let other_is_cut_off = async {
            let mut other = server.connect(None, b"http/1.1").await.unwrap();
            assert!(is_cut_off(&mut other).await);
            // And a while more than the other had.
            tokio::time::sleep(SOON).await;
        };
        let is_cut_off = tokio::select! { biased; () = ended => true, () = other_is_cut_off => false };
        assert_eq!(is_cut_off, !stays, "{path}");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let quick = |options: &mut ServingOptions| options.limits.header_read_timeout = SOON;
    let server = TestServer::start_with(Router::new(), quick).await;
    let mut stream = server.connect(None, b"http/1.1").await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: ").await.unwrap();
    assert!(is_cut_off(&mut stream).await);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_is_closed() {
    let one = |options: &mut ServingOptions| options.limits.max_connections = 1;
    let server = TestServer::start_with(Router::new(), one).await;
    let first = server.client(None);
    assert_eq!(first.get("/livez", &[]).await.status, 200);
    let second = server.client(None);
    let asked = tokio::spawn(async move { second.get("/livez", &[]).await.status });
    // Time enough for the second, were it let in.
    for _ in 0..50 {
        assert_eq!(first.get("/livez", &[]).await.status, 200);
    }
    assert!(!asked.is_finished());
    drop(first);
    assert_eq!(asked.await.unwrap(), 200);
}

/// Answers `/at-once` where the requests of a connection are read and all else in a task of its own, and breaks where the
/// path says so. Answers tell the port of the client.
#[derive(Clone, Default)]
struct Fragile {
    at_once: Arc<AtomicUsize>,
    handled: Arc<AtomicUsize>,
}

fn port_of(peer: &Peer) -> Response<Body> {
    Response::new(Body::from(peer.address.port().to_string()))
}

impl Handler for Fragile {
    type Memory = ();

    fn at_once(&self, peer: &Peer, (): &(), request: &Request<Incoming>) -> Option<Response<Body>> {
        assert!(request.uri().path() != "/break-at-once", "it broke");
        (request.uri().path() == "/at-once").then(|| {
            self.at_once.fetch_add(1, Ordering::SeqCst);
            port_of(peer)
        })
    }

    async fn handle(&self, peer: &Peer, (): &(), request: Request<Incoming>) -> Response<Body> {
        self.handled.fetch_add(1, Ordering::SeqCst);
        yield_now().await;
        assert!(request.uri().path() != "/break", "it broke");
        port_of(peer)
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_request_an_answer_and_not_the_connection() {
    let server = TestServer::start_handling(Fragile::default()).await;
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let client = server.client_over(None, &[protocol]);
        let port = client.get("/at-once", &[]).await.text;
        for path in ["/break", "/break-at-once"] {
            let waiting = client.get("/wait", &[]);
            let (broken, other) = tokio::join!(client.get(path, &[]), waiting);
            assert_eq!((broken.status, other.status), (500, 200), "{path}");
            if protocol == b"h2" {
                assert_eq!(other.text, port, "{path}: the connection stays");
            }
            assert_eq!(client.get("/at-once", &[]).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn requests_that_come_in_one_piece_are_not_all_answered_before_others_have_their_turn() {
    const REQUESTS: u32 = 250;
    let handler = Fragile::default();
    let server = TestServer::start_handling(handler.clone()).await;
    let certificate = server.front_proxy.client("front-proxy-client", "");
    let mut stream = server.connect(Some(&certificate), b"h2").await.unwrap();
    let requests = (0..REQUESTS).flat_map(|number| request_frame(number, b"/at-once"));
    stream.write_all(&PREFACE.iter().copied().chain(requests).collect::<Vec<_>>()).await.unwrap();
    let counts = || (handler.at_once.load(Ordering::SeqCst), handler.handled.load(Ordering::SeqCst));
    while counts().0 + counts().1 < REQUESTS as usize {
        yield_now().await;
    }
    let (at_once, handled) = counts();
    assert!(at_once > 0 && handled > 0, "{at_once} at once, {handled} in tasks of their own");
}

#[tokio::test]
async fn who_takes_back_what_was_asked_over_and_over_is_cut_off_and_others_are_served() {
    const GOAWAY: u8 = 7;
    const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];
    let server = TestServer::start().await;
    let mut stream = server.connect(None, b"h2").await.unwrap();
    let cancelled = |number: u32| {
        let reset = [&[0, 0, 4, 3, 0][..], &(number * 2 + 1).to_be_bytes(), &[0, 0, 0, 8]].concat();
        [request_frame(number, b"/livez"), reset].concat()
    };
    let sent = PREFACE.iter().copied().chain((0..1000).flat_map(cancelled)).collect::<Vec<_>>();
    // It need not be read to its end.
    let _ = stream.write_all(&sent).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let mut rest = &answer[..];
    let mut farewell = None;
    while let [a, b, c, kind, behind @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let body = &behind[5..5 + length];
        farewell = farewell.or((*kind == GOAWAY).then(|| body[4..8].to_vec()));
        rest = &behind[5 + length..];
    }
    assert_eq!(farewell.unwrap(), ENHANCE_YOUR_CALM);
    assert_eq!(server.client(None).get("/livez", &[]).await.status, 200);
}

#[tokio::test]
async fn beyond_the_requests_under_way_one_is_told_so_and_not_to_come_back_later() {
    const AT_A_TIME: usize = 400;
    let (entered, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (inside, gate) = (entered.clone(), open.clone());
    let slow = get(move || async move {
        inside.fetch_add(1, Ordering::SeqCst);
        let _ = gate.acquire().await;
        "done"
    });
    let server = TestServer::start_with(Router::new().route("/debug/slow", slow), |_| {}).await;
    let admin = server.cluster.client("admin", "system:masters");
    // A connection carries 250.
    let clients = [server.client(Some(&admin)), server.client(Some(&admin))];
    let slow_ones = join_all((0..AT_A_TIME).map(|number| clients[number % 2].get("/debug/slow", &[])));
    let refused = async {
        while entered.load(Ordering::SeqCst) < AT_A_TIME {
            yield_now().await;
        }
        let answer = clients[0].get("/debug/slow", &[]).await;
        open.close();
        answer
    };
    let (answers, refused) = tokio::join!(slow_ones, refused);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((refused.status, &refused.json()["reason"]), (429, &"TooManyRequests".into()));
    assert!(!refused.headers.contains_key("retry-after"), "an HPA worker would obey it");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_a_timeout() {
    let (api, peer) = api_for_tests(Router::new().route("/debug/stuck", get(pending::<&str>)));
    let request = http::Request::get("/debug/stuck")
        .header("x-remote-user", "admin")
        .header("x-remote-group", "system:masters")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = api.answer(Some(&peer), request).await;
    assert_eq!(answer.status().as_u16(), 504);
    assert!(!answer.headers().contains_key("retry-after"));
}
