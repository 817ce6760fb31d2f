//! The `wva` binary: a TLS provider, a command line, an exit code.

use std::process::ExitCode;

use clap::Parser;
use wva::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything builds a TLS client: reqwest and kube take the process's provider.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("wva: another TLS provider was installed before ours; this is a defect of the build");
        return ExitCode::FAILURE;
    }
    Cli::parse().run().await
}
