//! Compiles KEDA's protocol, without a protoc on the machine; links smaller where the machine can run that.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

/// Set to anything, it makes a binary that also runs on systems older than the one that builds it.
const PORTABLE: &str = "PORTABLE_BUILD";
/// Which functions run in `wva serve`, by `hack/order-functions`.
const FUNCTIONS_OF_SERVE: &str = "hack/functions-of-serve.ld";

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
    // What is not optimised has other functions, and many more: to look for each would take a quarter of a minute.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") && links_with_lld() {
        // What runs lies side by side, or each of its pages would bring pages that nobody needs. Names that are not there
        // are passed over: those of another profile, compiler or version of a library. The script is not watched, because
        // another would have the library compiled anew; who writes it has the binary linked anew.
        let script = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(FUNCTIONS_OF_SERVE);
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    Ok(())
}

/// Whether the linker is the one that comes with the compiler: the default on x86-64 Linux, unless somebody chose another.
fn links_with_lld() -> bool {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let is_target = env::var("TARGET").is_ok_and(|target| target == TARGET);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_chosen =
        env::var_os("RUSTC_LINKER").is_some() || ["link", "fuse-ld"].iter().any(|word| flags.contains(word));
    is_target && !is_chosen && has_lld(TARGET)
}

fn has_lld(target: &str) -> bool {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(compiler).args(["--print", "sysroot"]).output();
    let root = answer.ok().and_then(|answer| String::from_utf8(answer.stdout).ok());
    root.is_some_and(|root| Path::new(root.trim()).join("lib/rustlib").join(target).join("bin/gcc-ld/ld.lld").exists())
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
