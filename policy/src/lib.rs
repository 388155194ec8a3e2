//! The decision core of Portcullis: facts in, verdict out.
//!
//! Absent from this crate: files, sockets, the clock, random numbers, threads, the proxy. `now` and random draws are
//! arguments; the proxy's facts arrive as plain values and the verdict leaves as one. Nothing here panics.

mod certificate;
mod decide;
mod error;
mod hex;
mod host;
mod path;
mod policy;
mod reason;
pub mod rotation;
pub mod schedule;
mod spiffe;
mod time;

pub use certificate::AlternativeName;
pub use certificate::Attribute;
pub use certificate::CertificateError;
pub use certificate::DistinguishedName;
pub use certificate::KeyUsage;
pub use certificate::Leaf;
pub use certificate::PublicKey;
pub use decide::Decision;
pub use decide::Denial;
pub use decide::Head;
pub use decide::Peer;
pub use decide::Permit;
pub use decide::Request;
pub use decide::Tls;
pub use error::PolicyError;
pub use host::Host;
pub use path::Normalization;
pub use path::RequestPath;
pub use policy::Policy;
pub use policy::Subject;
pub use policy::TestFailure;
pub use reason::Reason;
pub use spiffe::SpiffeId;
pub use time::UnixTime;
