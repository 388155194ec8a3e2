//! What a rule requires of a request beside method, path, host and role.
//!
//! Answers have three values (Kleene): what a request does not say is [`Truth::Unknown`], which is neither held against it
//! nor in its favour. A rule matches only if everything that it requires is [`Truth::True`], and `not:` leaves the unknown
//! unknown: a rule about "not from this network" says nothing of a request whose address nobody knows.

use crate::decide::Request;
use crate::network::Network;

/// One thing that a rule requires.
#[derive(Debug)]
pub(crate) enum Requirement {
    /// These do not all hold, though all that matters to that is known.
    Not(Box<[Self]>),
    /// The peer's address lies in one of these networks.
    Sources(Box<[Network]>),
}

/// Facts of a request that a proxy can leave unread if its policy asks nothing about them: each costs a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// [`Request::source`].
    pub source: bool,
}

impl Needs {
    /// What these ask about.
    pub(crate) fn of<'r>(requirements: impl IntoIterator<Item = &'r Requirement>) -> Self {
        let mut needs = Self::default();
        for requirement in requirements {
            match requirement {
                Requirement::Not(inner) => needs = needs.and(Self::of(inner.as_ref())),
                Requirement::Sources(_) => needs.source = true,
            }
        }
        needs
    }

    fn and(self, other: Self) -> Self {
        Self { source: self.source || other.source }
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

    fn not(self) -> Self {
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
            Self::Not(_) => "not",
            Self::Sources(_) => "sources",
        }
    }

    /// Whether a request fulfils it.
    pub(crate) fn truth(&self, request: &Request<'_>) -> Truth {
        match self {
            Self::Not(inner) => Truth::all(inner.iter().map(|one| one.truth(request))).not(),
            Self::Sources(networks) => match request.source {
                None => Truth::Unknown,
                Some(address) => {
                    // An IPv4 peer of a socket for both families has an address within `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
                    let address = address.to_canonical();
                    Truth::of(networks.iter().any(|network| network.contains(address)))
                }
            },
        }
    }
}
