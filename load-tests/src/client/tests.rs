//! Against a small server on a socket of this machine.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::drive::{Load, Plan, drive};

/// What the small server saw.
#[derive(Default)]
pub(crate) struct ReceivedRequest {
    bodies: Mutex<Vec<Bytes>>,
    at_once: AtomicUsize,
    max_concurrent: AtomicUsize,
}

/// Answers `/classify` by its image: `503` for "busy", nothing ever for "stuck", a cut answer
/// for "cut", else 200; and `/metrics`.
async fn serve() -> (Uri, Arc<ReceivedRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/classify", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let seen = Arc::new(ReceivedRequest::default());
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&shared);
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    (url, seen)
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<ReceivedRequest>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/metrics" {
        return Ok(Response::new("patchlight_batch_size_count 3\n".into()));
    }
    let now = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    seen.max_concurrent.fetch_max(now, Ordering::SeqCst);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen.bodies.lock().unwrap().push(body.clone());
    // Lets the other requests of this moment in before this one goes.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    seen.at_once.fetch_sub(1, Ordering::SeqCst);
    let response = match &body[..] {
        b"stuck" => std::future::pending().await,
        b"busy" => Response::builder().status(503).body("later".into()),
        b"cut" => Response::builder()
            .header("content-length", "100")
            .body("short".into()),
        _ => Response::builder().body("{}".into()),
    };
    Ok(response.unwrap())
}

async fn client(images: &[&'static str], timeout: Duration) -> (Client, Arc<ReceivedRequest>) {
    let (url, seen) = serve().await;
    let images = images.iter().map(|&p| Bytes::from(p)).collect();
    (Client::new(url, images, timeout), seen)
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn images_are_sent_in_turn_and_whole() {
    let (client, seen) = client(&["one", "two"], LONG).await;
    for number in 0..3 {
        assert_eq!(client.classify(number).await, Outcome::Answer(200));
    }
    assert_eq!(*seen.bodies.lock().unwrap(), ["one", "two", "one"]);
}

#[tokio::test]
async fn refusals_cut_answers_and_silence_are_told_apart() {
    let (client, _) = client(&["busy", "cut", "stuck"], Duration::from_millis(200)).await;
    assert_eq!(client.classify(0).await, Outcome::Answer(503));
    assert_eq!(client.classify(1).await, Outcome::ConnectionFailed);
    assert_eq!(client.classify(2).await, Outcome::TimedOut);
}

#[tokio::test]
async fn no_listener_is_a_failed_connection() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let client = Client::new(
        format!("http://{port}/").parse().unwrap(),
        vec!["x".into()],
        LONG,
    );
    assert_eq!(client.classify(0).await, Outcome::ConnectionFailed);
    let error = client
        .get(format!("http://{port}/metrics").parse().unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/metrics"), "{error}");
}

#[tokio::test]
async fn metrics_are_read_as_text() {
    let (client, _) = client(&["x"], LONG).await;
    let metrics = client
        .url
        .to_string()
        .replace("classify", "metrics")
        .parse()
        .unwrap();
    assert_eq!(
        client.get(metrics).await.unwrap(),
        "patchlight_batch_size_count 3\n"
    );
}

#[tokio::test]
async fn a_closed_loop_over_sockets_stops_at_its_count_and_never_exceeds_its_clients() {
    let (client, seen) = client(&["one", "busy"], LONG).await;
    let client = Arc::new(client);
    let plan = Plan {
        load: Load::Closed { clients: 4 },
        duration: LONG,
        max_requests: 50,
    };
    let tally = drive(&plan, move |number| {
        let client = Arc::clone(&client);
        async move { client.classify(number).await }
    })
    .await
    .unwrap();
    assert_eq!(tally.outcomes[&Outcome::Answer(200)], 25);
    assert_eq!(tally.outcomes[&Outcome::Answer(503)], 25);
    assert_eq!(seen.bodies.lock().unwrap().len(), 50);
    assert!(seen.max_concurrent.load(Ordering::SeqCst) <= 4);
}
