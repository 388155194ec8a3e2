//! What rules ask about beside method, host, path and role, chosen such that a rule's conditions hold.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use super::SampleRequest;
use crate::decide::Peer;
use crate::requirement::Requirement;
use crate::requirement::Truth;
use crate::time::UnixTime;

/// Facts of a sample that most rules do not ask about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Facts {
    /// The peer's address.
    pub source: Option<IpAddr>,
}

/// Addresses for examples (RFC 5737, RFC 3849): outside of what anybody asks for.
const ELSEWHERE: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

impl Facts {
    /// Facts with which all of these hold, as far as there are any among what is tried.
    pub(super) fn fulfilling(requirements: &[Requirement]) -> Self {
        let mut facts = Self::default();
        for (position, requirement) in requirements.iter().enumerate() {
            // Nor may it undo what held before.
            let holds = |facts: &Self| {
                let mut so_far = requirements.iter().take(position + 1);
                so_far.all(|requirement| facts.truth(requirement) == Truth::True)
            };
            let mut tried = facts.tried(requirement).into_iter();
            facts = tried.find(holds).unwrap_or(facts);
        }
        facts
    }

    /// These facts, changed in what a requirement asks about.
    fn tried(&self, requirement: &Requirement) -> Vec<Self> {
        match requirement {
            Requirement::Not(inner) => inner.iter().flat_map(|inner| self.tried(inner)).collect(),
            Requirement::Sources(networks) => {
                let addresses = networks.iter().flat_map(|network| [network.address, after(network.address)]);
                let addresses = addresses.chain(ELSEWHERE);
                addresses.map(|source| Self { source: Some(source), ..self.clone() }).collect()
            }
        }
    }

    fn truth(&self, requirement: &Requirement) -> Truth {
        let request = SampleRequest { method: String::new(), host: None, path: String::new(), facts: self.clone() };
        requirement.truth(&request.by(Peer::Absent, UnixTime(0)))
    }
}

fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().wrapping_add(1)).into(),
    }
}

/// As it stands after a request.
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.map_or(Ok(()), |source| write!(f, " from {source}"))
    }
}
