//! The decision core of Portcullis: facts in, verdict out.
//!
//! Absent from this crate: files, sockets, the clock, random numbers, threads, the proxy. `now` and random draws are
//! arguments; the proxy's facts arrive as plain values and the verdict leaves as one. Nothing here panics.

mod anchor;
mod ascii;
mod asker;
mod certificate;
mod check;
mod compile;
pub mod credential;
mod decide;
mod document;
mod drain;
mod error;
mod explain;
mod form;
mod forwarded;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hex;
mod horizon;
mod host;
mod index;
pub mod intermediate;
mod json_object;
mod memory;
mod network;
pub mod opening;
mod pages;
mod path;
mod pattern;
mod policy;
mod reason;
mod render;
mod requirement;
pub mod revocation;
mod roles;
pub mod rotation;
mod rule;
pub mod samples;
pub mod schedule;
mod selftest;
pub mod signature;
mod spiffe;
mod standing;
mod strings;
pub mod succession;
#[cfg(test)]
mod tests;
// Once more, because lints that tests are free of know them by the attribute above.
#[cfg(all(feature = "fuzzing", not(test)))]
mod tests;
mod time;
pub mod token;

/// The JSON Schema of policy documents (draft 2020-12), for editors. It says what fields there are; whether a policy is good
/// is the compiler's word.
pub const SCHEMA: &str = include_str!("../policy.schema.json");

pub use certificate::AlternativeName;
pub use certificate::Attribute;
pub use certificate::CertificateError;
pub use certificate::Description;
pub use certificate::DistinguishedName;
pub use certificate::KeyUsage;
pub use certificate::Leaf;
pub use certificate::PublicKey;
pub use check::Finding;
pub use decide::Decision;
pub use decide::Denial;
pub use decide::Divergence;
pub use decide::Head;
pub use decide::Peer;
pub use decide::Permit;
pub use decide::Protocol;
pub use decide::Request;
pub use decide::Tls;
pub use error::PolicyError;
pub use error::PolicyProblem;
pub use explain::Explanation;
pub use explain::Mismatch;
pub use explain::RuleOutcome;
pub use form::is_identity_header;
pub use form::is_own_header;
pub use forwarded::Forwarded;
pub use host::Host;
pub use json_object::JsonObject;
pub use memory::Memory;
pub use memory::Recent;
pub use path::Normalization;
pub use path::RequestPath;
pub use policy::Policy;
pub use policy::Subject;
pub use policy::TestFailure;
pub use reason::Reason;
pub use requirement::Needs;
pub use rule::Effect;
pub use spiffe::SpiffeId;
pub use time::UnixTime;
