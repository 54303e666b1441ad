//! TLS: a certificate chain and its key from PEM files, followed when they are renewed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use tokio_rustls::TlsAcceptor;

use crate::{
    secret_file::{SecretFile, SecretFileError},
    watched::LOOK_EVERY,
};

/// HTTP versions offered in the handshake (RFC 7301), the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate in force. A handle; clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

/// What the two files held. The certificate is no secret, but its file may hold the key as well, or
/// be the key's by mistake.
#[derive(Eq, PartialEq)]
struct Pem {
    certificate: SecretFile,
    key: SecretFile,
}

/// What begins a key that is encrypted: PKCS #8 (RFC 5958), and what OpenSSL wrote before.
const ENCRYPTED: [&[u8]; 2] = [
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    b"Proc-Type: 4,ENCRYPTED",
];

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read, is not PEM, or the key is not the certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, SecretFileError> {
        let config = Pem::read(certificate, key)?.config()?;
        Ok(Self(Arc::new(Inner {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(config),
        })))
    }

    /// Follows changes of the files for ever; what is wrong is logged and leaves the old
    /// certificate in force. Needs a tokio runtime.
    pub async fn watch(self) {
        let Inner {
            certificate, key, ..
        } = &*self.0;
        let mut seen = Pem::read(certificate, key).ok();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let read = Pem::read(certificate, key).ok();
            if read == seen {
                continue;
            }
            // Written one after the other, the two may not match until the next look.
            match read.as_ref().map(Pem::config) {
                Some(Ok(config)) => {
                    tracing::info!(certificate = %certificate.display(), "TLS certificate renewed");
                    self.replace(config);
                }
                Some(Err(why)) => tracing::error!(%why, "the TLS certificate stays as it was"),
                None => tracing::error!("the TLS files cannot be read; the certificate stays"),
            }
            seen = read;
        }
    }

    /// Takes the server's side of a handshake, with the certificate of this moment.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = &self.0.current;
        let current = current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    fn replace(&self, config: Arc<ServerConfig>) {
        let current = &self.0.current;
        *current.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl Pem {
    fn read(certificate: &Path, key: &Path) -> Result<Self, SecretFileError> {
        Ok(Self {
            certificate: SecretFile::read(certificate)?,
            key: SecretFile::read(key)?,
        })
    }

    fn config(&self) -> Result<Arc<ServerConfig>, SecretFileError> {
        let Self { certificate, key } = self;
        let chain = CertificateDer::pem_slice_iter(certificate.bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| certificate.error(flaw(&why)))?;
        if chain.is_empty() {
            return Err(certificate
                .error("there is no certificate in it; PEM is expected, the server's own first"));
        }
        let contains = |mark: &&[u8]| key.bytes().windows(mark.len()).any(|part| part == *mark);
        if ENCRYPTED.iter().any(contains) {
            return Err(key.error(
                "the private key is encrypted, and there is nobody to ask for its password; \
                 `openssl pkey -in FILE -out DECRYPTED` writes it without",
            ));
        }
        let private =
            PrivateKeyDer::from_pem_slice(key.bytes()).map_err(|why| key.error(flaw(&why)))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| {
                certificate.error("the TLS library has no protocol in common with itself")
            })?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|why| match why {
                rustls::Error::InconsistentKeys(_) => {
                    key.error("it is not the key of the certificate")
                }
                rustls::Error::InvalidCertificate(_) => {
                    certificate.error("the first certificate in it is damaged or no X.509")
                }
                _ => key.error(
                    "the private key cannot be used; RSA, ECDSA (P-256, P-384, P-521) or Ed25519 \
                     is expected",
                ),
            })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

/// What is wrong with a PEM file (RFC 7468). The library's own words repeat its lines.
fn flaw(why: &pem::Error) -> &'static str {
    match why {
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with -----BEGIN does not end with -----: the line ends of the file \
             may be lost"
        }
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no -----END line: the file is cut off, or its line ends are lost"
        }
        pem::Error::Base64Decode(_) => "what stands between -----BEGIN and -----END is not base64",
        pem::Error::NoItemsFound => "there is no private key in PEM in it",
        _ => "it is not PEM",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let files = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            files.renew();
            files
        }

        fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(self.certificate(), made.cert.pem()).unwrap();
            fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        }

        fn certificate(&self) -> PathBuf {
            self.folder.path().join("tls.crt")
        }

        fn key(&self) -> PathBuf {
            self.folder.path().join("tls.key")
        }

        fn load(&self) -> Result<Tls, SecretFileError> {
            Tls::load(&self.certificate(), &self.key())
        }

        /// Why the files are refused with this key.
        fn refusal(&self, key: &str) -> String {
            fs::write(self.key(), key).unwrap();
            self.load().unwrap_err().to_string()
        }
    }

    fn served(tls: &Tls) -> Arc<ServerConfig> {
        Arc::clone(tls.acceptor().config())
    }

    #[test]
    fn files_that_are_missing_empty_or_not_each_other_s_are_named() {
        let files = Files::new();
        files.load().unwrap();

        let other = Files::new();
        let mixed = Tls::load(&files.certificate(), &other.key())
            .unwrap_err()
            .to_string();
        assert!(mixed.contains("tls.key"), "{mixed}");

        fs::write(files.certificate(), "").unwrap();
        assert!(files.load().unwrap_err().to_string().contains("tls.crt"));
        assert!(other.refusal("not a key").contains("tls.key"));
        fs::remove_file(other.key()).unwrap();
        assert!(other.load().unwrap_err().to_string().contains("tls.key"));
    }

    /// The library's message had the whole key in decimal.
    #[test]
    fn a_key_that_lost_its_line_ends_is_refused_without_being_repeated() {
        let files = Files::new();
        let whole = fs::read_to_string(files.key()).unwrap();
        let one_line = whole.replace('\n', "");
        // Base64 of every PKCS #8 key begins with "MI" or "MC": 77, 73 or 67 in decimal.
        let body = one_line.trim_start_matches("-----BEGIN PRIVATE KEY-----");
        for broken in [
            one_line.clone(),
            whole.replace("-----END PRIVATE KEY-----", ""),
            whole.replacen("PRIVATE KEY-----\nM", "PRIVATE KEY-----\n!M", 1),
        ] {
            let why = files.refusal(&broken);
            assert!(why.contains("tls.key: "), "{why}");
            assert!(!why.contains(&body[..8]) && !why.contains("77, 7"), "{why}");
            assert!(why.len() < 300, "{why}");
        }
        assert!(files.refusal(&one_line).contains("line ends"));
    }

    #[test]
    fn an_encrypted_key_is_called_so() {
        let files = Files::new();
        for header in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFDjBA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
             MIIFDjBA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            let why = files.refusal(header);
            assert!(why.contains("is encrypted"), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let files = Files::new();
        let tls = files.load().unwrap();
        let watching = tokio::spawn(tls.clone().watch());
        let first = served(&tls);
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(Arc::ptr_eq(&first, &served(&tls)), "nothing has changed");

        files.renew();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        let second = served(&tls);
        assert!(!Arc::ptr_eq(&first, &second));

        fs::write(files.key(), "broken").unwrap();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(Arc::ptr_eq(&second, &served(&tls)));
        watching.abort();
    }
}
