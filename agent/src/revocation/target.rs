//! What is revoked: one certificate, a key, an identity, or everything that an authority issued before an instant.

use std::fmt;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::revocation::Brake;
use portcullis_policy::revocation::IssuerName;
use portcullis_policy::revocation::Key;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error as _;

use crate::leaf;

/// Longest identity that is taken, in bytes: no certificate that the filter reads has a longer one.
const MAX_IDENTITY: usize = 4096;
/// Longest serial number that is taken, in bytes (RFC 5280 §4.1.2.2 has 20; some authorities have more).
const MAX_SERIAL: usize = 64;

/// A SHA-256; in JSON and for people 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hex(pub [u8; 32]);

/// A serial number without leading zeros; in JSON and for people hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Box<[u8]>);

/// One thing that is revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// Everything that an authority issued before an instant.
    IssuedBefore {
        /// SHA-256 of the authority's name in DER.
        issuer: Sha256Hex,
        /// The first instant that is spared, in whole seconds.
        instant: Timestamp,
    },
    /// One certificate, by issuer and serial number.
    Serial {
        /// SHA-256 of the authority's name in DER.
        issuer: Sha256Hex,
        /// The number.
        serial: Serial,
    },
    /// One certificate, by the SHA-256 of its DER.
    Sha256(Sha256Hex),
    /// Every certificate with a public key, by the SHA-256 of its `SubjectPublicKeyInfo`.
    SpkiSha256(Sha256Hex),
    /// Every certificate with an identity, as records and the status show it: `spiffe://…`, or a name after `dns:`, `uri:`,
    /// `email:`, `ip:`, `other:`, `subject:`.
    Identity(Box<str>),
}

/// Why something cannot be revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not a hash.
    #[error("`{0}` is not a SHA-256: 64 hexadecimal digits, with or without colons")]
    Hash(String),
    /// Not a serial number.
    #[error("`{0}` is not a serial number: hexadecimal digits, with or without colons")]
    Serial(String),
    /// Nobody's identity.
    #[error(
        "`{0}` is nobody's identity: write it as records show it, `spiffe://…`, or a name after `dns:`, `uri:`, `email:`, `ip:`, `other:` or `subject:`"
    )]
    Identity(String),
}

impl Target {
    /// An identity.
    ///
    /// # Errors
    ///
    /// [`TargetError::Identity`] for text that no certificate's identity looks like: it would revoke nobody, silently.
    pub fn identity(text: &str) -> Result<Self, TargetError> {
        const KINDS: [&str; 7] = ["spiffe://", "dns:", "uri:", "email:", "ip:", "other:", "subject:"];
        let known = KINDS.iter().any(|kind| text.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
        let plain = text.len() <= MAX_IDENTITY && text.bytes().all(|byte| byte.is_ascii_graphic());
        if known && plain { Ok(Self::Identity(text.into())) } else { Err(TargetError::Identity(shown(text))) }
    }

    /// What a certificate is looked up by, unless this is about all that were issued before an instant.
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::IssuedBefore { .. } => None,
            Self::Serial { issuer, serial } => Some(Key::of_serial(&IssuerName::from_sha256(issuer.0), &serial.0)),
            Self::Sha256(hash) => Some(Key::of_certificate(&hash.0)),
            Self::SpkiSha256(hash) => Some(Key::of_public_key(&hash.0)),
            Self::Identity(identity) => Some(Key::of_identity(identity)),
        }
    }

    /// The authority and the instant, if this is about those.
    pub fn brake(&self) -> Option<Brake> {
        match self {
            Self::IssuedBefore { issuer, instant } => {
                Some(Brake { issuer: IssuerName::from_sha256(issuer.0), issued_before: UnixTime(instant.as_second()) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IssuedBefore { issuer, instant } => write!(f, "issued before {instant} by {issuer}"),
            Self::Serial { issuer, serial } => write!(f, "serial {serial} of {issuer}"),
            Self::Sha256(hash) => write!(f, "certificate {hash}"),
            Self::SpkiSha256(hash) => write!(f, "public key {hash}"),
            Self::Identity(identity) => write!(f, "identity {identity}"),
        }
    }
}

impl Sha256Hex {
    /// From 64 digits of either case, with or without colons.
    ///
    /// # Errors
    ///
    /// [`TargetError::Hash`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let bytes = digits(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| TargetError::Hash(shown(text)))
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&leaf::hex(&self.0))
    }
}

impl Serial {
    /// The contents of the INTEGER, big-endian.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes[zeros..].into())
    }

    /// From digits of either case, with or without colons and leading zeros.
    ///
    /// # Errors
    ///
    /// [`TargetError::Serial`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        // As the agent itself shows them, without a leading zero, they may have an odd number of digits.
        let even =
            if !text.len().is_multiple_of(2) && !text.contains(':') { format!("0{text}") } else { text.to_owned() };
        let bytes = digits(&even).filter(|bytes| (1..=MAX_SERIAL).contains(&bytes.len()));
        bytes.map(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| TargetError::Serial(shown(text)))
    }

    /// Big-endian, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&leaf::serial_hex(&self.0))
    }
}

macro_rules! as_text {
    ($($type:ty),*) => { $(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(D::Error::custom)
            }
        }
    )* };
}

as_text!(Sha256Hex, Serial);

fn digits(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.split(':').collect();
    let colons_between_bytes = !text.contains(':') || text.split(':').all(|byte| byte.len() == 2);
    if !colons_between_bytes || !plain.is_ascii() || !plain.len().is_multiple_of(2) {
        return None;
    }
    let pairs = plain.as_bytes().chunks(2);
    // The parser of integers would take a sign.
    let byte = |pair: &[u8]| {
        let hex = pair.iter().all(u8::is_ascii_hexdigit);
        std::str::from_utf8(pair).ok().filter(|_| hex).and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    pairs.map(byte).collect()
}

/// Text for a message: escaped and shortened.
fn shown(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_and_hashes_are_read_in_every_spelling_and_shown_in_one() {
        for (text, want) in [("2a", "2a"), ("2A", "2a"), ("00:2a", "2a"), ("a", "a"), ("0", "0"), ("010", "10")] {
            assert_eq!(Serial::parse(text).unwrap().to_string(), want, "{text}");
        }
        for text in ["", "2a:", "2:a", "+a", "xy", "-1", &"00".repeat(65)] {
            assert!(Serial::parse(text).is_err(), "{text}");
        }
        let hash = "ab".repeat(32);
        assert_eq!(Sha256Hex::parse(&hash.to_uppercase()).unwrap().to_string(), hash);
        assert_eq!(Sha256Hex::parse(&["ab"; 32].join(":")).unwrap().to_string(), hash);
        assert!(Sha256Hex::parse(&hash[2..]).is_err());
    }

    #[test]
    fn an_identity_is_written_as_records_show_it() {
        for text in ["spiffe://a/b", "dns:a.b", "subject:CN=a%20b"] {
            assert!(Target::identity(text).is_ok(), "{text}");
        }
        for text in ["", "checkout", "spiffe://", "dns:", "dns:a b", "DNS:a"] {
            assert!(Target::identity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn targets_travel_as_json() {
        let all = [
            Target::identity("dns:a").unwrap(),
            Target::Sha256(Sha256Hex([7; 32])),
            Target::Serial { issuer: Sha256Hex([1; 32]), serial: Serial::parse("2a").unwrap() },
            Target::IssuedBefore { issuer: Sha256Hex([1; 32]), instant: Timestamp::UNIX_EPOCH },
        ];
        for target in all {
            let json = serde_json::to_string(&target).unwrap();
            assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target, "{json}");
        }
        assert!(serde_json::from_str::<Target>(r#"{"sha256": "ab"}"#).is_err());
    }
}
