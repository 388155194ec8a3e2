//! The names and uses that a certificate is issued for, checked once.

use std::net::IpAddr;

use portcullis_policy::SpiffeId;
use serde::Deserialize;
use serde::Serialize;

use crate::command::Usage;

/// What a certificate is issued for: at least one name, at least one use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    spiffe: Option<String>,
    dns: Vec<String>,
    ip: Vec<IpAddr>,
    usage: Vec<Usage>,
}

/// Why names cannot be put into a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamesError {
    /// Not a DNS name.
    #[error("`{0}` is not a DNS name: labels of letters, digits, `-` and `_`, 63 at most each, 253 in all")]
    Dns(String),
    /// A name occurs twice.
    #[error("`{0}` is listed twice")]
    Duplicate(String),
    /// No name at all.
    #[error("no name: give at least one of `spiffe`, `dns`, `ip`")]
    Nameless,
    /// Not a SPIFFE ID.
    #[error("`{0}` is not a SPIFFE ID, as in `spiffe://acme.example/gateway`")]
    Spiffe(String),
    /// A SPIFFE ID of a trust domain that the CA does not issue for.
    #[error("`{id}` is not of the CA's trust domain `{trust_domain}`")]
    TrustDomain {
        /// The ID.
        id: String,
        /// The CA's.
        trust_domain: String,
    },
    /// No use.
    #[error("no usage: give `server`, `client` or both")]
    Useless,
}

impl Names {
    /// Checks the names; DNS names are lower-cased.
    ///
    /// # Errors
    ///
    /// [`NamesError`], the first that is wrong.
    pub fn new(
        spiffe: Option<String>,
        dns: Vec<String>,
        ip: Vec<IpAddr>,
        usage: Vec<Usage>,
        trust_domain: &str,
    ) -> Result<Self, NamesError> {
        if let Some(id) = &spiffe {
            let parsed = SpiffeId::parse(id).ok_or_else(|| NamesError::Spiffe(id.clone()))?;
            if parsed.trust_domain() != trust_domain {
                return Err(NamesError::TrustDomain { id: id.clone(), trust_domain: trust_domain.to_owned() });
            }
        }
        let dns: Vec<String> = dns.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        if let Some(bad) = dns.iter().find(|name| !is_dns_name(name)) {
            return Err(NamesError::Dns(bad.clone()));
        }
        if let Some(twice) = first_duplicate(&dns) {
            return Err(NamesError::Duplicate(twice.clone()));
        }
        if let Some(twice) = first_duplicate(&ip) {
            return Err(NamesError::Duplicate(twice.to_string()));
        }
        if spiffe.is_none() && dns.is_empty() && ip.is_empty() {
            return Err(NamesError::Nameless);
        }
        if usage.is_empty() {
            return Err(NamesError::Useless);
        }
        Ok(Self { spiffe, dns, ip, usage })
    }

    /// The SPIFFE ID.
    pub fn spiffe(&self) -> Option<&str> {
        self.spiffe.as_deref()
    }

    /// DNS names, lower-case.
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// IP addresses.
    pub fn ip(&self) -> &[IpAddr] {
        &self.ip
    }

    /// What the certificate may be used for.
    pub fn usage(&self) -> &[Usage] {
        &self.usage
    }

    /// The DNS names and addresses, as certificates name them.
    pub fn labels(&self) -> Vec<String> {
        self.dns.iter().cloned().chain(self.ip.iter().map(IpAddr::to_string)).collect()
    }

    /// These without some; none if the first is one of them or no DNS name and no address is left, for that would be another
    /// certificate.
    pub fn without(&self, left_out: &[&str]) -> Option<Self> {
        let stays = |name: &str| !left_out.contains(&name);
        let dns: Vec<String> = self.dns.iter().filter(|name| stays(name)).cloned().collect();
        let ip: Vec<IpAddr> = self.ip.iter().filter(|ip| stays(&ip.to_string())).copied().collect();
        let first = self.dns.first().cloned().or_else(|| self.ip.first().map(IpAddr::to_string))?;
        stays(&first).then(|| Self { dns, ip, ..self.clone() })
    }

    /// The SPIFFE ID, or else the first name: a label for people.
    pub fn label(&self) -> String {
        let first = self.spiffe.clone().or_else(|| self.dns.first().cloned());
        first.or_else(|| self.ip.first().map(IpAddr::to_string)).unwrap_or_default()
    }
}

/// Whether `name` is a host name as certificates carry it; one leading `*` label is allowed.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && labels.split('.').all(label) && labels.parse::<IpAddr>().is_err()
}

fn first_duplicate<T: PartialEq>(items: &[T]) -> Option<&T> {
    items.iter().enumerate().find(|(at, item)| items[..*at].contains(item)).map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_are_host_names_and_not_addresses() {
        for good in ["a", "orders.acme.example", "*.acme.example", "localhost", "x_1.y-2"] {
            assert!(is_dns_name(good), "{good}");
        }
        let long = "a.".repeat(127) + "a";
        for bad in
            ["", ".", "a.", ".a", "a..b", "*", "*.", "a.*", "-a", "a-", "a b", "10.0.0.1", "é", &"a".repeat(64), &long]
        {
            assert!(!is_dns_name(bad), "{bad}");
        }
    }

    #[test]
    fn all_names_but_the_first_can_be_left_out() {
        let dns = ["a.example", "b.example"].map(str::to_owned).to_vec();
        let ip = vec![[127, 0, 0, 1].into()];
        let names = Names::new(None, dns, ip, vec![Usage::Server], "acme.example").expect("names");
        let left = |out: &[&str]| names.without(out).map(|names| names.labels().join(" "));
        assert_eq!(left(&[]).as_deref(), Some("a.example b.example 127.0.0.1"));
        assert_eq!(left(&["b.example", "c.example"]).as_deref(), Some("a.example 127.0.0.1"));
        assert_eq!(left(&["127.0.0.1", "b.example"]).as_deref(), Some("a.example"));
        assert_eq!(left(&["a.example"]), None, "that would be another certificate");
    }

    #[test]
    fn names_need_a_name_a_use_and_no_repetition() {
        let dns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let new =
            |names: &[&str], usage: &[Usage]| Names::new(None, dns(names), vec![], usage.to_vec(), "acme.example");
        assert_eq!(new(&["A.b"], &[Usage::Server]).expect("good").label(), "a.b");
        assert_eq!(new(&[], &[Usage::Server]), Err(NamesError::Nameless));
        assert_eq!(new(&["a"], &[]), Err(NamesError::Useless));
        assert_eq!(new(&["a", "A"], &[Usage::Client]), Err(NamesError::Duplicate("a".to_owned())));
    }
}
