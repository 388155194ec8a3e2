//! What rules ask about beside method, host, path and role, chosen such that a rule's conditions hold.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use super::SampleRequest;
use crate::decide::Peer;
use crate::requirement::Header;
use crate::requirement::Requirement;
use crate::requirement::Truth;
use crate::requirement::Window;
use crate::rule::Effect;
use crate::time::UnixTime;

/// Facts of a sample that most rules do not ask about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Facts {
    /// Where the peer connected to.
    pub listener: Option<SocketAddr>,
    /// The peer's address.
    pub source: Option<IpAddr>,
    /// The server name of the handshake.
    pub sni: Option<String>,
    /// The version of TLS, as proxies name it.
    pub tls_version: Option<String>,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// When it is made.
    pub now: Option<UnixTime>,
}

/// Addresses for examples (RFC 5737, RFC 3849): outside of what anybody asks for.
const ELSEWHERE: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

impl Facts {
    /// Facts with which all of these hold, as far as there are any among what is tried.
    pub(super) fn fulfilling(requirements: &[Requirement], effect: Effect) -> Self {
        let mut facts = Self::default();
        for (position, requirement) in requirements.iter().enumerate() {
            // Nor may it undo what held before.
            let holds = |facts: &Self| {
                let mut so_far = requirements.iter().take(position + 1);
                so_far.all(|requirement| facts.truth(requirement, effect) == Truth::True)
            };
            let mut tried = facts.tried(requirement).into_iter();
            facts = tried.find(holds).unwrap_or(facts);
        }
        facts
    }

    /// These facts, changed in what a requirement asks about.
    fn tried(&self, requirement: &Requirement) -> Vec<Self> {
        match requirement {
            Requirement::Headers(headers) => {
                let with = |value: fn(&Header) -> Option<&str>| {
                    let field = |header: &Header| Some((header.name.to_string(), value(header)?.to_owned()));
                    Self { headers: headers.iter().filter_map(field).collect(), ..self.clone() }
                };
                vec![with(|header| header.values.first().map(|value| &**value)), with(|_| Some("other"))]
            }
            // No token is made.
            Requirement::Claims(_) | Requirement::Scopes(_) => Vec::new(),
            Requirement::Listeners(listeners) => {
                let elsewhere = SocketAddr::new(ELSEWHERE[0], 1);
                let places = listeners.iter().map(|listener| listener.example()).chain([elsewhere]);
                places.map(|place| Self { listener: Some(place), ..self.clone() }).collect()
            }
            Requirement::Not(inner) => inner.iter().flat_map(|inner| self.tried(inner)).collect(),
            Requirement::Sni(names) => {
                let names = names.iter().map(|name| name.replacen('*', "any", 1)).chain(["other.example".to_owned()]);
                names.map(|sni| Self { sni: Some(sni), ..self.clone() }).collect()
            }
            Requirement::Times(windows) => {
                let begin = windows.iter().filter_map(Window::first);
                let end = windows.iter().filter_map(|window| window.until);
                let later = (1..=7).map(|days| UnixTime(days * 86_400 + 3_599));
                begin.chain(end).chain(later).map(|now| Self { now: Some(now), ..self.clone() }).collect()
            }
            Requirement::Tls(_) => {
                let versions = ["TLSv1.3", "TLSv1"].map(str::to_owned).into_iter();
                versions.map(|version| Self { tls_version: Some(version), ..self.clone() }).collect()
            }
            Requirement::Sources(networks) => {
                let addresses = networks.iter().flat_map(|network| [network.address, after(network.address)]);
                let addresses = addresses.chain(ELSEWHERE);
                addresses.map(|source| Self { source: Some(source), ..self.clone() }).collect()
            }
        }
    }

    fn truth(&self, requirement: &Requirement, effect: Effect) -> Truth {
        let request = SampleRequest { method: String::new(), host: None, path: String::new(), facts: self.clone() };
        requirement.truth(&request.by(Peer::Absent, UnixTime(0)), effect)
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
        let Self { listener, source, sni, tls_version, headers, now } = self;
        listener.map_or(Ok(()), |listener| write!(f, " at {listener}"))?;
        source.map_or(Ok(()), |source| write!(f, " from {source}"))?;
        sni.iter().try_for_each(|sni| write!(f, " to {sni}"))?;
        tls_version.iter().try_for_each(|version| write!(f, " over {version}"))?;
        headers.iter().try_for_each(|(name, value)| write!(f, " with {name}: {value}"))?;
        let now = now.and_then(UnixTime::to_rfc3339);
        now.map_or(Ok(()), |now| write!(f, " at {now}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn each_kind_of_condition_is_fulfilled_by_some_facts() {
        for requirement in [
            r#""headers": {"x-a": "1", "x-b": ["2", "3"]}"#,
            r#""sources": ["2001:db8::/32"]"#,
            r#""sni": ["*.acme.example"]"#,
            r#""listeners": [":443", "10.0.0.1:8443"]"#,
            r#""not": {"listeners": [":443"]}"#,
            r#""tls": {"min_version": "1.2"}"#,
            r#""times": [{"days": ["sat"], "hours": "08:00-09:00"}]"#,
            r#""times": [{"from": "2026-11-22T00:00:01Z", "hours": "00:00-00:01"}]"#,
            r#""not": {"headers": {"x-a": "1"}}"#,
            r#""not": {"sni": ["a.t"]}"#,
            r#""not": {"tls": {"min_version": "1.2"}}"#,
            r#""not": {"times": [{"until": "2026-11-22T00:00:01Z"}]}"#,
            r#""not": {"times": [{"hours": "00:00-00:59"}]}"#,
        ] {
            for (effect, name) in [(Effect::Allow, "allow"), (Effect::Deny, "deny")] {
                let text = format!(r#"{{"version": 1, "rules": [{{"id": "r", "{name}": "any", {requirement}}}]}}"#);
                let policy = Policy::from_json(text.as_bytes()).unwrap();
                let (_, rule) = policy.rules.iter().next().unwrap();
                let requirements = policy.rules.requirements(rule);
                let facts = Facts::fulfilling(requirements, effect);
                for requirement in requirements {
                    assert_eq!(facts.truth(requirement, effect), Truth::True, "{text}: {facts}");
                }
            }
        }
    }
}
