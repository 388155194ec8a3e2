//! One policy in force, with what was learned under it.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use portcullis_policy::CertificateError;
use portcullis_policy::Decision;
use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Memory;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::PolicyError;
use portcullis_policy::Recent;
use portcullis_policy::Subject;
use portcullis_policy::TestFailure;
use portcullis_policy::UnixTime;
use portcullis_policy::token::Bearer;

use crate::counters::Counters;
use crate::host;
use crate::host::Digest;
use crate::host::HostError;
use crate::verifier::SignatureVerifier;

/// Certificates remembered for one policy. A worker meets each of its clients' certificates once, then reads a digest.
const CERTIFICATES_MAX: usize = 8192;

/// Every how-manieth allowed request with another verdict beside the enforced one leaves a record.
const DIVERGENT_EVERY: u64 = 100;

thread_local! {
    /// Tokens, of the VM: a configuration that says the same as the one before it finds what was verified under that one.
    static TOKENS: RefCell<Memory> = RefCell::default();
}

/// A compiled policy and the certificates that it was asked about.
///
/// Shared by the requests that began under it; a certificate is looked at anew under the next one, because what a policy
/// says of it (its roles) is part of what is remembered.
pub(crate) struct Generation {
    policy: Policy,
    /// The name that the proxy's configuration gives the filter.
    name: Vec<u8>,
    successor: RefCell<Option<Rc<Self>>>,
    certificates: RefCell<Recent<Digest, Rc<Certificate>>>,
    memory: RefCell<Memory>,
    allowed: Cell<u64>,
    divergent: Cell<u64>,
}

/// What a presented certificate turned out to be: somebody, or bytes that no identity can be taken from.
pub(crate) type Certificate = Result<Arc<Subject>, CertificateError>;

/// Why a configuration was refused. What was in force before stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    #[error("the filter has no configuration: it needs a policy")]
    Absent,
    #[error("cannot read the configuration")]
    Host(#[source] HostError),
    #[error("the proxy withholds what every decision needs")]
    Withheld(#[source] HostError),
    #[error("the policy does not compile")]
    Policy(#[source] PolicyError),
    #[error("{} of the policy's own tests fail", .0.len())]
    Tests(Vec<TestFailure>),
}

impl Generation {
    /// Compiles the policy and runs its tests.
    pub(crate) fn from_configuration(
        configuration: Result<Option<Vec<u8>>, HostError>,
    ) -> Result<Self, ConfigurationError> {
        host::probe().map_err(ConfigurationError::Withheld)?;
        let text = configuration.map_err(ConfigurationError::Host)?.ok_or(ConfigurationError::Absent)?;
        let policy = Policy::from_json(&text).map_err(ConfigurationError::Policy)?;
        let failures = policy.run_tests();
        if !failures.is_empty() {
            return Err(ConfigurationError::Tests(failures));
        }
        Ok(Self {
            policy,
            name: host::plugin_name(),
            successor: RefCell::new(None),
            certificates: RefCell::new(Recent::new(CERTIFICATES_MAX, usize::MAX)),
            memory: RefCell::default(),
            allowed: Cell::new(0),
            divergent: Cell::new(0),
        })
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The name that the proxy's configuration gives the filter.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether another policy is in force in its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.successor.borrow().is_some()
    }

    /// Says which policy is in force in its place; `None` if it is itself.
    pub(crate) fn replaced_by(&self, successor: Option<Rc<Self>>) {
        *self.successor.borrow_mut() = successor;
    }

    /// The policy that is in force where this one was.
    pub(crate) fn newest(this: &Rc<Self>) -> Rc<Self> {
        let mut newest = Rc::clone(this);
        loop {
            let Some(next) = newest.successor.borrow().clone() else { return Rc::clone(&newest) };
            newest = next;
        }
    }

    /// The certificate with this digest, which the peer of the request in hand presented: remembered, or read and parsed.
    pub(crate) fn certificate(&self, digest: Digest, counters: &Counters) -> Result<Rc<Certificate>, HostError> {
        if let Some(known) = self.certificates.borrow_mut().get(&digest) {
            counters.certificate_cached();
            return Ok(known);
        }
        counters.certificate_parsed();
        let text = host::peer_certificate()?;
        let certificate = match Leaf::from_url_encoded_pem(&text) {
            Ok(leaf) if leaf.sha256() != digest.as_bytes() => return Err(HostError::DigestMismatch),
            Ok(leaf) => Ok(Arc::new(self.policy.verified_subject(leaf, &mut SignatureVerifier::of_vm()))),
            Err(error) => Err(error),
        };
        let certificate = Rc::new(certificate);
        self.certificates.borrow_mut().insert(digest, Rc::clone(&certificate), 0);
        Ok(certificate)
    }

    /// The certificate of the peer by what the proxy wrote of it into `x-forwarded-client-cert`; `None` if it wrote nothing.
    /// `digest` is what else it says of the certificate.
    pub(crate) fn own_peer(
        &self,
        head: &Head<'_>,
        digest: Option<Digest>,
    ) -> Result<Option<Rc<Certificate>>, HostError> {
        match self.memory.borrow_mut().own_peer(&self.policy, head, &mut SignatureVerifier::of_vm()) {
            None if digest.is_some() => Err(HostError::PropertyMissing("connection.peer_certificate")),
            None => Ok(None),
            Some(None) => Ok(Some(Rc::new(Err(CertificateError::Pem)))),
            Some(Some(subject)) if digest.is_some_and(|digest| digest.as_bytes() != subject.leaf().sha256()) => {
                Err(HostError::DigestMismatch)
            }
            Some(Some(subject)) => Ok(Some(Rc::new(Ok(subject)))),
        }
    }

    /// The certificate of the peer by what a host without digests hands out of it.
    pub(crate) fn escaped(&self, text: &[u8]) -> Rc<Certificate> {
        let subject = self.memory.borrow_mut().presented(&self.policy, text, &mut SignatureVerifier::of_vm());
        Rc::new(subject.ok_or(CertificateError::Pem))
    }

    /// The certificate that the peer forwards.
    pub(crate) fn forwarded(&self, peer: &Peer<'_>, head: &Head<'_>) -> Forwarded {
        self.memory.borrow_mut().forwarded(&self.policy, peer, head, &mut SignatureVerifier::of_vm())
    }

    /// Counts an allowed request on which shadow rules or a candidate differ; whether it is one of those that leave a record:
    /// the first one and some after it.
    pub(crate) fn sample_divergent(&self, decision: &Decision<'_>) -> bool {
        if decision.shadow().is_none() && decision.candidate().is_none() {
            return false;
        }
        let count = self.divergent.get();
        self.divergent.set(count.wrapping_add(1));
        count.is_multiple_of(DIVERGENT_EVERY)
    }

    /// What becomes of the token of a request. Costs nothing where the policy takes none.
    pub(crate) fn token(&self, head: &Head<'_>, now: UnixTime, counters: &Counters) -> Bearer {
        if !self.policy.takes_tokens() {
            return Bearer::Absent;
        }
        let mut verifier = SignatureVerifier::of_vm();
        let token = TOKENS.with_borrow_mut(|memory| memory.token(&self.policy, head, now, &mut verifier));
        match &token {
            Bearer::Absent => {}
            Bearer::Verified(_) if verifier.asked() == 0 => counters.token_cached(),
            Bearer::Verified(_) => counters.token_verified(),
            Bearer::Refused(_) => counters.token_refused(),
        }
        token
    }

    /// Counts an allowed request; whether it is one of those that leave a record.
    pub(crate) fn sample_allowed(&self) -> bool {
        let Some(every) = self.policy.record_allow_every() else {
            return false;
        };
        let count = self.allowed.get().wrapping_add(1);
        self.allowed.set(count);
        count.is_multiple_of(every)
    }
}
