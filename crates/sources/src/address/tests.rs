use super::*;

fn hub(text: &str) -> (String, String) {
    match Source::parse(text).unwrap() {
        Source::Hub(address) => (address.id(), address.revision.as_str().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_with_and_without_a_revision() {
    let id = |id: &str, revision: &str| (id.to_owned(), revision.to_owned());
    assert_eq!(hub("hf://google/vit-base"), id("google/vit-base", "main"));
    assert_eq!(hub("google/vit-base"), id("google/vit-base", "main"));
    assert_eq!(hub("hf://a/b@refs/pr/1"), id("a/b", "refs/pr/1"));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(hub(&format!("a/b@{commit}")), id("a/b", commit));
}

#[test]
fn a_directory_that_is_there_goes_before_a_name_on_the_hub() {
    assert_eq!(
        Source::parse("src/hub").unwrap(),
        Source::Local("src/hub".into())
    );
}

#[test]
fn paths_stay_paths_where_nothing_is_there() {
    for path in [
        "/models/vit",
        "./a/b",
        "../a/b",
        "a/b/c",
        "weights.pth",
        "a/b/",
        "~/a",
        "C:\\a",
    ] {
        assert_eq!(
            Source::parse(path).unwrap(),
            Source::Local(path.into()),
            "{path}"
        );
    }
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    for text in [
        "hf://",
        "hf://a",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/..",
        "hf://a/b@",
        "hf://a/b@../../c",
        "hf://a/b@x//y",
        "hf://a/b@.hidden",
        "hf://a/b c",
        "hf://a/b?x=1",
        "hf://a--x/b",
    ] {
        assert!(Source::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_unknown_scheme_is_named() {
    let error = Source::parse("ftp://host/model").unwrap_err().to_string();
    assert!(error.contains("`ftp://`"), "{error}");
}

#[test]
fn display_is_what_was_typed() {
    for text in ["hf://a/b", "hf://a/b@v1.0"] {
        assert_eq!(Source::parse(text).unwrap().to_string(), text);
    }
}

fn shown(text: &str) -> (String, String) {
    let source = Source::parse(text).unwrap();
    (source.to_string(), source.model_name())
}

#[test]
fn buckets_and_web_servers_are_named_by_their_last_part() {
    for (text, name) in [
        ("s3://bucket/models/vit-l", "vit-l"),
        ("s3://bucket", "bucket"),
        ("gs://bucket/a/vit.tar.gz", "vit"),
        ("az://container/a/model.safetensors", "a"),
        (
            "https://example.com/vit_b_16-c867db91.pth",
            "vit_b_16-c867db91",
        ),
        ("https://example.com:8443/a/b%20c.zip", "b-c"),
    ] {
        assert_eq!(shown(text).1, name, "{text}");
    }
    assert_eq!(
        shown("s3://bucket/models/vit-l/").0,
        "s3://bucket/models/vit-l"
    );
    // A folder that is called like a file stays one.
    assert_eq!(shown("s3://bucket/vit.zip/").0, "s3://bucket/vit.zip/");
}

#[test]
fn a_signature_is_sent_and_not_shown() {
    let signed = "https://example.com/m/vit.safetensors?X-Amz-Signature=secret";
    let source = Source::parse(signed).unwrap();
    assert_eq!(source.to_string(), "https://example.com/m/vit.safetensors");
    let Source::Web(address) = source else {
        panic!("no web address");
    };
    assert_eq!(address.url_of("vit.safetensors"), signed);
    let wrong = Source::parse("https://example.com/folder/?token=secret").unwrap_err();
    assert!(!wrong.to_string().contains("secret"), "{wrong}");
}

#[test]
fn without_tls_weights_have_to_be_known_or_near() {
    assert!(Source::parse("http://127.0.0.1:9000/m/vit.zip").is_ok());
    assert!(Source::parse("http://[::1]:9000/m/").is_ok());
    let error = Source::parse("http://example.com/m/vit.zip").unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    let pinned = format!("http://example.com/m/vit.zip#sha256={}", "0a".repeat(32));
    assert_eq!(Source::parse(&pinned).unwrap().to_string(), pinned);
    for text in [
        "https://example.com/m/vit.zip#sha256=12",
        "https://example.com/m/#sha256=0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
        "https://user:word@example.com/m/vit.zip",
    ] {
        assert!(Source::parse(text).is_err(), "{text}");
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for text in [
        "s3://",
        "s3:///key",
        "s3://bucket/../other/key",
        "s3://bucket/a//b",
        "s3://bu cket/a",
        "https://example.com/a/%2e%2e/b.zip",
        "https://",
        "oci://registry/image",
    ] {
        assert!(Source::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_hubs_page_in_a_browser_is_the_model() {
    for (text, id) in [
        (
            "https://huggingface.co/google/vit-base",
            "hf://google/vit-base",
        ),
        ("https://hf.co/a/b/", "hf://a/b"),
        ("https://huggingface.co/a/b/tree/v1", "hf://a/b@v1"),
    ] {
        assert_eq!(shown(text).0, id);
    }
    let file = "https://huggingface.co/a/b/resolve/main/x.safetensors";
    assert_eq!(shown(file).0, file);
}
