//! Load generator and counterparts of `hack/bench-server`: the serving half of wva on made-up decisions, a bare server that
//! answers the same bytes with nothing in between, and a client that measures either of them, or any other.
#![allow(clippy::print_stdout, reason = "its output is for a script")]

mod bare;
mod load;
mod serve;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, Parser, Subcommand};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tikv_jemallocator::Jemalloc;
use wva::{
    config::{LogFormat, LoggingSettings},
    telemetry::init_logging,
};

/// That of wva.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures metrics API servers.
#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve made-up decisions with wva's serving half.
    Serve(serve::Arguments),
    /// Serve one answer, whatever is asked.
    Bare(bare::Arguments),
    /// Send requests and print what was measured as one line of JSON.
    Load(load::Arguments),
}

/// What both servers need.
#[derive(Clone, Debug, Args)]
struct Listen {
    /// Address to listen on.
    #[arg(long)]
    address: SocketAddr,
    /// PEM file of the serving certificate.
    #[arg(long)]
    certificate: PathBuf,
    /// PEM file of its key.
    #[arg(long)]
    key: PathBuf,
}

fn certificates(path: &PathBuf) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?)
}

fn roots(path: &PathBuf) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path)?);
    Ok(roots)
}

fn key(path: &PathBuf) -> anyhow::Result<PrivateKeyDer<'static>> {
    Ok(PrivateKeyDer::from_pem_file(path)?)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // As `wva serve` has it: without a subscriber, libraries would hand each of their spans to `log`.
    init_logging(&LoggingSettings { level: "info".to_owned(), format: LogFormat::Text })?;
    match Command::parse().action {
        Action::Serve(arguments) => serve::run(arguments).await,
        Action::Bare(arguments) => bare::run(arguments).await,
        Action::Load(arguments) => load::run(arguments).await,
    }
}
