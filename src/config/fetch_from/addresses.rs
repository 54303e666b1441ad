//! Which addresses are of the public internet, by the IANA registries of special-purpose addresses
//! (RFC 6890), and ranges that an operator adds.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct AddressRange {
    first: IpAddr,
    bits: u32,
}

impl AddressRange {
    const fn v4(first: Ipv4Addr, bits: u32) -> Self {
        Self {
            first: IpAddr::V4(first),
            bits,
        }
    }

    const fn v6(first: Ipv6Addr, bits: u32) -> Self {
        Self {
            first: IpAddr::V6(first),
            bits,
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// `10.0.0.0/8`, or one address.
impl FromStr for AddressRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits.parse::<u32>().map_err(drop)?)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(drop)?;
        let most = match first {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { first, bits }).ok_or(())
    }
}

/// What is not of the public internet in IPv4.
const SPECIAL_V4: [AddressRange; 15] = [
    AddressRange::v4(Ipv4Addr::new(0, 0, 0, 0), 8),
    AddressRange::v4(Ipv4Addr::new(10, 0, 0, 0), 8),
    AddressRange::v4(Ipv4Addr::new(100, 64, 0, 0), 10),
    AddressRange::v4(Ipv4Addr::new(127, 0, 0, 0), 8),
    AddressRange::v4(Ipv4Addr::new(169, 254, 0, 0), 16),
    AddressRange::v4(Ipv4Addr::new(172, 16, 0, 0), 12),
    AddressRange::v4(Ipv4Addr::new(192, 0, 0, 0), 24),
    AddressRange::v4(Ipv4Addr::new(192, 0, 2, 0), 24),
    AddressRange::v4(Ipv4Addr::new(192, 88, 99, 0), 24),
    AddressRange::v4(Ipv4Addr::new(192, 168, 0, 0), 16),
    AddressRange::v4(Ipv4Addr::new(198, 18, 0, 0), 15),
    AddressRange::v4(Ipv4Addr::new(198, 51, 100, 0), 24),
    AddressRange::v4(Ipv4Addr::new(203, 0, 113, 0), 24),
    AddressRange::v4(Ipv4Addr::new(224, 0, 0, 0), 4),
    AddressRange::v4(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of IPv6 the public internet is one range, but for these: protocols, documentation, and IPv4 in
/// disguise (6to4).
const PUBLIC_V6: AddressRange = AddressRange::v6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const SPECIAL_V6: [AddressRange; 4] = [
    AddressRange::v6(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    AddressRange::v6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    AddressRange::v6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    AddressRange::v6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// What networks of IPv6 alone reach IPv4 by (RFC 6052).
const TRANSLATED: AddressRange =
    AddressRange::v6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        IpAddr::V6(within) if TRANSLATED.contains(address) => {
            IpAddr::V4(Ipv4Addr::from_bits(within.to_bits() as u32))
        }
        canonical => canonical,
    };
    let special: &[AddressRange] = match address {
        IpAddr::V4(_) => &SPECIAL_V4,
        IpAddr::V6(_) if !PUBLIC_V6.contains(address) => return false,
        IpAddr::V6(_) => &SPECIAL_V6,
    };
    !special.iter().any(|range| range.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_in_all_their_forms_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "172.15.0.1",
            "172.32.0.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn ranges_of_no_bits_and_of_all() {
        let range = |text: &str| text.parse::<AddressRange>().unwrap();
        assert!(range("0.0.0.0/0").contains("9.9.9.9".parse().unwrap()));
        assert!(range("::/0").contains("9::".parse().unwrap()));
        assert!(!range("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(range("10.0.0.7").contains("10.0.0.7".parse().unwrap()));
        assert!(!range("10.0.0.7").contains("10.0.0.8".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<AddressRange>().is_err());
    }
}
