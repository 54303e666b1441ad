use std::sync::Mutex;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A server that answers each request with the next of these, and what it was asked.
async fn server(answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let count = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            heard.lock().unwrap().push(head);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, asked)
}

fn found(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn moved(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

fn fetcher(from: &str, limit: u64) -> ImageFetcher {
    let from = match from {
        "" => FetchFrom::default(),
        text => text.parse().unwrap(),
    };
    ImageFetcher::new(from, limit, Arc::new(Metrics::new().unwrap()))
}

async fn fetch(fetcher: &ImageFetcher, url: &str) -> (Result<Bytes>, u64) {
    let mut held = 0;
    let mut hold = |bytes| {
        held += bytes;
        Ok(())
    };
    let outcome = fetcher.fetch(url, Duration::from_secs(10), &mut hold).await;
    (outcome, held)
}

#[track_caller]
fn code(outcome: (Result<Bytes>, u64)) -> &'static str {
    outcome.0.unwrap_err().code()
}

#[tokio::test]
async fn an_image_comes_with_its_bytes_counted_and_nothing_of_the_client_goes_along() {
    let (port, asked) = server(vec![found("pixels")]).await;
    let fetcher = fetcher(&format!("http://127.0.0.1:{port}"), 100);
    let (bytes, held) = fetch(&fetcher, &format!("http://127.0.0.1:{port}/a?b=c#d")).await;
    assert_eq!(bytes.unwrap(), "pixels");
    assert_eq!(held, 6);
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked:?}");
    assert!(!asked[0].to_lowercase().contains("authorization"));
}

#[tokio::test]
async fn nothing_is_fetched_unless_the_operator_says_so() {
    assert_eq!(
        code(fetch(&fetcher("", 100), "https://example.org/x").await),
        "fetch_not_allowed"
    );
}

#[tokio::test]
async fn a_name_that_leads_into_a_private_network_is_refused_unless_that_was_named() {
    let (port, asked) = server(vec![found("secret")]).await;
    let url = format!("http://localhost:{port}/");
    let named = fetcher(&format!("http://localhost:{port}"), 100);
    assert_eq!(code(fetch(&named, &url).await), "fetch_not_allowed");
    assert!(asked.lock().unwrap().is_empty(), "it was connected to");
    let with_range = fetcher(&format!("http://localhost:{port},127.0.0.0/8"), 100);
    assert_eq!(fetch(&with_range, &url).await.0.unwrap(), "secret");
}

#[tokio::test]
async fn redirects_stay_on_the_list() {
    let (port, _) = server(vec![moved("/there"), found("pixels")]).await;
    let list = format!("http://127.0.0.1:{port}");
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(fetch(&fetcher(&list, 100), &url).await.0.unwrap(), "pixels");
    for elsewhere in [
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "https://example.org/",
        "http://2130706433/",
        "file:///etc/passwd",
        "//[::ffff:127.0.0.1]/",
    ] {
        let (port, _) = server(vec![moved(elsewhere)]).await;
        let list = format!("http://127.0.0.1:{port}");
        let url = format!("http://127.0.0.1:{port}/");
        let refused = code(fetch(&fetcher(&list, 100), &url).await);
        assert_eq!(refused, "fetch_not_allowed", "{elsewhere}");
    }
    let (port, _) = server(vec![moved("/again"); 10]).await;
    let list = format!("http://127.0.0.1:{port}");
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(
        code(fetch(&fetcher(&list, 100), &url).await),
        "image_not_fetched"
    );
}

#[tokio::test]
async fn of_the_addresses_that_a_name_has_only_those_that_may_be_are_left() {
    // As one that is asked twice would be told another one: it is not asked twice.
    let fetcher = fetcher("example.org, 10.1.0.0/16", 100);
    let found = [
        "10.0.0.1:443",
        "93.184.216.34:443",
        "[::1]:443",
        "10.1.0.1:443",
    ];
    let found = found.map(|address| address.parse().unwrap());
    let left = fetcher.allowed("example.org", found.into_iter());
    assert_eq!(left, [found[1], found[3]]);
}

#[tokio::test]
async fn what_is_too_long_is_refused_whether_it_says_so_or_not() {
    let long = "x".repeat(101);
    let (port, _) = server(vec![
        found(&long),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{long}"),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npix".to_owned(),
    ])
    .await;
    let fetcher = fetcher(&format!("http://127.0.0.1:{port}"), 100);
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(code(fetch(&fetcher, &url).await), "body_too_large");
    assert_eq!(code(fetch(&fetcher, &url).await), "body_too_large");
    let missing = fetch(&fetcher, &url).await.0.unwrap_err().to_string();
    assert!(
        missing.contains("404") && !missing.contains("secret"),
        "{missing}"
    );
    assert_eq!(code(fetch(&fetcher, &url).await), "image_not_fetched");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_no_longer_than_the_request_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fetcher = fetcher(&format!("http://{address}"), 100);
    let mut hold = |_| Ok(());
    let url = format!("http://{address}/");
    let outcome = fetcher.fetch(&url, Duration::from_millis(50), &mut hold);
    assert_eq!(outcome.await.unwrap_err().code(), "image_not_fetched");
}

#[tokio::test]
async fn without_memory_for_it_nothing_more_is_read() {
    let (port, _) = server(vec![found("pixels")]).await;
    let fetcher = fetcher(&format!("http://127.0.0.1:{port}"), 100);
    let full = Error::Overloaded {
        retry_after: Duration::from_secs(1),
    };
    let mut hold = |_| Err(full.clone());
    let url = format!("http://127.0.0.1:{port}/");
    let outcome = fetcher
        .fetch(&url, Duration::from_secs(10), &mut hold)
        .await;
    assert_eq!(outcome.unwrap_err(), full);
}
