//! Configuration: layers, precedence, faults, the view, upstream's ConfigMap, live reload and the reference.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stand outside of test functions")]

mod documentation;
mod errors;
mod limits;
mod live;
mod precedence;
mod properties;
mod saturation;
mod service_classes;
mod watching;

use std::path::Path;

use wva::config::{Config, ConfigErrors, ConfigFlags, Document, Layer, Resolved};

/// Flags as a command line gives them.
fn flags(arguments: &[&str]) -> Layer {
    use clap::{Args, FromArgMatches};
    let command = ConfigFlags::augment_args(clap::Command::new("wva"));
    let matches = command.try_get_matches_from(std::iter::once(&"wva").chain(arguments)).unwrap();
    Layer::from_flags(&ConfigFlags::from_arg_matches(&matches).unwrap())
}

fn environment(variables: &[(&str, &str)]) -> Layer {
    Layer::from_environment(variables.iter().copied(), &[])
}

fn file(text: &str) -> Layer {
    Layer::from_document(&Document::file(Path::new("/etc/wva/config.yaml"), text))
}

fn upstream(text: &str) -> Layer {
    Layer::from_upstream_document(&Document::file(Path::new("/etc/wva/saturation.yaml"), text))
}

/// The one required key.
fn url() -> Layer {
    environment(&[("PROMETHEUS_BASE_URL", "https://prometheus:9090")])
}

/// Resolves the layers together with the required key.
fn resolve(layers: impl IntoIterator<Item = Layer>) -> Result<Resolved, ConfigErrors> {
    let mut layers: Vec<_> = layers.into_iter().collect();
    layers.push(url());
    Config::resolve(&layers)
}

fn messages(result: Result<Resolved, ConfigErrors>) -> Vec<String> {
    result.unwrap_err().as_slice().iter().map(ToString::to_string).collect()
}
