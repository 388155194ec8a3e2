//! Where a client connected to.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// A port, at one address or at any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerAddress {
    address: Option<IpAddr>,
    port: u16,
}

impl ListenerAddress {
    /// Takes `:5432`, `10.0.0.1:5432` or `[2001:db8::1]:5432`. An IPv4 address is written as such, not within `::ffff:`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, port) = text.rsplit_once(':')?;
        let address = match address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => Some(inner.parse::<Ipv6Addr>().ok()?.into()),
            None if address.is_empty() => None,
            None => Some(IpAddr::V4(address.parse().ok()?)),
        };
        if address.is_some_and(|address| address.to_canonical() != address) {
            return None;
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0)?;
        Some(Self { address, port })
    }

    /// Whether a client that connected to `place` connected here.
    pub(crate) fn is(self, place: SocketAddr) -> bool {
        // A socket for both families has IPv4 clients within `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
        self.port == place.port() && self.address.is_none_or(|address| address == place.ip().to_canonical())
    }

    /// Some place that is here.
    pub(crate) fn example(self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or_else(|| IpAddr::from([192, 0, 2, 1])), self.port)
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            None => write!(f, ":{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_one_way_only() {
        for (text, shown) in [
            (":5432", Some(":5432")),
            ("10.0.0.1:5432", Some("10.0.0.1:5432")),
            ("[2001:db8::1]:5432", Some("[2001:db8::1]:5432")),
            ("[2001:DB8:0::1]:1", Some("[2001:db8::1]:1")),
            ("5432", None),
            ("", None),
            (":", None),
            (":0", None),
            (":65536", None),
            (":+1", None),
            (":5432 ", None),
            ("db:5432", None),
            ("2001:db8::1:5432", None),
            ("[10.0.0.1]:5432", None),
            ("[::ffff:10.0.0.1]:5432", None),
            ("10.0.0.0/8:5432", None),
        ] {
            assert_eq!(ListenerAddress::parse(text).map(|address| address.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_client_is_where_it_connected_to() {
        for (listener, place, here) in [
            (":5432", "10.0.0.1:5432", true),
            (":5432", "[::1]:5432", true),
            (":5432", "10.0.0.1:5433", false),
            ("10.0.0.1:5432", "10.0.0.1:5432", true),
            ("10.0.0.1:5432", "10.0.0.2:5432", false),
            ("10.0.0.1:5432", "[::ffff:10.0.0.1]:5432", true),
            ("[::1]:1", "[::1]:1", true),
        ] {
            let place = place.parse().unwrap();
            assert_eq!(ListenerAddress::parse(listener).unwrap().is(place), here, "{listener} {place}");
        }
    }
}
