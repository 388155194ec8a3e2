//! The question and the answer.

use std::net::IpAddr;

use crate::certificate::CertificateError;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::reason::Reason;
use crate::time::UnixTime;

/// Everything that a decision may depend on.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The wall clock.
    pub now: UnixTime,
    /// The peer's certificate.
    pub peer: Peer<'a>,
    /// The connection.
    pub tls: Tls<'a>,
    /// The peer's address.
    pub source: Option<IpAddr>,
    /// Method, path, host and headers.
    pub head: Head<'a>,
}

/// What the peer showed of itself in the handshake.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// No certificate.
    Absent,
    /// A certificate, and whether the proxy validated it.
    Presented {
        /// The certificate with its roles.
        subject: &'a Subject,
        /// Whether the proxy checked its chain.
        validated: bool,
    },
    /// A certificate that no identity can be taken from.
    Unreadable(&'a CertificateError),
}

/// The TLS connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'a> {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: Option<&'a str>,
    /// Server Name Indication.
    pub sni: Option<&'a str>,
}

/// The head of a request as it came: bytes, duplicates and order kept.
#[derive(Clone, Debug, Default)]
pub struct Head<'a> {
    /// `:method`.
    pub method: Option<&'a [u8]>,
    /// `:authority`.
    pub authority: Option<&'a [u8]>,
    /// `:path`, with its query.
    pub path: Option<&'a [u8]>,
    /// The fields that are not pseudo-headers.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    /// A pseudo-header occurred twice.
    pub duplicated: bool,
}

impl<'a> Head<'a> {
    /// Sorts a proxy's header map into pseudo-headers and fields.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut head = Self::default();
        for (name, value) in pairs {
            let slot = match name {
                b":method" => &mut head.method,
                b":authority" => &mut head.authority,
                b":path" => &mut head.path,
                _ if name.starts_with(b":") => continue,
                _ => {
                    head.fields.push((name, value));
                    continue;
                }
            };
            head.duplicated |= slot.replace(value).is_some();
        }
        head
    }
}

/// The verdict on one request.
#[derive(Debug)]
pub enum Decision<'p> {
    /// Let it through; the permit says as whom.
    Allow(Permit<'p>),
    /// Refuse it.
    Deny(Denial<'p>),
}

/// Permission as a value: only [`Policy::decide`] makes one, and the path to the upstream needs one.
#[derive(Debug)]
pub struct Permit<'p>(Verdict<'p>);

/// A refusal.
#[derive(Debug)]
pub struct Denial<'p>(Verdict<'p>);

#[derive(Debug)]
struct Verdict<'p> {
    reason: Reason,
    rule: Option<&'p str>,
    identity: Option<&'p str>,
    roles: Vec<&'p str>,
    policy: &'p str,
}

impl<'p> Decision<'p> {
    pub(crate) fn unimplemented(policy: &'p Policy, _: &Request<'p>) -> Self {
        Self::Deny(Denial(Verdict {
            reason: Reason::NoRuleMatched,
            rule: None,
            identity: None,
            roles: Vec::new(),
            policy: policy.version(),
        }))
    }

    fn verdict(&self) -> &Verdict<'p> {
        match self {
            Self::Allow(permit) => &permit.0,
            Self::Deny(denial) => &denial.0,
        }
    }

    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.verdict().reason
    }

    /// 200, or the status of the refusal.
    pub fn status(&self) -> u16 {
        self.reason().status()
    }

    /// The rule that matched, allow or deny.
    pub fn rule(&self) -> Option<&'p str> {
        self.verdict().rule
    }

    /// Who asks, whatever the verdict.
    pub fn identity(&self) -> Option<&'p str> {
        self.verdict().identity
    }

    /// The roles of who asks, sorted, whatever the verdict.
    pub fn roles(&self) -> &[&'p str] {
        &self.verdict().roles
    }

    /// Version of the policy that decided.
    pub fn policy_version(&self) -> &'p str {
        self.verdict().policy
    }
}

impl<'p> Permit<'p> {
    /// Value for `x-portcullis-identity`; `None` for an anonymous peer that a rule lets in.
    pub fn identity(&self) -> Option<&'p str> {
        self.0.identity
    }

    /// The roles for `x-portcullis-roles`.
    pub fn roles(&self) -> &[&'p str] {
        &self.0.roles
    }

    /// The rule for `x-portcullis-rule`.
    pub fn rule(&self) -> Option<&'p str> {
        self.0.rule
    }
}

impl Denial<'_> {
    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }
}
