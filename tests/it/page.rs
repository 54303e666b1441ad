//! The page: as served, and in a real browser where there is one.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    client::{get, get_with},
    process::Server,
};

#[tokio::test]
async fn page_is_served_with_its_policy_and_not_sent_twice() {
    let server = Server::demo();
    let page = get(&server.address, "/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let policy = page.header("content-security-policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }

    let again = get_with(
        &server.address,
        "/",
        &[("if-none-match", page.header("etag"))],
    )
    .await;
    assert_eq!(again.status, 304);
    assert!(again.body.is_empty());

    let script = get(&server.address, "/page/page.js").await;
    assert_eq!(
        script.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_ne!(script.header("etag"), page.header("etag"));
    get(&server.address, "/page/other.js")
        .await
        .is_problem(404, "not_found");
    get(&server.address, "/samples/../Cargo.toml")
        .await
        .is_problem(404, "not_found");
}

/// Runs `tests/page/page.test.mjs`, which says what it checks.
#[test]
fn page_works_in_chromium() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    if let Some(missing) = missing() {
        assert!(env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing}; .ci/run installs it");
        return;
    }
    let installed = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--silent"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .status();
    assert!(
        installed.expect("npm runs").success(),
        "npm ci failed in tests/page"
    );

    let server = Server::start(&["--allow-verify", "--drain-delay", "200ms"]);
    let tested = Command::new("node")
        .args(["--test", "--test-reporter=spec", "page.test.mjs"])
        .env("PATCHLIGHT_ADDRESS", &server.address)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .status();
    assert!(
        tested.expect("node runs").success(),
        "the page failed in Chromium"
    );
}

/// Runs `tests/page/prefix.test.mjs`, which wants no browser.
#[test]
fn page_stays_below_the_path_that_a_proxy_puts_before_it() {
    if !runs("node") {
        assert!(env::var_os("CI").is_none(), "node is not here");
        eprintln!("skipped: node is not here; .ci/run installs it");
        return;
    }
    let tested = Command::new("node")
        .args(["--test", "prefix.test.mjs"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page"))
        .stdin(Stdio::null())
        .status();
    assert!(tested.expect("node runs").success());
}

fn runs(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

/// What is needed to drive a browser and is not here.
fn missing() -> Option<&'static str> {
    // The names in tests/page/browser.mjs.
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    if !runs("node") || !runs("npm") {
        return Some("node and npm are not here");
    }
    let chosen = env::var_os("CHROMIUM").is_some();
    let found = chosen
        || browsers
            .iter()
            .any(|name| Path::new("/usr/bin").join(name).exists());
    (!found).then_some("Chromium is not here")
}
