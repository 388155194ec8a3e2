//! Who issues certificates beside the built-in CA.

pub mod acme;

use serde::Deserialize;
use serde::Serialize;

use crate::keys::PrivateKey;
use crate::names::Names;

/// What a certificate is asked for. Written down before anybody is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The new key; no two requests share one.
    pub key: PrivateKey,
    /// Names and uses.
    pub names: Names,
    /// Seconds, where the issuer lets one choose.
    pub lifetime: i64,
}

/// How far the next step of an order led.
#[derive(Debug)]
pub enum Progress<T> {
    /// Write this down, then ask again.
    Journal(T),
    /// The chain in PEM, leaf first, without the root.
    Issued(String),
}
