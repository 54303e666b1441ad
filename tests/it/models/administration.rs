//! The admin listener: who may, and what is wrong with a request.

use hyper::Method;

use super::{ManagedServer, keyed};
use crate::client::get;

#[tokio::test]
async fn administration_wants_a_key_and_tells_what_is_wrong() {
    let managed = ManagedServer::start();
    for path in ["/admin/models", "/admin/models/first"] {
        get(&managed.admin, path)
            .await
            .is_problem(401, "unauthorized");
        // Only there.
        let elsewhere = keyed(&managed.server.address, Method::GET, path, "").await;
        elsewhere.is_problem(404, "not_found");
    }
    let list = managed.admin(Method::GET, "/admin/models", "").await.json();
    assert_eq!(list["default"], "first");
    assert_eq!(list["models"][0]["name"], "first");
    assert!(list["models"][0]["classes"].as_u64() > Some(1), "{list}");

    let wrong: [(Method, &str, &str, u16, &str); 8] = [
        (Method::GET, "/admin/models/x", "", 404, "no_such_model"),
        (Method::DELETE, "/admin/models/x", "", 404, "no_such_model"),
        (
            Method::POST,
            "/admin/models/x/reload",
            "",
            404,
            "no_such_model",
        ),
        (
            Method::DELETE,
            "/admin/models/first",
            "",
            409,
            "default_model",
        ),
        (
            Method::PUT,
            "/admin/models/a%20b",
            "{}",
            400,
            "invalid_parameter",
        ),
        (
            Method::PUT,
            "/admin/models/b",
            "{}",
            400,
            "malformed_request",
        ),
        (Method::PUT, "/admin/models", "", 405, "method_not_allowed"),
        (
            Method::POST,
            "/admin/models",
            "{}",
            400,
            "malformed_request",
        ),
    ];
    for (method, path, body, status, code) in wrong {
        managed
            .admin(method, path, body)
            .await
            .is_problem(status, code);
    }

    // Metrics move here; health is on both.
    get(&managed.server.address, "/metrics")
        .await
        .is_problem(404, "not_found");
    for (address, path) in [
        (&managed.admin, "/metrics"),
        (&managed.admin, "/healthz"),
        (&managed.admin, "/readyz"),
        (&managed.server.address, "/readyz"),
    ] {
        assert_eq!(get(address, path).await.status, 200, "{path}");
    }
}

/// The audit log says later who did what: a client cannot write lines of its own into it.
#[tokio::test]
async fn what_is_asked_for_stays_within_its_line_of_the_audit_log() {
    let forged = "2027-01-01T00:00:00Z  INFO patchlight::audit: done";
    for format in ["text", "json"] {
        let managed = ManagedServer::start_with(&["--log-format", format]);
        let directory = format!("/nowhere\n{forged}\r\u{1b}[1A\u{9b}2K\u{202e}");
        let body = serde_json::json!({ "directory": directory }).to_string();
        let answer = managed.admin(Method::PUT, "/admin/models/x", &body).await;
        answer.is_problem(422, "model_refused");

        let log = managed.log_with("refused").await;
        let line = log.iter().find(|line| line.contains("/nowhere")).unwrap();
        assert!(
            line.contains("patchlight::audit") && line.contains(forged),
            "{line}"
        );
        assert!(!log.iter().any(|line| line.starts_with(forged)), "{log:#?}");
        let acts = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!line.contains(acts), "{line:?}");
    }
}
