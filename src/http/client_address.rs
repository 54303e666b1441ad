//! Where a request came from.

use std::net::IpAddr;

use axum::http::Extensions;

/// The address at the other end of the connection: an extension of every request that came over
/// one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddress(pub IpAddr);

/// The address of the client that made the request with these extensions.
pub(super) fn address(extensions: &Extensions) -> Option<IpAddr> {
    let address = extensions.get::<ClientAddress>();
    address.map(|&ClientAddress(address)| address)
}
