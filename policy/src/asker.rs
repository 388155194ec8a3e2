//! Who asks: the peer, or the client that a forwarder speaks for.

use std::borrow::Cow;

use crate::certificate::Leaf;
use crate::decide::Peer;
use crate::decide::Request;
use crate::forwarded::Forwarded;
use crate::policy::Policy;
use crate::policy::View;
use crate::reason::Reason;
use crate::roles::Held;

/// Who asks, as far as anybody is believed to.
///
/// A forwarder is never taken for its own client: without a forwarded certificate that is believed, nobody asks.
#[derive(Debug)]
pub(crate) struct Asker<'p> {
    /// The certificate that roles and rules are about.
    certificate: Option<(&'p Leaf, Cow<'p, View>)>,
    /// The peer, if it is a forwarder.
    forwarder: Option<&'p Leaf>,
    /// Why what was presented or forwarded is not believed. Presenting nothing is no reason yet: a rule may be about anybody.
    doubt: Option<Reason>,
}

impl<'p> Asker<'p> {
    pub(crate) fn of(policy: &'p Policy, request: &Request<'p>) -> Self {
        let peer = match request.peer {
            Peer::Presented { subject, .. } => Some((subject.leaf(), policy.view(subject))),
            Peer::Absent | Peer::Unreadable(_) => None,
        };
        let doubt = match request.peer {
            Peer::Unreadable(_) => Some(Reason::CertificateUnreadable),
            Peer::Presented { validated: false, .. } => Some(Reason::CertificateNotValidated),
            Peer::Presented { validated: true, .. } | Peer::Absent => standing(policy, request, peer.as_ref()),
        };
        let forwarder = peer.as_ref().filter(|(_, view)| view.forwarder.is_some()).map(|(leaf, _)| *leaf);
        match (forwarder, request.forwarded, doubt) {
            (None, Forwarded::Nothing, doubt) => Self { certificate: peer, forwarder, doubt },
            (None, Forwarded::Refused(reason), doubt) => {
                Self { certificate: peer, forwarder, doubt: doubt.or(Some(*reason)) }
            }
            // Whoever read the request took somebody else for the peer.
            (None, Forwarded::Certificate(_), doubt) => {
                Self { certificate: peer, forwarder, doubt: doubt.or(Some(Reason::InternalError)) }
            }
            (Some(_), Forwarded::Nothing, doubt) => Self { certificate: None, forwarder, doubt },
            (Some(_), Forwarded::Refused(reason), None) => Self { certificate: None, forwarder, doubt: Some(*reason) },
            (Some(_), Forwarded::Certificate(subject), None) => {
                let client = Some((subject.leaf(), policy.view(subject)));
                let doubt = standing(policy, request, client.as_ref());
                Self { certificate: client, forwarder, doubt }
            }
            // What somebody sends who is not believed is nobody's identity.
            (Some(_), _, doubt @ Some(_)) => Self { certificate: None, forwarder, doubt },
        }
    }

    /// Why not to ask any rule, if so. `forwarded` says whether the request has a header that carries a certificate.
    pub(crate) fn doubt(&self, policy: &Policy, request: &Request<'_>, forwarded: bool) -> Option<Reason> {
        // With `own_xfcc` there is one whenever the peer presented a certificate.
        let unread = forwarded && !policy.own_xfcc() && matches!(request.forwarded, Forwarded::Nothing);
        self.doubt.or_else(|| unread.then_some(Reason::ForwarderUntrusted))
    }

    pub(crate) fn held(&self) -> &[Held] {
        self.certificate.as_ref().map_or(&[][..], |(_, view)| &view.held)
    }

    pub(crate) fn is_nobody(&self) -> bool {
        self.certificate.is_none()
    }

    pub(crate) fn identity(&self) -> Option<&'p str> {
        self.certificate.as_ref().map(|(leaf, _)| leaf.identity())
    }

    pub(crate) fn forwarder(&self) -> Option<&'p str> {
        self.forwarder.map(Leaf::identity)
    }

    pub(crate) fn into_roles(self) -> Cow<'p, [String]> {
        match self.certificate {
            None => Cow::Borrowed(&[]),
            Some((_, Cow::Borrowed(view))) => Cow::Borrowed(&view.roles),
            Some((_, Cow::Owned(view))) => Cow::Owned(view.roles),
        }
    }
}

fn standing(policy: &Policy, request: &Request<'_>, certificate: Option<&(&Leaf, Cow<'_, View>)>) -> Option<Reason> {
    certificate.and_then(|(leaf, view)| policy.standing().at(request.now, leaf, view.lasting))
}
