//! Compiles KEDA's protocol, without a protoc on the machine, and folds identical functions when linking.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    const PROTOCOL: &str = "proto/externalscaler.proto";
    println!("cargo::rerun-if-changed={PROTOCOL}");
    let descriptors = protox::compile([PROTOCOL], ["proto"])?;
    // The client is for tests, and for whoever uses this library as one.
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    // Where Rust links with lld by default. Code that runs stays in memory, so that this saves memory, too.
    if env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu")
        && env::var("PROFILE").is_ok_and(|profile| profile == "release")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    Ok(())
}
