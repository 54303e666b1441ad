//! Maps as images: how they are kept by clients, and that drawing them takes nothing from those
//! who want labels.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::Method;
use serde_json::Value;

use crate::{
    client::{self, get, get_with, post},
    process::{Server, models},
    service::map_of,
};

/// The sample image with the most pixels, which takes the longest to draw on.
fn largest_sample() -> Vec<u8> {
    let listing = fs::read(models("samples/samples.json")).unwrap();
    let listing: Vec<Value> = serde_json::from_slice(&listing).unwrap();
    let pixels = |sample: &Value| sample["width"].as_u64().zip(sample["height"].as_u64());
    let largest = listing
        .iter()
        .max_by_key(|sample| pixels(sample).map(|(width, height)| width * height))
        .unwrap();
    let file = largest["file"].as_str().unwrap();
    fs::read(models("samples").join(file)).unwrap()
}

#[tokio::test]
async fn every_form_has_its_tag_and_is_not_sent_to_a_client_that_has_it() {
    let server = Server::demo();
    let map = map_of(&post(&server.address, "/classify", largest_sample()).await);
    let mut tags = Vec::new();
    for query in [
        "format=png",
        "format=json",
        "format=npy",
        "view=contour",
        "start_layer=1",
    ] {
        let path = format!("{map}?{query}");
        let whole = get(&server.address, &path).await;
        assert_eq!(whole.status, 200, "{query}");
        let etag = whole.header("etag");
        // Strong: the bytes are the same whenever it is the same.
        assert!(
            etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2,
            "{etag}"
        );
        let cache = whole.header("cache-control");
        for word in ["private", "immutable", "max-age="] {
            assert!(cache.contains(word), "{query}: {cache}");
        }
        assert_eq!(
            get(&server.address, &path).await.body,
            whole.body,
            "{query}"
        );

        let head = client::send(&server.address, Method::HEAD, &path, &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), whole.body.len().to_string());
        for name in ["etag", "content-type", "vary"] {
            assert_eq!(head.header(name), whole.header(name), "{query} {name}");
        }

        for held in [
            etag.to_owned(),
            format!("\"other\", {etag}"),
            format!("W/{etag}"),
            "*".to_owned(),
        ] {
            let again = get_with(&server.address, &path, &[("if-none-match", &held)]).await;
            assert_eq!(
                (again.status.as_u16(), again.body.len()),
                (304, 0),
                "{held}"
            );
            for name in ["etag", "vary"] {
                assert_eq!(again.header(name), whole.header(name));
            }
        }
        let other = get_with(&server.address, &path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status, 200);
        tags.push(etag.to_owned());
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 5, "two forms have the same tag");

    // What is negotiated is the same as what is named, and tells caches that it was negotiated.
    let json = [("accept", "application/json")];
    let negotiated = get_with(&server.address, &map, &json).await;
    assert_eq!(negotiated.header("vary"), "Accept");
    assert!(tags.contains(&negotiated.header("etag").to_owned()));
}

/// Clients ask for more maps than can be drawn in the time of many classifications, and a
/// classification is answered before all of them are drawn.
#[tokio::test]
async fn many_renderings_do_not_hold_up_classification() {
    const RENDERINGS: usize = 60;
    let server = Server::start(&["--threads", "2", "--drain-delay", "200ms"]);
    let image = largest_sample();
    let map = map_of(&post(&server.address, "/classify", image.clone()).await);
    let served = Arc::new(AtomicUsize::new(0));
    let renderings: Vec<_> = (0..RENDERINGS)
        .map(|at| {
            // Each strength is an image of its own.
            let path = format!("{map}?alpha={}", at as f32 / RENDERINGS as f32);
            let (address, served) = (server.address.clone(), Arc::clone(&served));
            tokio::spawn(async move {
                let answer = get(&address, &path).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                served.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    while served.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let labels = post(&server.address, "/classify?attention=none", image).await;
    let before_labels = served.load(Ordering::SeqCst);
    assert_eq!(labels.status, 200, "{}", labels.text());
    assert!(
        before_labels < RENDERINGS,
        "labels came after {before_labels} of {RENDERINGS} images"
    );
    for rendering in renderings {
        rendering.await.unwrap();
    }
}
