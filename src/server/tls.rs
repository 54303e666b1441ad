//! TLS: a certificate chain and its key from PEM files, followed when they are renewed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::watched::LOOK_EVERY;

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

/// What the two files held.
#[derive(Eq, PartialEq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read, is not PEM, or the key is not the certificate's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, String> {
        let config = Pem::read(certificate, key)?.config(certificate, key)?;
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
            match read.as_ref().map(|pem| pem.config(certificate, key)) {
                Some(Ok(config)) => {
                    tracing::info!(certificate = %certificate.display(), "TLS certificate renewed");
                    self.replace(config);
                }
                Some(Err(why)) => tracing::error!(why, "the TLS certificate stays as it was"),
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
    fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let read = |path: &Path| fs::read(path).map_err(|why| format!("{}: {why}", path.display()));
        Ok(Self {
            certificate: read(certificate)?,
            key: read(key)?,
        })
    }

    fn config(&self, certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| format!("{}: {why}", certificate.display()))?;
        if chain.is_empty() {
            return Err(format!(
                "{}: there is no certificate in it; PEM is expected, the server's own first",
                certificate.display()
            ));
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|why| format!("{}: no private key in PEM: {why}", key.display()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|why| format!("{} with {}: {why}", certificate.display(), key.display()))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
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

        fn load(&self) -> Result<Tls, String> {
            Tls::load(&self.certificate(), &self.key())
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
        let mixed = Tls::load(&files.certificate(), &other.key()).unwrap_err();
        assert!(mixed.contains("tls.key"), "{mixed}");

        fs::write(files.certificate(), "").unwrap();
        assert!(files.load().unwrap_err().contains("tls.crt"));
        fs::write(other.key(), "not a key").unwrap();
        assert!(other.load().unwrap_err().contains("tls.key"));
        fs::remove_file(other.key()).unwrap();
        assert!(other.load().unwrap_err().contains("tls.key"));
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
