//! Credentials that rotate: passwords, tokens and keys that services behind the proxy use.

pub mod material;
pub mod source;
pub mod target;
