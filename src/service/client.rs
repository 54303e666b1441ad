//! Who a client is, as far as the wire tells.

use std::net::{IpAddr, Ipv6Addr};

use crate::store::Owner;

/// One of those among whom something is shared: the holder of a key, or an address where there are
/// no keys.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Client {
    Key(Owner),
    /// With IPv6 the network, since whoever has one address has as many as it wants.
    Address(IpAddr),
    Unknown,
}

impl Client {
    /// The holder of a key, or without one whoever is at this address.
    pub(super) fn new(owner: Owner, address: Option<IpAddr>) -> Self {
        match (owner, address) {
            (Owner::ANYONE, Some(address)) => Self::Address(network(address)),
            (Owner::ANYONE, None) => Self::Unknown,
            (owner, _) => Self::Key(owner),
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

    fn client(owner: Owner, address: &str) -> Client {
        Client::new(owner, Some(address.parse().unwrap()))
    }

    #[test]
    fn a_key_goes_before_an_address() {
        let (mine, yours) = (Owner::of_key(1), Owner::of_key(2));
        assert_eq!(client(mine, "192.0.2.1"), client(mine, "192.0.2.2"));
        assert_ne!(client(mine, "192.0.2.1"), client(yours, "192.0.2.1"));
        let anyone = client(Owner::ANYONE, "192.0.2.1");
        assert_ne!(anyone, client(Owner::ANYONE, "192.0.2.2"));
        assert_ne!(anyone, client(mine, "192.0.2.1"));
        assert_eq!(Client::new(Owner::ANYONE, None), Client::Unknown);
        assert_eq!(Client::new(mine, None), client(mine, "192.0.2.1"));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let anyone = |address| client(Owner::ANYONE, address);
        let first = anyone("2001:db8:1:2::1");
        assert_eq!(first, anyone("2001:db8:1:2:3:4:5:6"));
        assert_ne!(first, anyone("2001:db8:1:3::1"));
        assert_eq!(anyone("::ffff:192.0.2.1"), anyone("192.0.2.1"));
    }
}
