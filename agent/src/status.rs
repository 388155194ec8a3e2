//! What the agent says of itself: published by the loop through a watch channel, read by the control socket, the
//! metrics, the health endpoints, and printed by `portcullis status -o json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use portcullis_policy::revocation::WhenStale;
use serde::Deserialize;
use serde::Serialize;

/// The whole picture at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Whether everything stored is also served and the policy file is in force.
    pub ready: bool,
    /// Why not, a sentence each.
    pub reasons: Vec<String>,
    /// One entry a certificate, in the order of the configuration.
    pub certificates: Vec<CertificateStatus>,
    /// One entry a credential, in the order of the configuration.
    #[serde(default)]
    pub credentials: Vec<CredentialStatus>,
    /// The built-in CA.
    #[serde(default)]
    pub ca: CaStatus,
    /// One entry a trust bundle.
    pub bundles: Vec<BundleStatus>,
    /// The policy.
    pub policy: PolicyStatus,
    /// Those whose tokens the policy takes, where their keys are fetched.
    #[serde(default)]
    pub providers: Vec<ProviderStatus>,
    /// What is revoked.
    #[serde(default)]
    pub revocations: RevocationStatus,
    /// Proxies connected over xDS now.
    pub proxies: Vec<ProxyStatus>,
}

/// One rotating certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Name in the configuration, and of the SDS resource.
    pub name: String,
    /// SPIFFE ID or first name.
    pub identity: String,
    /// `built-in`.
    pub issuer: String,
    /// State of the machine: `planned`, `journalled`, `obtained`, `checked`, `staged`, `installed`, `served`, `retired`.
    pub state: String,
    /// The leaf in the store.
    pub stored: Option<LeafStatus>,
    /// SHA-256 (hex) and end of validity of each authority that comes with it, the leaf's issuer first.
    #[serde(default)]
    pub chain: Vec<(String, Timestamp)>,
    /// Serial (hex) that every target acknowledged.
    pub installed: Option<String>,
    /// Where it was looked for by handshake, and what was found there.
    pub served: Vec<ServedStatus>,
    /// When the next attempt is due.
    pub next_attempt: Option<Timestamp>,
    /// When the renewal of the stored leaf is planned.
    #[serde(default)]
    pub renew_at: Option<Timestamp>,
    /// What is waited for: `renewal`, `closed` (a window, or the end of a blackout), `back_off`, `clock`, `listener`,
    /// `not_yet_valid`; none while something is done.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// Whether the fallback issued the stored leaf.
    #[serde(default)]
    pub is_fallback: bool,
    /// Names that the issuer does not accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_names: Vec<DeadNameStatus>,
    /// The last failure, if the last attempt failed.
    pub last_error: Option<String>,
    /// Completed rotations since the store was made.
    pub rotations: u64,
    /// Failed attempts since the last success.
    pub failures: u64,
    /// Milliseconds from issued to proven served, of the last rotation.
    pub issued_to_served_ms: Option<u64>,
}

/// One rotating credential. Its value is in none of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// Name in the configuration, and of the SDS resource.
    pub name: String,
    /// Who uses it.
    pub consumers: Vec<String>,
    /// `password`, `token`, `signing_key`, `session_ticket_keys`, or who gives it.
    pub source: String,
    /// State of the machine, as of a certificate; `served` while what it replaced is good still.
    pub state: String,
    /// What the current value is called.
    pub id: Option<String>,
    /// Who logs in with it.
    pub account: Option<String>,
    /// When it was made.
    pub since: Option<Timestamp>,
    /// When its end was last put off, if it ever was.
    #[serde(default)]
    pub extended_at: Option<Timestamp>,
    /// When it ends by itself.
    pub not_after: Option<Timestamp>,
    /// When the next rotation is planned.
    pub rotate_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt: Option<Timestamp>,
    /// What is waited for: `rotation`, `overlap`, `closed`, `back_off`, `clock`, `first_use`; none while something is done.
    pub waits_for: Option<String>,
    /// When it was last proven to be everywhere.
    pub proven_at: Option<Timestamp>,
    /// Until when what it replaced is good at least.
    pub overlap_until: Option<Timestamp>,
    /// Where it goes: `sds`, directories, programs.
    pub published: Vec<String>,
    /// Whether it is made on first use.
    pub is_on_demand: bool,
    /// Completed rotations.
    pub rotations: u64,
    /// Failed attempts since the last success.
    pub failures: u64,
    /// The last failure, if the last attempt failed.
    pub last_error: Option<String>,
}

/// A name that an issuer does not accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadNameStatus {
    /// The name.
    pub name: String,
    /// The issuer's words, if they are known still.
    pub why: Option<String>,
    /// Whether the stored certificate is without it.
    pub left_out: bool,
}

/// A leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafStatus {
    /// Serial number, lower-case hex without leading zeros.
    pub serial: String,
    /// SHA-256 of the DER, hex.
    pub sha256: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// What a handshake with one listener showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedStatus {
    /// `address` of the configuration.
    pub address: String,
    /// Server name that was asked for.
    pub sni: Option<String>,
    /// The leaf that was served, if one was.
    pub leaf: Option<LeafStatus>,
    /// Whether it is the stored one and in its validity.
    pub current: bool,
    /// Why the handshake failed, if it did.
    pub error: Option<String>,
    /// When this was seen; none if nobody looked yet.
    pub checked_at: Option<Timestamp>,
}

/// The built-in CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaStatus {
    /// Its roots that are trusted, oldest first.
    pub roots: Vec<RootStatus>,
    /// One root on its way to take the place of another.
    pub succession: Option<SuccessionStatus>,
    /// When the next one begins by itself; none if it has to be asked for.
    pub next: Option<Timestamp>,
    /// The authority below the root that signs; none where the root does.
    #[serde(default)]
    pub intermediate: Option<IntermediateStatus>,
    /// Why somebody who has the root's key has to sign a request of this agent now; none if nobody has to.
    #[serde(default)]
    pub wanted: Option<String>,
}

/// An authority below the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntermediateStatus {
    /// Serial number, lower-case hex without leading zeros.
    pub serial: String,
    /// SHA-256 of the DER, hex.
    pub sha256: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// When another one is made, or asked for.
    pub next: Option<Timestamp>,
    /// What the next one waits for, if it is there or due.
    pub waits_for: Option<String>,
}

impl IntermediateStatus {
    /// Whether less than a fifth of its life is left at `now`: another one should be there for long.
    pub fn is_old(&self, now: Timestamp) -> bool {
        let (begin, end) = (self.not_before.as_second(), self.not_after.as_second());
        end.saturating_sub(now.as_second()) < end.saturating_sub(begin) / 5
    }
}

/// A root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStatus {
    /// SHA-256 of the DER, hex.
    pub sha256: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Whether leaves are signed by it.
    pub signs: bool,
    /// The end of what others were issued under it; none if there is none.
    pub others_until: Option<Timestamp>,
}

impl RootStatus {
    /// Whether less than a fifth of its life is left at `now`: high time for another.
    pub fn is_old(&self, now: Timestamp) -> bool {
        let (begin, end) = (self.not_before.as_second(), self.not_after.as_second());
        end.saturating_sub(now.as_second()) < end.saturating_sub(begin) / 5
    }
}

/// One root on its way to take the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessionStatus {
    /// What is being done: `add`, `spread`, `switch`, `wait`, `remove`.
    pub step: String,
    /// On whose word.
    pub by: String,
    /// Since when.
    pub begun: Timestamp,
    /// What is waited for.
    pub waits_for: Option<String>,
    /// Until when at least.
    pub until: Option<Timestamp>,
}

/// A trust bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleStatus {
    /// Name of the SDS resource.
    pub name: String,
    /// SHA-256 (hex) and end of validity of each CA in it.
    pub entries: Vec<(String, Timestamp)>,
    /// Start of validity of each, by its SHA-256.
    #[serde(default)]
    pub not_before: BTreeMap<String, Timestamp>,
    /// Version as pushed.
    pub version: String,
    /// Whether every connected proxy acknowledged it.
    pub acknowledged: bool,
    /// Whom proxies refuse in the handshake, for their serial numbers are revoked.
    #[serde(default)]
    pub in_handshake: InHandshake,
}

/// Whom a proxy refuses in the handshake, by the revocation lists of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InHandshake {
    /// Nobody is revoked by serial number: there are no lists.
    #[default]
    Nobody,
    /// Everybody on the lists.
    Refused {
        /// How many that are.
        entries: usize,
        /// The first end of a list.
        until: Timestamp,
    },
    /// Nobody, though some are revoked by serial number; the filter refuses their requests.
    LeftToFilter {
        /// Why there are no lists.
        why: String,
    },
}

/// The policy and its way to the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The file.
    pub file: String,
    /// Version (SHA-256, hex) that was last good and is pushed; `+` and the version of what is revoked follow it.
    pub version: Option<String>,
    /// Whether every connected proxy acknowledged that version.
    pub acknowledged: bool,
    /// Why what is in the file now was refused, with file, line and field; the version above stays in force.
    pub error: Option<String>,
}

/// Where the keys of a provider of tokens come from, and how that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// Name in the policy.
    pub name: String,
    /// The URL, without its query.
    pub source: String,
    /// Keys in use; none of its tokens is taken while there are none.
    pub keys: usize,
    /// When they were last fetched, or found to be the same.
    pub fetched_at: Option<Timestamp>,
    /// When they will be fetched again.
    pub next_attempt: Option<Timestamp>,
    /// Failed attempts since the last success.
    pub failures: u64,
    /// The last failure, if the last attempt failed.
    pub last_error: Option<String>,
}

impl ProviderStatus {
    /// Nothing fetched yet.
    pub fn new(name: &str, url: &str) -> Self {
        let source = url.split('?').next().unwrap_or_default().to_owned();
        Self {
            name: name.to_owned(),
            source,
            keys: 0,
            fetched_at: None,
            next_attempt: None,
            failures: 0,
            last_error: None,
        }
    }
}

/// What is revoked, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationStatus {
    /// Version of the set, which follows the policy's after a `+`; none while nothing is revoked.
    pub version: Option<String>,
    /// Certificates, keys and identities.
    pub keys: usize,
    /// Authorities of whom nothing is believed that they issued before an instant.
    pub brakes: usize,
    /// What becomes of requests when a list is older than it may be.
    #[serde(default)]
    pub when_stale: WhenStale,
    /// The revocation lists of authorities.
    #[serde(default)]
    pub lists: Vec<ListStatus>,
}

/// A revocation list of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStatus {
    /// Name in the configuration.
    pub name: String,
    /// The file, or the URL without its query.
    pub source: String,
    /// Certificates on the list that is in force.
    pub entries: usize,
    /// When that was made; none if no list was ever taken.
    pub this_update: Option<Timestamp>,
    /// Until when it is good.
    pub next_update: Option<Timestamp>,
    /// Why what is there now is refused.
    pub last_error: Option<String>,
}

impl ListStatus {
    /// Nothing taken yet.
    pub fn new(name: &str, source: &str) -> Self {
        let (name, source) = (name.to_owned(), source.to_owned());
        Self { name, source, entries: 0, this_update: None, next_update: None, last_error: None }
    }

    /// Whether it is older at `now` than it may be.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.next_update.is_none_or(|end| end.as_second() < now.as_second())
    }
}

/// A proxy on the xDS socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// `node.id`.
    pub node: String,
    /// Process id, from the socket's peer credentials.
    pub pid: Option<i32>,
    /// Refusals (NACK) since it connected.
    pub nacks: u64,
}
