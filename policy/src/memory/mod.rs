//! What was learned from requests and holds for later ones: bounded, and of one policy only.
//!
//! Of tokens only what is good is remembered, so that a flood of forgeries pushes nothing out.

mod recent;
#[cfg(test)]
mod tests;
mod token_key;

use std::sync::Arc;

use sha2::Digest as _;
use sha2::Sha256;

use crate::certificate::Leaf;
use crate::decide::Head;
use crate::decide::Peer;
use crate::forwarded::Fields;
use crate::forwarded::Forwarded;
use crate::forwarded::own_peer;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::signature::Verifier;
use crate::time::UnixTime;
use crate::token::Bearer;
use crate::token::Token;
use crate::token::TokenError;
use crate::token::credentials;
use crate::token::credentials::Credentials;

pub use recent::Recent;
use token_key::Sought;
use token_key::TokenKey;

/// Forwarded certificates that are remembered. A forwarder sends that of each of its clients again and again.
const FORWARDED_MAX: usize = 4096;

/// Most tokens that are remembered.
const TOKENS_MAX: usize = 16 * 1024;

/// About how many bytes the remembered tokens may take.
const TOKEN_BYTES_MAX: usize = 16 << 20;

/// Certificates and tokens that came in headers. One for each thread that decides. It forgets the certificates when the
/// policy is another. A token is found under every policy that says the same of tokens, keys included, and under no other.
#[derive(Debug)]
pub struct Memory {
    /// Version of the policy.
    policy: String,
    /// By [`key`].
    forwarded: Recent<[u8; 32], Forwarded>,
    /// By the hash of what the proxy told, and how.
    own: Recent<[u8; 32], Option<Arc<Subject>>>,
    tokens: Recent<TokenKey, Arc<Token>>,
}

/// How a proxy tells its peer's certificate.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// In `x-forwarded-client-cert`.
    InHeader,
    AsPem,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            policy: String::new(),
            forwarded: Recent::new(FORWARDED_MAX, usize::MAX),
            own: Recent::new(FORWARDED_MAX, usize::MAX),
            tokens: Recent::new(TOKENS_MAX, TOKEN_BYTES_MAX),
        }
    }
}

impl Memory {
    /// The certificate that the peer forwards with a request. Call it before [`Policy::decide`], with the same policy and peer.
    pub fn forwarded(
        &mut self,
        policy: &Policy,
        peer: &Peer<'_>,
        head: &Head<'_>,
        verifier: &mut dyn Verifier,
    ) -> Forwarded {
        let fields = Fields::of(head);
        if fields.is_empty() {
            return Forwarded::Nothing;
        }
        self.belong_to(policy);
        let view = match peer {
            Peer::Presented { subject, .. } => Some((subject.leaf(), policy.view(subject))),
            Peer::Absent | Peer::Unreadable(_) => None,
        };
        let leaf = view.as_ref().map(|(leaf, _)| *leaf);
        let forwarder = view.as_ref().and_then(|(_, view)| policy.forwarder(view));
        let mut read = || match fields.client(policy.own_xfcc(), leaf, forwarder) {
            Ok(None) => Forwarded::Nothing,
            Ok(Some(leaf)) => Forwarded::Certificate(Arc::new(policy.verified_subject(leaf, verifier))),
            Err(reason) => Forwarded::Refused(reason),
        };
        // Nobody but a forwarder can fill the memory.
        if forwarder.is_none() && !policy.own_xfcc() {
            return read();
        }
        let key = key(leaf, &fields);
        self.forwarded.get(&key).unwrap_or_else(|| {
            let forwarded = read();
            self.forwarded.insert(key, forwarded.clone(), 0);
            forwarded
        })
    }

    /// The certificate of the peer itself, where no host but the proxy's own `x-forwarded-client-cert` tells it: see
    /// [`Policy::own_xfcc`]. `None` if the proxy wrote none, `Some(None)` if what it wrote cannot be read.
    pub fn own_peer(
        &mut self,
        policy: &Policy,
        head: &Head<'_>,
        verifier: &mut dyn Verifier,
    ) -> Option<Option<Arc<Subject>>> {
        let header = Fields::of(head).xfcc?;
        Some(self.own(policy, Told::InHeader, header, verifier, || own_peer(header).ok()))
    }

    /// The certificate of the peer itself, where the proxy hands it out in PEM with percent-encoding and without a digest.
    /// `None` if no identity can be taken from it.
    pub fn presented(&mut self, policy: &Policy, text: &[u8], verifier: &mut dyn Verifier) -> Option<Arc<Subject>> {
        self.own(policy, Told::AsPem, text, verifier, || Leaf::from_url_encoded_pem(text).ok())
    }

    fn own(
        &mut self,
        policy: &Policy,
        told: Told,
        text: &[u8],
        verifier: &mut dyn Verifier,
        read: impl FnOnce() -> Option<Leaf>,
    ) -> Option<Arc<Subject>> {
        self.belong_to(policy);
        let key = Sha256::new().chain_update([told as u8]).chain_update(text).finalize().into();
        self.own.get(&key).unwrap_or_else(|| {
            let subject = read().map(|leaf| Arc::new(policy.verified_subject(leaf, verifier)));
            self.own.insert(key, subject.clone(), 0);
            subject
        })
    }

    /// What becomes of the token of a request under a policy: remembered, or verified now.
    ///
    /// The answer is for this policy and this request. A policy that takes no tokens is told of none, whatever is sent.
    pub fn token(&mut self, policy: &Policy, head: &Head<'_>, now: UnixTime, verifier: &mut dyn Verifier) -> Bearer {
        if !policy.takes_tokens() {
            return Bearer::Absent;
        }
        match credentials::read(head) {
            Credentials::None => Bearer::Absent,
            Credentials::Malformed => Bearer::Refused(TokenError::Malformed),
            Credentials::Bearer(text) => match self.recall(policy, text, now, verifier) {
                Ok(token) => Bearer::Verified(token),
                Err(error) => Bearer::Refused(error),
            },
        }
    }

    fn recall(
        &mut self,
        policy: &Policy,
        text: &[u8],
        now: UnixTime,
        verifier: &mut dyn Verifier,
    ) -> Result<Arc<Token>, TokenError> {
        let key = Sought { providers: policy.providers.version(), text };
        if let Some(token) = self.tokens.get(&key) {
            let provider = policy.providers.get(token.provider()).ok_or(TokenError::IssuerMismatch)?;
            let good = token.claims().check_time(&provider.expected, now);
            if good.is_err() {
                self.tokens.remove(&key);
            }
            return good.map(|()| token);
        }
        let token = Arc::new(policy.providers.verify(text, now, verifier)?);
        let key = TokenKey::from(key);
        let size = key.size() + token.size();
        self.tokens.insert(key, Arc::clone(&token), size);
        Ok(token)
    }

    fn belong_to(&mut self, policy: &Policy) {
        if self.policy != policy.version() {
            policy.version().clone_into(&mut self.policy);
            self.forwarded = Recent::new(FORWARDED_MAX, usize::MAX);
            self.own = Recent::new(FORWARDED_MAX, usize::MAX);
        }
    }
}

/// The hash of everything that the reading of the fields depends on, beside the policy.
fn key(peer: Option<&Leaf>, fields: &Fields<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(peer.map_or(&[0; 32], Leaf::sha256));
    hash.update([u8::from(fields.alias), u8::from(fields.duplicated)]);
    let values = [fields.xfcc, fields.client_cert].into_iter().chain(fields.chains.iter().map(|chain| Some(*chain)));
    for value in values {
        hash.update([u8::from(value.is_some())]);
        hash.update(value.map_or(0, <[u8]>::len).to_le_bytes());
        hash.update(value.unwrap_or_default());
    }
    hash.finalize().into()
}
