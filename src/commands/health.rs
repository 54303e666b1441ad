//! `patchlight health`: for container health checks, where there is no curl.

mod tls;

use std::{env, net::SocketAddr, process::ExitCode, time::Duration};

use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime,
    time::timeout,
};

use super::fail;
use crate::args::HealthArgs;

/// A server that does not answer a probe within this time is not healthy.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(args: &HealthArgs) -> ExitCode {
    let url = args.url.clone().unwrap_or_else(default_url);
    let outcome = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(ask(&url)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, format!("{url}: {error}")),
    }
}

/// The server of this container: where `PATCHLIGHT_LISTEN` says, by way of the loopback.
fn default_url() -> String {
    let listen = env::var("PATCHLIGHT_LISTEN")
        .ok()
        .and_then(|text| text.parse::<SocketAddr>().ok());
    let port = listen.map_or(8080, |address| address.port());
    let scheme = match env::var_os("PATCHLIGHT_TLS_CERT") {
        Some(_) => "https",
        None => "http",
    };
    match listen {
        Some(address) if !address.ip().is_unspecified() => format!("{scheme}://{address}"),
        _ => format!("{scheme}://127.0.0.1:{port}"),
    }
}

async fn ask(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    let authority = uri
        .authority()
        .ok_or("a URL such as http://127.0.0.1:8080 is expected")?;
    let (encrypted, port) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => return Err("only http:// and https:// can be asked".to_owned()),
    };
    let address = (
        authority.host().trim_matches(['[', ']']).to_owned(),
        authority.port_u16().unwrap_or(port),
    );
    let path = match uri.path() {
        "" | "/" => "/readyz",
        path => path,
    };
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let socket = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        match encrypted {
            false => exchange(socket, request).await,
            true => exchange(tls::wrap(socket).await?, request).await,
        }
    };
    let answer = timeout(PROBE_TIMEOUT, answer)
        .await
        .map_err(|_| "no answer in time".to_owned())??;
    if answer.is_success() {
        return Ok(());
    }
    Err(format!("not ready ({answer})"))
}

/// The status of the answer.
async fn exchange<S>(socket: S, request: Request<Empty<Bytes>>) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    answer
        .map(|answer| answer.status())
        .map_err(|error| error.to_string())
}
