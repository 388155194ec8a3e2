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
use crate::token::Bearer;
use crate::token::Token;
use crate::token::TokenError;

/// Who asks, as far as anybody is believed to.
///
/// A forwarder is never taken for its own client: without a forwarded certificate that is believed, nobody asks.
#[derive(Debug)]
pub(crate) struct Asker<'p> {
    /// The certificate that roles and rules are about.
    certificate: Option<(&'p Leaf, Cow<'p, View>)>,
    /// The peer, if it is a forwarder.
    forwarder: Option<&'p Leaf>,
    /// What it forwards is not kept.
    strips: bool,
    /// Why what was presented or forwarded is not believed. Presenting nothing is no reason yet: a rule may be about anybody.
    doubt: Option<Reason>,
    /// Why the token is not believed. It is refused whatever the rules say: who shows a bad token is not who the token says.
    token_doubt: Option<Reason>,
    /// What the policy says of certificate and token together, if it says more than of the certificate.
    pair: Option<Cow<'p, View>>,
}

impl<'p> Asker<'p> {
    pub(crate) fn of(policy: &'p Policy, request: &Request<'p>) -> Self {
        let asker = Self::of_certificate(policy, request);
        let leaf = asker.certificate.as_ref().map(|(leaf, _)| *leaf);
        match token(policy, request.token, leaf) {
            Ok(Some(token)) if policy.members.ask_tokens() => {
                let pair = policy.pair(leaf, token);
                Self { token_doubt: pair.lasting, pair: Some(pair), ..asker }
            }
            Ok(_) => asker,
            Err(reason) => Self { token_doubt: Some(reason), ..asker },
        }
    }

    fn of_certificate(policy: &'p Policy, request: &Request<'p>) -> Self {
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
        let strips =
            peer.as_ref().and_then(|(_, view)| policy.forwarder(view)).is_some_and(|forwarder| !forwarder.keep);
        let (certificate, doubt) = match (forwarder, request.forwarded, doubt) {
            (None, Forwarded::Nothing, doubt) => (peer, doubt),
            (None, Forwarded::Refused(reason), doubt) => (peer, doubt.or(Some(*reason))),
            // Whoever read the request took somebody else for the peer.
            (None, Forwarded::Certificate(_), doubt) => (peer, doubt.or(Some(Reason::InternalError))),
            // What somebody sends who is not believed is nobody's identity.
            (Some(_), _, doubt @ Some(_)) => (None, doubt),
            (Some(_), Forwarded::Nothing, None) => (None, None),
            (Some(_), Forwarded::Refused(reason), None) => (None, Some(*reason)),
            (Some(_), Forwarded::Certificate(subject), None) => {
                let client = Some((subject.leaf(), policy.view(subject)));
                let doubt = standing(policy, request, client.as_ref());
                (client, doubt)
            }
        };
        Self { certificate, forwarder, strips, doubt, token_doubt: None, pair: None }
    }

    /// Why not to ask any rule, if so. `forwarded` says whether the request has a header that carries a certificate.
    pub(crate) fn doubt(&self, policy: &Policy, request: &Request<'_>, forwarded: bool) -> Option<Reason> {
        // With `own_xfcc` there is one whenever the peer presented a certificate.
        let unread = forwarded && !policy.own_xfcc() && matches!(request.forwarded, Forwarded::Nothing);
        self.doubt.or_else(|| unread.then_some(Reason::ForwarderUntrusted)).or(self.token_doubt)
    }

    pub(crate) fn held(&self) -> &[Held] {
        let view = self.pair.as_ref().or_else(|| self.certificate.as_ref().map(|(_, view)| view));
        view.map_or(&[][..], |view| &view.held)
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

    pub(crate) fn strips(&self) -> bool {
        self.strips
    }

    pub(crate) fn into_roles(self) -> Cow<'p, [String]> {
        match self.pair.or_else(|| self.certificate.map(|(_, view)| view)) {
            None => Cow::Borrowed(&[]),
            Some(Cow::Borrowed(view)) => Cow::Borrowed(&view.roles),
            Some(Cow::Owned(view)) => Cow::Owned(view.roles),
        }
    }
}

/// The token that was sent and may be sent by who has this certificate, or why it is refused.
fn token<'t>(policy: &Policy, bearer: &'t Bearer, leaf: Option<&Leaf>) -> Result<Option<&'t Token>, Reason> {
    match bearer {
        Bearer::Absent => Ok(None),
        Bearer::Refused(error) => Err(error.reason()),
        // What another policy believes is not for this one.
        Bearer::Verified(token) if token.providers() != policy.providers.version() => Err(Reason::InternalError),
        Bearer::Verified(token) => token.check_holder(leaf).map_err(TokenError::reason).map(|()| Some(token.as_ref())),
    }
}

fn standing(policy: &Policy, request: &Request<'_>, certificate: Option<&(&Leaf, Cow<'_, View>)>) -> Option<Reason> {
    certificate.and_then(|(leaf, view)| policy.standing().at(request.now, leaf, view.lasting))
}
