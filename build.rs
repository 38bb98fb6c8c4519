//! Writes libtorch's folder into the binaries as an rpath, so that they find it from wherever they are started.

use std::env;
use std::fs;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LLAMAHOME_COMMIT");
    // torch-sys tells its direct dependents which folder it linked against.
    if let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB") {
        // The real folder, not the link in the clone: the clone may move or go.
        let lib = fs::canonicalize(&lib).unwrap_or_else(|_| lib.into());
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
        // A libtorch with CUDA registers its kernels when it is loaded, so it must not be dropped as unused.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-ltorch");
    }
    println!("cargo:rustc-env=LLAMAHOME_COMMIT={}", commit());
}

/// The short commit for `--version`, or `unknown` in a tree without git.
fn commit() -> String {
    if let Ok(given) = env::var("LLAMAHOME_COMMIT") {
        return given;
    }
    let out = Command::new("git")
        .args(["rev-parse", "--short=9", "HEAD"])
        .output();
    match out {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
