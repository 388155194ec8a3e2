//! What a policy is about, in examples: certificates and requests made from its own patterns.
//!
//! For people who ask what a policy says, and what another version of it would say: see [`compare`], [`who`] and [`what`].
//! A sample is believed only once the engine has been asked about it: each certificate does hold the role that it was made
//! for. Absent: requests that clients made. Everything here is bounded and looks at every rule; it is not for requests.

mod compare;
mod facts;
mod people;
mod reach;
mod requests;
mod words;

use crate::certificate::Description;
use crate::certificate::Leaf;
use crate::compile;
use crate::decide::Peer;
use crate::error::PolicyError;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::time::UnixTime;

pub use compare::Extent;
pub use compare::compare;
pub use facts::Facts;
pub(crate) use people::Holder;
pub(crate) use people::holder;
pub use reach::Way;
pub use reach::what;
pub use reach::who;
pub use requests::SampleRequest;
pub(crate) use words::Shape;
pub(crate) use words::Words;
pub(crate) use words::unify;

/// Somebody who is only thought of: nobody at all, or a certificate that a policy gives a role.
#[derive(Clone, Debug)]
pub struct SamplePeer {
    /// The role that it was made for; `None` for who has no certificate, and for strangers.
    pub role: Option<String>,
    subject: Option<Subject>,
}

impl SamplePeer {
    pub(crate) fn new(policy: &Policy, role: Option<&str>, leaf: Option<Leaf>) -> Self {
        Self { role: role.map(str::to_owned), subject: leaf.map(|leaf| policy.subject(leaf)) }
    }

    /// Somebody with these names, in the form of a policy's `tests:` (JSON): `"none"`, or an object such as
    /// `{"spiffe": "spiffe://acme.example/ns/shop/sa/checkout"}`.
    ///
    /// # Errors
    ///
    /// What is wrong with a name, with its field.
    pub fn named(policy: &Policy, names: &str) -> Result<Self, PolicyError> {
        let leaf = compile::peer(names, now(policy))?;
        Ok(Self::new(policy, None, leaf))
    }

    /// As who asks.
    pub fn peer(&self) -> Peer<'_> {
        self.subject.as_ref().map_or(Peer::Absent, |subject| Peer::Presented { subject, validated: true })
    }

    /// The certificate; `None` for who has none.
    pub fn leaf(&self) -> Option<&Leaf> {
        self.subject.as_ref().map(Subject::leaf)
    }

    /// The certificate in the form of the peers of a policy's `tests:`.
    pub fn describe(&self) -> Option<Description> {
        self.leaf()?.describe().map(Description::of_sample)
    }

    /// Who it is, as decisions name it.
    pub fn identity(&self) -> Option<&str> {
        self.leaf().map(Leaf::identity)
    }
}

/// When samples of a policy ask, if their rule does not say when: its certificates are valid then, and not distrusted.
pub fn now(policy: &Policy) -> UnixTime {
    clock(&[policy])
}

/// When samples ask: certificates that begin now are not distrusted for their age.
pub(crate) fn clock(policies: &[&Policy]) -> UnixTime {
    let brakes = policies.iter().flat_map(|policy| &policy.standing.brakes);
    brakes.filter_map(|brake| brake.issued_before).max().unwrap_or(UnixTime(0))
}
