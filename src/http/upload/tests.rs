use axum::http::HeaderValue;

use super::*;

fn typed(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
}

async fn sent_in(content_type: &'static str, body: &'static str) -> Result<Vec<SentImage>> {
    read_images(&typed(content_type), Bytes::from_static(body.as_bytes())).await
}

async fn images_in(content_type: &'static str, body: &'static str) -> Result<Vec<Bytes>> {
    let images = sent_in(content_type, body).await?;
    let bytes = images.into_iter().map(|image| match image {
        SentImage::Bytes(bytes) => bytes,
        SentImage::Url(url) => panic!("{url} is no image"),
    });
    Ok(bytes.collect())
}

#[tokio::test]
async fn json_names_an_image_by_its_url_or_has_it() {
    let url = r#"{"url": "https://example.org/cat.jpg"}"#;
    let expected = SentImage::Url("https://example.org/cat.jpg".to_owned());
    assert_eq!(sent_in("application/json", url).await.unwrap(), [expected]);
    for neither in [
        r#"{"url": "https://a/b", "image": "cmF3"}"#,
        r#"{"url": null}"#,
    ] {
        let error = sent_in("application/json", neither).await.unwrap_err();
        assert!(
            error.to_string().contains("one of `image` and `url`"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn any_other_content_type_is_the_image_itself() {
    for content_type in [
        "",
        "image/png",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        assert_eq!(images_in(content_type, "raw").await.unwrap(), ["raw"]);
    }
}

#[tokio::test]
async fn multipart_parts_come_in_their_order() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\none\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ntwo\r\n--b--\r\n";
    assert_eq!(
        images_in("multipart/form-data; boundary=b", body)
            .await
            .unwrap(),
        ["one", "two"]
    );
}

#[tokio::test]
async fn an_unknown_part_is_named() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"img\"\r\n\r\none\r\n--b--\r\n";
    let error = images_in("multipart/form-data; boundary=b", body)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`img`"), "{error}");
}

#[tokio::test]
async fn multipart_without_boundary_or_parts_is_malformed() {
    for (content_type, body) in [
        ("multipart/form-data", "x"),
        ("multipart/form-data; boundary=b", "--b--\r\n"),
        ("multipart/form-data; boundary=b", "nothing of the kind"),
    ] {
        let error = images_in(content_type, body).await.unwrap_err();
        assert!(matches!(error, Error::MalformedRequest(_)), "{error}");
    }
}

#[tokio::test]
async fn json_takes_base64_and_data_urls() {
    for body in [
        r#"{"image": "cmF3"}"#,
        r#"{"image": "cmF3Lg"}"#,
        r#"{"image": "cmF3Lg=="}"#,
        r#"{"image": "data:image/png;base64,cmF3"}"#,
    ] {
        let found = images_in("application/json; charset=utf-8", body)
            .await
            .unwrap();
        assert!(found[0].starts_with(b"raw"));
    }
}

#[tokio::test]
async fn json_of_another_form_says_what_is_expected() {
    for body in [
        "{}",
        "[]",
        r#"{"image": 3}"#,
        r#"{"image": "%%"}"#,
        r#"{"image": ""}"#,
        r#"{"image": "a", "k": 1}"#,
    ] {
        let error = images_in("application/json", body).await.unwrap_err();
        assert!(
            matches!(error, Error::MalformedRequest(_)),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn an_empty_body_says_how_to_send_one() {
    assert!(
        images_in("image/png", "")
            .await
            .unwrap_err()
            .to_string()
            .contains("curl")
    );
}
