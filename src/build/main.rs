//! Build script: which commit it is, and the sample images that the page carries ([`samples`]).

#![expect(
    clippy::print_stdout,
    reason = "a build script talks to cargo this way"
)]

mod samples;

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=src/build/main.rs");
    println!("cargo:rerun-if-env-changed=PATCHLIGHT_COMMIT");
    println!("cargo:rustc-env=PATCHLIGHT_COMMIT={}", commit());
    if let Err(error) = samples::carry() {
        eprintln!("\nThe page's sample images could not be read: {error}\n");
        std::process::exit(1);
    }
}

/// The commit being built, for `build_info`: as the environment says, where the build has no
/// checkout (a container), or git; otherwise "unknown".
fn commit() -> String {
    if let Ok(given) = env::var("PATCHLIGHT_COMMIT")
        && !given.is_empty()
    {
        return given.chars().take(12).collect();
    }
    // A release says what it is made of; while developing, a commit alone compiles nothing again.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// What git answers; nothing outside a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
