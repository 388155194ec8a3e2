//! Which names a root may be used for (RFC 5280 §4.2.1.10): whoever steals its key can sign nothing else that a peer believes.
//!
//! DNS names and addresses only. URIs cannot be constrained here: rustls-webpki 0.103, with which the agent and every peer on
//! rustls verify, refuses any certificate with a URI, a SPIFFE ID that is, under an authority that has a constraint on URIs,
//! whatever it says. (BoringSSL, in Envoy, would compare the host.)

use std::fmt;
use std::net::IpAddr;

use rcgen::CidrSubnet;
use rcgen::GeneralSubtree;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use crate::names::Names;

/// What certificates may be issued for. A kind of names of which nothing is said is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Domains: each stands for itself and all that is below it.
    pub dns: Vec<String>,
    /// Networks.
    pub ip: Vec<Network>,
}

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// How many bits of it count.
    pub prefix: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Reads `10.0.0.0/8`; none for anything else, and for an address with bits behind the prefix.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let network = Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
        let (bits, length) = bits(network.address);
        (network.prefix <= length && bits & mask(network.prefix, length) == bits).then_some(network)
    }

    fn holds(self, address: IpAddr) -> bool {
        let ((ours, length), (theirs, other)) = (bits(self.address), bits(address));
        length == other && theirs & mask(self.prefix, length) == ours
    }

    fn from_der(bytes: &[u8]) -> Option<Self> {
        let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
        let prefix = mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
        let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
            (Ok(v4), _) => IpAddr::from(v4),
            (_, Ok(v6)) => IpAddr::from(v6),
            _ => return None,
        };
        Some(Self { address, prefix: u8::try_from(prefix).ok()? })
    }
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn mask(prefix: u8, length: u8) -> u128 {
    let ones = |count: u8| if count >= 128 { u128::MAX } else { (1 << count) - 1 };
    ones(length) ^ ones(length.saturating_sub(prefix))
}

impl Constraints {
    /// Those of a certificate; what is not about DNS names and addresses is the verifiers' to judge.
    pub(super) fn from_der(der: &[u8]) -> Self {
        let mut all = Self::default();
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return all };
        let found = certificate.name_constraints().ok().flatten();
        for subtree in found.and_then(|found| found.value.permitted_subtrees.as_ref()).into_iter().flatten() {
            match &subtree.base {
                GeneralName::DNSName(name) => all.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => all.ip.extend(Network::from_der(bytes)),
                _ => {}
            }
        }
        all
    }

    /// As a certificate has them; none if everything is free.
    pub(super) fn for_certificate(&self) -> Option<rcgen::NameConstraints> {
        let dns = self.dns.iter().cloned().map(GeneralSubtree::DnsName);
        let ip = self
            .ip
            .iter()
            .map(|network| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network.address, network.prefix)));
        let permitted_subtrees: Vec<_> = dns.chain(ip).collect();
        let constraints = rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() };
        (!constraints.permitted_subtrees.is_empty()).then_some(constraints)
    }

    /// The first of the names that no peer would believe, with its kind.
    pub(crate) fn outside(&self, names: &Names) -> Option<(&'static str, String)> {
        let below = |name: &str, base: &String| {
            name.strip_suffix(base.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let dns = names.dns().iter().filter(|_| !self.dns.is_empty());
        let dns = dns.filter(|name| !self.dns.iter().any(|base| below(name, base))).map(|name| ("dns", name.clone()));
        let ip = names.ip().iter().filter(|_| !self.ip.is_empty());
        let ip = ip.filter(|ip| !self.ip.iter().any(|network| network.holds(**ip))).map(|ip| ("ip", ip.to_string()));
        dns.chain(ip).next()
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let dns = self.dns.iter().map(|name| format!("`{name}`"));
        dns.chain(self.ip.iter().map(|network| format!("`{network}`"))).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Usage;

    fn names(dns: &[&str], ip: &[&str]) -> Names {
        let dns = dns.iter().map(|name| (*name).to_owned()).collect();
        let ip = ip.iter().map(|ip| ip.parse().expect("an address")).collect();
        let spiffe = Some("spiffe://acme.example/a".to_owned());
        Names::new(spiffe, dns, ip, vec![Usage::Server], "acme.example").expect("names")
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).expect("a network")).collect()
    }

    #[test]
    fn a_name_outside_is_found_and_what_is_not_spoken_of_is_free() {
        let dns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let both = Constraints { dns: dns(&["acme.example", "localhost"]), ip: networks(&["10.0.0.0/8", "fd00::/8"]) };
        let only_dns = Constraints { ip: Vec::new(), ..both.clone() };
        for (name, constraints, names, want) in [
            ("itself and below", &both, names(&["acme.example", "a.b.acme.example", "localhost"], &[]), None),
            ("only its end is alike", &both, names(&["notacme.example"], &[]), Some("notacme.example")),
            ("above it", &both, names(&["example"], &[]), Some("example")),
            ("the second one", &both, names(&["acme.example", "evil.example"], &[]), Some("evil.example")),
            ("inside", &both, names(&[], &["10.255.0.1", "fd12::1"]), None),
            ("outside", &both, names(&[], &["10.0.0.1", "11.0.0.1"]), Some("11.0.0.1")),
            ("of the other family", &both, names(&[], &["fe80::1"]), Some("fe80::1")),
            ("not spoken of", &only_dns, names(&[], &["11.0.0.1"]), None),
            ("nothing is", &Constraints::default(), names(&["evil.example"], &["11.0.0.1"]), None),
        ] {
            assert_eq!(constraints.outside(&names).map(|(_, name)| name).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_network_has_no_bits_behind_its_prefix() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "127.0.0.1/32", "::/0", "fd00::/8", "::1/128"] {
            assert_eq!(networks(&[good])[0].to_string(), good);
        }
        for bad in ["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "::1/64", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
