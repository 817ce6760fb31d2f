//! Compiles KEDA's protocol, without a protoc on the machine; links smaller where the machine can run that.

use std::{env, error::Error, process::Command};

/// Set to anything, it makes a binary that also runs on systems older than the one that builds it.
const PORTABLE: &str = "PORTABLE_BUILD";

fn main() -> Result<(), Box<dyn Error>> {
    const PROTOCOL: &str = "proto/externalscaler.proto";
    println!("cargo::rerun-if-changed={PROTOCOL}");
    let descriptors = protox::compile([PROTOCOL], ["proto"])?;
    // The client is for tests, and for whoever uses this library as one.
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    println!("cargo::rerun-if-env-changed={PORTABLE}");
    if env::var_os(PORTABLE).is_none() && runs_packed_relocations() {
        // A hundredth of the size, all of which is read at start and stays in memory.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// Whether the C library of this machine reads packed relocations: glibc from 2.36 on.
fn runs_packed_relocations() -> bool {
    let is_native = env::var("HOST").is_ok_and(|host| env::var("TARGET").is_ok_and(|target| host == target));
    let is_glibc = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|library| library == "gnu");
    is_native && is_glibc && glibc_version().is_some_and(|version| version >= (2, 36))
}

fn glibc_version() -> Option<(u32, u32)> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
