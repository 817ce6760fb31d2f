//! The limit: hyper and rustls, and nothing between a request and its bytes.

use std::{convert::Infallible, future::ready, path::PathBuf, sync::Arc};

use clap::Args;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Listen, certificates, key, provider, roots};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// PEM file of the authority of clients, verified in the handshake.
    #[arg(long)]
    front_proxy_ca: PathBuf,
    /// File with the body of every answer.
    #[arg(long)]
    body: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { listen, front_proxy_ca, body } = arguments;
    let body = Bytes::from(std::fs::read(body)?);
    let acceptor = TlsAcceptor::from(tls(&listen, &front_proxy_ca)?);
    let listener = TcpListener::bind(listen.address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, body) = (acceptor.clone(), body.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |_: Request<Incoming>| ready(Ok::<_, Infallible>(answer(body.clone()))));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(250);
            // A connection that breaks is the client's affair.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn tls(listen: &Listen, front_proxy_ca: &PathBuf) -> anyhow::Result<Arc<ServerConfig>> {
    let roots = Arc::new(roots(front_proxy_ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&listen.certificate)?, key(&listen.key)?)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// With the headers of wva's answers.
fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("audit-id", HeaderValue::from_static("4c1b6a1e-3f6b-4e7c-9a36-0a5f8d6a2a11"));
    headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}
