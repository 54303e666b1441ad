//! Where Redis is, and how to get in.

use std::{fmt, str::FromStr};

use redis::{Client, ConnectionAddr, IntoConnectionInfo};

/// The address of a Redis or Valkey server: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`,
/// the same with `rediss://` for TLS, or `unix:///PATH?pass=PASSWORD`. It never shows its password.
///
/// With TLS the server's certificate has to be good for HOST and lead to one that the system
/// trusts, or to one in the file that `SSL_CERT_FILE` names.
#[derive(Clone)]
pub struct RedisAddress(Client);

/// A text that is not such an address. It is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRedisAddress {
    /// It cannot be understood.
    #[error(
        "not an address such as redis://HOST:6379/0, redis://:PASSWORD@HOST or unix:///PATH \
         (special characters of a password in percent-encoding)"
    )]
    Form,
    /// It wants TLS without looking at the certificate.
    #[error(
        "TLS that trusts anybody (#insecure) is not supported: let SSL_CERT_FILE name the \
         certificate to trust"
    )]
    Insecure,
}

impl RedisAddress {
    pub(super) fn client(&self) -> &Client {
        &self.0
    }
}

impl FromStr for RedisAddress {
    type Err = InvalidRedisAddress;

    fn from_str(text: &str) -> Result<Self, InvalidRedisAddress> {
        let info = text
            .into_connection_info()
            .map_err(|_| InvalidRedisAddress::Form)?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(InvalidRedisAddress::Insecure);
            }
            addr if !addr.is_supported() => return Err(InvalidRedisAddress::Form),
            _ => {}
        }
        Client::open(info)
            .map(Self)
            .map_err(|_| InvalidRedisAddress::Form)
    }
}

/// Without user and password.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.0.get_connection_info();
        let scheme = match info.addr() {
            ConnectionAddr::Unix(_) => "unix",
            ConnectionAddr::TcpTls { .. } => "rediss",
            _ => "redis",
        };
        let database = info.redis_settings().db();
        write!(f, "{scheme}://{}/{database}", info.addr())
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_shows_is_without_the_password() {
        for text in [
            "redis://:hunter2@cache.internal:6380/3",
            "redis://hunter2:hunter2@cache.internal:6380/3",
            "valkey://:hunter2@cache.internal:6380/3",
        ] {
            let address: RedisAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), "redis://cache.internal:6380/3");
            assert!(!format!("{address:?}").contains("hunter2"));
        }
        let tls: RedisAddress = "rediss://:hunter2@cache.internal".parse().unwrap();
        assert_eq!(tls.to_string(), "rediss://cache.internal:6379/0");
        let socket: RedisAddress = "unix:///run/redis.sock?pass=hunter2".parse().unwrap();
        assert_eq!(socket.to_string(), "unix:///run/redis.sock/0");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for text in [
            "redis://:hunter2@",
            "http://:hunter2@host",
            "redis://:hunter2@host:port",
            "redis://:hunter2@host/database",
            "rediss://:hunter2@host/#insecure",
            "hunter2",
        ] {
            let error = text.parse::<RedisAddress>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}");
        }
    }
}
