//! Who a client is, as far as the wire tells.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::Extensions;

use crate::store::Owner;

/// The address at the other end of the connection: an extension of every request that came over
/// one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddress(pub IpAddr);

/// One of those among whom something is shared: the holder of a key, or an address where there are
/// no keys.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Client {
    Key(Owner),
    /// With IPv6 the network, since whoever has one address has as many as it wants.
    Address(IpAddr),
    Unknown,
}

impl Client {
    /// Whoever made the request with these extensions.
    pub(super) fn of(extensions: &Extensions) -> Self {
        let owner = extensions.get::<Owner>().copied();
        let address = extensions.get::<ClientAddress>().copied();
        match (owner.filter(|&owner| owner != Owner::ANYONE), address) {
            (Some(owner), _) => Self::Key(owner),
            (None, Some(ClientAddress(address))) => Self::Address(network(address)),
            (None, None) => Self::Unknown,
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(owner: Option<Owner>, address: &str) -> Client {
        let mut extensions = Extensions::new();
        extensions.insert(ClientAddress(address.parse().unwrap()));
        extensions.extend(
            owner
                .map(|owner| {
                    let mut one = Extensions::new();
                    one.insert(owner);
                    one
                })
                .unwrap_or_default(),
        );
        Client::of(&extensions)
    }

    #[test]
    fn a_key_goes_before_an_address() {
        let (mine, yours) = (Owner::of_key(1), Owner::of_key(2));
        assert_eq!(
            client(Some(mine), "192.0.2.1"),
            client(Some(mine), "192.0.2.2")
        );
        assert_ne!(
            client(Some(mine), "192.0.2.1"),
            client(Some(yours), "192.0.2.1")
        );
        let anyone = client(Some(Owner::ANYONE), "192.0.2.1");
        assert_eq!(anyone, client(None, "192.0.2.1"));
        assert_ne!(anyone, client(None, "192.0.2.2"));
        assert_eq!(Client::of(&Extensions::new()), Client::Unknown);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let first = client(None, "2001:db8:1:2::1");
        assert_eq!(first, client(None, "2001:db8:1:2:3:4:5:6"));
        assert_ne!(first, client(None, "2001:db8:1:3::1"));
        assert_eq!(client(None, "::ffff:192.0.2.1"), client(None, "192.0.2.1"));
    }
}
