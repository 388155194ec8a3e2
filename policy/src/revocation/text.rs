//! The set as text: in a policy's document, and beside a document that holds none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Brake;
use super::Revocations;
use super::WhenStale;
use crate::hex::Hex;
use crate::time::UnixTime;

/// The member of a document.
const MEMBER: &str = "revocations";

/// The set as it stands in a document.
#[derive(Debug, Serialize)]
pub(crate) struct RevocationsText {
    /// The keys one after the other, sorted, in base64.
    keys: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    brakes: Vec<BrakeText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fresh_until: Option<String>,
    when_stale: WhenStale,
}

#[derive(Debug, Serialize)]
struct BrakeText {
    issuer_sha256: String,
    issued_before: String,
}

impl RevocationsText {
    /// `None` for a set that says nothing.
    pub(crate) fn new(revocations: &Revocations) -> Option<Self> {
        let brake = |brake: &Brake| BrakeText {
            issuer_sha256: Hex(brake.issuer.as_bytes()).to_string(),
            issued_before: time(brake.issued_before),
        };
        let bytes: Vec<u8> = revocations.keys.iter().flat_map(|key| *key.as_bytes()).collect();
        (!revocations.is_empty()).then(|| Self {
            keys: STANDARD.encode(bytes),
            brakes: revocations.brakes.iter().map(brake).collect(),
            fresh_until: revocations.freshness.until.map(time),
            when_stale: revocations.freshness.when_stale,
        })
    }
}

impl Revocations {
    /// The set as it stands in a policy's document, under `revocations`, JSON; `None` for one that says nothing.
    pub fn to_json(&self) -> Option<String> {
        // Strings, numbers and lists of them always serialise.
        RevocationsText::new(self).map(|text| serde_json::to_string(&text).unwrap_or_default())
    }
}

/// Puts a set into a policy's canonical document, which holds none: the document for the filter, and its version. Neither the
/// policy nor the set is compiled again, so this costs no more than a copy.
///
/// What is no canonical document comes out as none: the filter refuses it, and goes on with what it has.
pub fn join(configuration: &str, version: &str, revocations: &Revocations) -> (String, String) {
    let Some(text) = revocations.to_json() else { return (configuration.to_owned(), version.to_owned()) };
    let open = configuration.strip_suffix('}').unwrap_or_default();
    (format!("{open},\"{MEMBER}\":{text}}}"), version_with(version.to_owned(), revocations))
}

/// The version of a policy together with a set.
pub(crate) fn version_with(policy: String, revocations: &Revocations) -> String {
    if revocations.is_empty() { policy } else { format!("{policy}+{}", revocations.version()) }
}

fn time(instant: UnixTime) -> String {
    instant.to_rfc3339().unwrap_or_default()
}
