//! HTTPS as a client sees it: which versions are spoken, and with which certificate.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::process::{Server, models, program};

/// Writes a certificate for `localhost` that signs itself, and its key.
pub(crate) fn certify(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
}

fn start(folder: &Path) -> Server {
    let path = |name| folder.join(name).to_str().unwrap().to_owned();
    Server::start(&[
        "--tls-cert",
        &path("tls.crt"),
        "--tls-key",
        &path("tls.key"),
    ])
}

async fn connect(server: &Server, folder: &Path, protocol: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap();
    roots.add(trusted).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let socket = TcpStream::connect(&server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket);
    let socket = socket.await.expect("the certificate is the one on disk");
    let agreed = socket.get_ref().1.alpn_protocol();
    assert_eq!(agreed, Some(protocol.as_bytes()));
    socket
}

#[tokio::test]
async fn both_versions_are_spoken_and_the_probe_finds_its_server() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let server = start(folder.path());
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let request = || {
        Request::post("https://localhost/classify")
            .header("host", "localhost")
            .body(Full::new(Bytes::from(dog.clone())))
            .unwrap()
    };

    let socket = TokioIo::new(connect(&server, folder.path(), "http/1.1").await);
    let (mut sender, connection) = http1::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let one = sender.send_request(request()).await.unwrap();
    assert_eq!(one.status(), 200);
    let one = one.into_body().collect().await.unwrap().to_bytes();

    let socket = TokioIo::new(connect(&server, folder.path(), "h2").await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), socket)
        .await
        .unwrap();
    tokio::spawn(connection);
    let two = sender.send_request(request()).await.unwrap();
    assert_eq!(
        (two.status().as_u16(), two.version()),
        (200, hyper::Version::HTTP_2)
    );
    let two = two.into_body().collect().await.unwrap().to_bytes();

    let predictions = |body: &[u8]| -> serde_json::Value {
        let answer: serde_json::Value = serde_json::from_slice(body).unwrap();
        answer["predictions"].clone()
    };
    assert_eq!(predictions(&one), predictions(&two));

    let url = format!("https://{}", server.address);
    let healthy = program().args(["health", &url]).status().unwrap();
    assert_eq!(healthy.code(), Some(0));
    // Plain HTTP finds nothing there.
    let url = format!("http://{}", server.address);
    let plain = program().args(["health", &url]).status().unwrap();
    assert_eq!(plain.code(), Some(1));
}

/// The whole key was printed to standard error, in decimal.
#[test]
fn a_key_that_lost_its_line_ends_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let key = folder.path().join("tls.key");
    let text = fs::read_to_string(&key).unwrap().replace('\n', "");
    fs::write(&key, &text).unwrap();
    let certificate = folder.path().join("tls.crt");
    let started = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--tls-cert"])
        .arg(certificate)
        .arg("--tls-key")
        .arg(&key)
        .output()
        .unwrap();
    assert_eq!(started.status.code(), Some(64));
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(
        said.contains("tls.key") && said.contains("line ends"),
        "{said}"
    );
    // Neither its letters nor their numbers.
    let letters = text.trim_start_matches("-----BEGIN PRIVATE KEY-----");
    let numbers: Vec<String> = letters
        .bytes()
        .take(4)
        .map(|byte| byte.to_string())
        .collect();
    assert!(!said.contains(&letters[..8]), "{said}");
    assert!(!said.contains(&numbers.join(", ")), "{said}");
}

#[test]
fn files_that_do_not_fit_are_faults_of_the_configuration() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certify(one.path());
    certify(other.path());
    let certificate = one.path().join("tls.crt");
    let key = other.path().join("tls.key");
    let serve = |flags: &[&str]| {
        let output = program().arg("serve").args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let certificate = certificate.to_str().unwrap();
    let (code, said) = serve(&[
        "--tls-cert",
        certificate,
        "--tls-key",
        key.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("tls.key"), "{said}");
    let (code, said) = serve(&["--tls-cert", certificate, "--cors-origin", "example.org"]);
    assert_eq!(code, Some(64), "{said}");
    assert!(
        said.contains("--tls-key") && said.contains("--cors-origin"),
        "{said}"
    );
}
