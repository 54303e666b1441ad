//! One request over one connection, to an address that was chosen before.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;
use url::Url;

/// How long an address may take to be connected to, TLS included, before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to trust.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// The authorities that this machine trusts, or those that `SSL_CERT_FILE` names.
    pub(super) fn of_machine() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::with(roots)
    }

    pub(super) fn without_authorities() -> Self {
        Self::with(RootCertStore::empty())
    }

    fn with(roots: RootCertStore) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        #[expect(
            clippy::expect_used,
            reason = "ring has what both versions of TLS need"
        )]
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("both versions of TLS");
        Self(Arc::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        ))
    }
}

/// A request that is under way.
pub(super) struct Connection;

impl Connection {
    /// Asks the first of these addresses that answers.
    ///
    /// # Errors
    /// Why the last one did not.
    pub(super) async fn get(
        url: &Url,
        addresses: &[SocketAddr],
        tls: &Tls,
    ) -> io::Result<Response<Incoming>> {
        let mut last = io::Error::other("there is no address");
        for &address in addresses {
            match time::timeout(CONNECT_TIMEOUT, connect(url, address, tls)).await {
                Ok(Ok(mut sender)) => {
                    let answer = sender.send_request(request(url)?).await;
                    return answer.map_err(io::Error::other);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

type Sender = http1::SendRequest<Empty<Bytes>>;

async fn connect(url: &Url, address: SocketAddr, tls: &Tls) -> io::Result<Sender> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    if url.scheme() != "https" {
        return handshake(socket).await;
    }
    let host = url.host_str().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(&tls.0));
    handshake(connector.connect(name, socket).await?).await
}

async fn handshake(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> io::Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(io::Error::other)?;
    // It ends when the body has been read or is dropped.
    tokio::spawn(connection);
    Ok(sender)
}

fn request(url: &Url) -> io::Result<Request<Empty<Bytes>>> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    Request::get(path)
        .header(header::HOST, host)
        .header(
            header::USER_AGENT,
            concat!("patchlight/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::ACCEPT, "image/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(io::Error::other)
}
