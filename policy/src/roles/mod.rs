//! Which roles a certificate holds.
//!
//! Worked out once for each certificate, not for each request: the answer is kept in a [`crate::Subject`]. Members are
//! found by an index over their rarest condition (hash, serial, SPIFFE ID, …), then all their conditions are checked, so the
//! cost follows the members that could match and not the number of roles. What has no such condition (networks, purposes,
//! issuers alone) is tried one by one.

mod binding;
pub(crate) mod condition;
mod members;

pub(crate) use binding::Binding;
pub(crate) use condition::Condition;
pub(crate) use members::Member;
pub(crate) use members::Members;

/// A role: 0 is `any`, what everybody is; the others are numbered in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoleId(pub(crate) u32);

impl RoleId {
    /// Everybody, with or without a certificate.
    pub(crate) const ANY: Self = Self(0);
}

/// A role that somebody holds, with every way in which its captures are bound.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) role: RoleId,
    pub(crate) bindings: Vec<Binding>,
}
