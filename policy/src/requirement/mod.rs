//! What a rule requires of a request beside method, path, host and role.
//!
//! Answers have three values (Kleene): what a request does not say is [`Truth::Unknown`], which is neither held against it
//! nor in its favour. A rule matches only if everything that it requires is [`Truth::True`], and `not:` leaves the unknown
//! unknown: a rule about "not from this network" says nothing of a request whose address nobody knows.

mod headers;
mod listener;
mod times;

use std::fmt;

use crate::decide::Request;
use crate::decide::Tls;
use crate::network::Network;
use crate::roles::condition::dns_matches;
use crate::rule::Effect;
use crate::strings::Symbol;
use crate::token::Bearer;
use crate::token::Token;
use crate::token::claim::ClaimTest;

pub(crate) use headers::Header;
pub(crate) use headers::Quantity;
pub(crate) use listener::ListenerAddress;
pub(crate) use times::Days;
pub(crate) use times::Window;

/// One thing that a rule requires.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// The token's claims are as these want them, sorted by path. What their captures stand for is for the index.
    Claims(Box<[ClaimTest]>),
    /// Each of these header fields has one of its values.
    Headers(Box<[Header]>),
    /// The client connected to one of these.
    Listeners(Box<[ListenerAddress]>),
    /// These do not all hold, though all that matters to that is known.
    Not(Box<[Self]>),
    /// The server name of the handshake is one of these, in lower case, or has one label where a text begins with `*.`.
    Sni(Box<[Box<str>]>),
    /// The token has all of these scopes, sorted.
    Scopes(Box<[Box<str>]>),
    /// The peer's address lies in one of these networks.
    Sources(Box<[Network]>),
    /// The wall clock is in one of these windows.
    Times(Box<[Window]>),
    /// The connection speaks this version of TLS or a later one.
    Tls(TlsVersion),
}

/// A version of TLS, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TlsVersion(u8);

impl TlsVersion {
    /// Takes `1.0` to `1.3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        ["1.0", "1.1", "1.2", "1.3"]
            .into_iter()
            .zip(0..)
            .find(|(known, _)| *known == text)
            .map(|(_, minor)| Self(minor))
    }

    /// As policies name it.
    pub(crate) fn as_text(self) -> String {
        format!("1.{}", self.0)
    }

    /// Of a connection; `None` if the proxy does not say, or names a version that did not exist when this was written.
    fn of(tls: Tls<'_>) -> Option<Self> {
        match tls.version?.strip_prefix("TLSv")? {
            "1" => Self::parse("1.0"),
            version => Self::parse(version),
        }
    }
}

/// As proxies name it.
impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLSv1.{}", self.0)
    }
}

/// Facts of a request that a proxy can leave unread if its policy asks nothing about them: each costs a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Fields of [`Head::fields`](crate::Head), which every proxy reads; records do not hold them.
    pub headers: bool,
    /// [`Request::listener`].
    pub listener: bool,
    /// [`Request::source`].
    pub source: bool,
    /// [`Tls::sni`].
    pub sni: bool,
    /// [`Tls::version`].
    pub tls_version: bool,
}

impl Needs {
    /// What these ask about.
    pub(crate) fn of<'r>(requirements: impl IntoIterator<Item = &'r Requirement>) -> Self {
        let mut needs = Self::default();
        for requirement in requirements {
            match requirement {
                Requirement::Headers(_) => needs.headers = true,
                Requirement::Listeners(_) => needs.listener = true,
                Requirement::Times(_) => {}
                Requirement::Not(inner) => needs = needs.and(Self::of(inner.as_ref())),
                Requirement::Sni(_) => needs.sni = true,
                // The token is read with the request's head, whatever rules ask of it.
                Requirement::Claims(_) | Requirement::Scopes(_) => {}
                Requirement::Sources(_) => needs.source = true,
                Requirement::Tls(_) => needs.tls_version = true,
            }
        }
        needs
    }

    /// What either asks about.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            headers: self.headers || other.headers,
            listener: self.listener || other.listener,
            source: self.source || other.source,
            sni: self.sni || other.sni,
            tls_version: self.tls_version || other.tls_version,
        }
    }
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    False,
    /// What was asked about is missing.
    Unknown,
    True,
}

impl Truth {
    pub(crate) fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }

    pub(crate) fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }

    /// Whether all of these hold.
    pub(crate) fn all(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::True;
        for truth in truths {
            match truth {
                Self::False => return Self::False,
                Self::Unknown => all = Self::Unknown,
                Self::True => {}
            }
        }
        all
    }
}

impl Requirement {
    /// The field of a rule that it is written under.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Claims(_) => "claims",
            Self::Headers(_) => "headers",
            Self::Listeners(_) => "listeners",
            Self::Not(_) => "not",
            Self::Scopes(_) => "scopes",
            Self::Sni(_) => "sni",
            Self::Sources(_) => "sources",
            Self::Times(_) => "times",
            Self::Tls(_) => "tls",
        }
    }

    /// The claims that a `{name}` stands for, with its name.
    pub(crate) fn claim_captures(&self) -> impl Iterator<Item = (Symbol, &ClaimTest)> {
        let claims = match self {
            Self::Claims(claims) => claims,
            _ => &[][..],
        };
        claims.iter().filter_map(|claim| Some((claim.capture()?, claim)))
    }

    /// Whether a request fulfils it, in a rule with this effect.
    pub(crate) fn truth(&self, request: &Request<'_>, effect: Effect) -> Truth {
        let quantity = match effect {
            Effect::Allow => Quantity::All,
            Effect::Deny => Quantity::Any,
        };
        self.ask(request, quantity)
    }

    fn ask(&self, request: &Request<'_>, quantity: Quantity) -> Truth {
        match self {
            Self::Claims(claims) => match token(request) {
                None => Truth::Unknown,
                Some(token) => Truth::all(claims.iter().map(|one| Truth::from(one.holds(token.claims().all())))),
            },
            Self::Scopes(scopes) => Truth::from(token(request).and_then(|token| token.has_scopes(scopes))),
            Self::Headers(headers) => Truth::all(headers.iter().map(|header| header.truth(&request.head, quantity))),
            Self::Listeners(listeners) => match request.listener {
                None => Truth::Unknown,
                Some(place) => Truth::of(listeners.iter().any(|listener| listener.is(place))),
            },
            Self::Not(inner) => Truth::all(inner.iter().map(|one| one.ask(request, quantity.opposite()))).not(),
            Self::Sni(names) => match request.tls.sni {
                // No host name has a `*`: it could only be meant for the pattern's.
                None | Some("") => Truth::Unknown,
                Some(sni) if sni.contains('*') => Truth::False,
                Some(sni) => {
                    let sni = sni.strip_suffix('.').unwrap_or(sni);
                    Truth::of(names.iter().any(|name| dns_matches(name, sni)))
                }
            },
            Self::Sources(networks) => match request.source {
                None => Truth::Unknown,
                Some(address) => {
                    // An IPv4 peer of a socket for both families has an address within `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
                    let address = address.to_canonical();
                    Truth::of(networks.iter().any(|network| network.contains(address)))
                }
            },
            Self::Times(windows) => Truth::of(windows.iter().any(|window| window.contains(request.now))),
            Self::Tls(least) => {
                TlsVersion::of(request.tls).map_or(Truth::Unknown, |version| Truth::of(version >= *least))
            }
        }
    }
}

impl From<Option<bool>> for Truth {
    fn from(holds: Option<bool>) -> Self {
        holds.map_or(Self::Unknown, Self::of)
    }
}

/// The request's token. Rules are asked only when the peer may send it.
pub(crate) fn token<'r>(request: &Request<'r>) -> Option<&'r Token> {
    match request.token {
        Bearer::Verified(token) => Some(token),
        Bearer::Absent | Bearer::Refused(_) => None,
    }
}

/// What a request lacks for a rule, where another token would have been enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    /// There is no token.
    Token,
    /// The token has other scopes.
    Scopes,
}

/// Whether a request fulfils all requirements of a rule, or else whether only the token is to blame.
pub(crate) fn lack(requirements: &[Requirement], request: &Request<'_>, effect: Effect) -> Result<(), Option<Lack>> {
    let mut lacks = None;
    for requirement in requirements {
        if requirement.truth(request, effect) == Truth::True {
            continue;
        }
        let lack = match (requirement, token(request)) {
            (Requirement::Claims(_) | Requirement::Scopes(_), None) => Lack::Token,
            (Requirement::Scopes(_), Some(_)) => Lack::Scopes,
            _ => return Err(None),
        };
        lacks = lacks.max(Some(lack));
    }
    lacks.map_or(Ok(()), |lack| Err(Some(lack)))
}

/// What the claims of a rule offer for its captures. Without a token the rule does not match anyway.
pub(crate) fn claim_texts<'r>(requirements: &[Requirement], request: &Request<'r>) -> Vec<(Symbol, Vec<&'r str>)> {
    let Some(token) = token(request) else { return Vec::new() };
    let captures = requirements.iter().flat_map(Requirement::claim_captures);
    captures.map(|(name, claim)| (name, claim.texts(token.claims().all()).collect())).collect()
}
