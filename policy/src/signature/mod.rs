//! Signatures: keys that are for one scheme each, and who does the arithmetic.
//!
//! The arithmetic is an argument, as `now` is: a proxy may have a library for it that is many times faster than what can be
//! compiled into a Wasm module. Whoever does it, the verdict is the same; what is not a good key or a well-formed signature
//! is found out here, before anybody is asked. Absent: private keys, shared secrets, SHA-1.

mod algorithm;
mod ecdsa;
mod key;
mod probe;
mod pure_rust;
#[cfg(test)]
mod tests;
mod write;

pub use algorithm::Algorithm;
pub use key::HostForm;
pub use key::VerifyingKey;
pub use probe::probe;
pub use pure_rust::PureRust;

pub(crate) use algorithm::Hash;
pub(crate) use algorithm::Scheme;

/// Does the arithmetic of a signature.
pub trait Verifier {
    /// Whether `signature` is that of `message` by `key`. The signature has the form of JWS (RFC 7518 §3): for ECDSA the two
    /// numbers in the full size of the curve, one after the other. [`VerifyingKey::host_form`] has the forms that other
    /// libraries take.
    ///
    /// Ask through [`VerifyingKey::verify`], which refuses what has the wrong length.
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool;
}
