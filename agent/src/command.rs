//! What the control socket asks of the loop.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::oneshot;

/// One request, with where the answer goes. Answers are for people and machines: text of an error names the remedy.
#[derive(Debug)]
pub enum Command {
    /// Renew now, whatever the schedule says. Answers when the new certificate is proven served, or why not.
    Renew {
        /// Name of the certificate.
        name: String,
        /// What it sets aside.
        insistence: Insistence,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Renewed, CommandError>>,
    },
    /// Try a whole order where it does not count. Answers with what came of it, of which nothing is taken into use.
    Rehearse {
        /// Name of the certificate.
        name: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Rehearsal, CommandError>>,
    },
    /// Put the certificate before the stored one in its place again. Answers when it is proven served, or why not.
    Rollback {
        /// Name of the certificate.
        name: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Renewed, CommandError>>,
    },
    /// Shake hands with every listener now and publish the outcome in the status. Answers when that is done.
    Verify {
        /// One certificate, or all.
        name: Option<String>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    /// Issue a certificate for somebody else from the built-in CA; it is not stored and not renewed.
    Issue {
        /// What to issue.
        request: IssueRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Issued, CommandError>>,
    },
    /// Have one root of the built-in CA follow another. Answers when that is begun, not when it is done, or why it is not.
    Roots {
        /// What to do.
        ask: RootsAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
}

/// What is asked of the built-in CA's roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootsAsk {
    /// Take what somebody who has the root's key signed: the intermediate, then the root, PEM.
    Install(String),
    /// Have the root sign another intermediate, whatever the one that signs has left.
    Intermediate,
    /// Make the key and the request for the next intermediate.
    Request,
    /// Have another root follow the one that signs.
    Rotate,
    /// Remove a root under which nobody has a certificate any more: the beginning of its SHA-256, hex.
    Remove(String),
    /// Do not wait for those who were issued a certificate before the new root was added: they know it.
    Vouch,
}

/// What an operator's renewal sets aside; nothing, if nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Insistence {
    /// Blackouts.
    pub urgency: Urgency,
    /// The issuer's own wishes.
    pub wait: IssuerWait,
}

/// How urgent an operator's renewal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// It waits for nothing, blackouts included.
    Emergency,
    /// It is refused in a blackout.
    #[default]
    Planned,
}

/// What becomes of a wait that an issuer asked for, as by `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerWait {
    /// It is waited for.
    #[default]
    Kept,
    /// The issuer is asked all the same.
    Overridden,
}

/// Outcome of a renewal, or of a step back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// Name of the certificate.
    pub name: String,
    /// Serial before, hex; none at the first.
    pub old_serial: Option<String>,
    /// Serial now, hex.
    pub new_serial: String,
    /// Milliseconds from issued to proven served; none if it has no listener to prove it at.
    pub issued_to_served_ms: Option<u64>,
}

/// An order that went well where it does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Name of the certificate.
    pub name: String,
    /// Host of the server.
    pub server: String,
    /// URL of the order there.
    pub order: String,
    /// The names that were proven.
    pub names: Vec<String>,
    /// How: `dns-01`, `http-01`, `tls-alpn-01`.
    pub challenge: String,
    /// Certificates of the chain, which was looked at as a peer would.
    pub certificates: usize,
    /// End of validity of the leaf, which nobody trusts.
    pub not_after: Option<Timestamp>,
    /// Milliseconds from the first request to the chain.
    pub took_ms: u64,
}

/// A one-off certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    /// SPIFFE ID.
    #[serde(default)]
    pub spiffe: Option<String>,
    /// DNS names.
    #[serde(default)]
    pub dns: Vec<String>,
    /// IP addresses.
    #[serde(default)]
    pub ip: Vec<std::net::IpAddr>,
    /// `server`, `client`.
    pub usage: Vec<Usage>,
    /// Lifetime in seconds.
    pub lifetime_seconds: u64,
}

/// What a certificate is for (extended key usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// TLS client.
    Client,
    /// TLS server.
    Server,
}

/// The one-off certificate. Travels only over the control socket; the key is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// PKCS#8, PEM.
    pub key_pem: String,
    /// The CA to trust, PEM.
    pub ca_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CommandError {
    /// Nothing is renewed now.
    #[error(
        "certificate `{name}` is in a blackout until {until}; nothing was renewed, `--emergency` renews all the same"
    )]
    Blackout {
        /// The name asked for.
        name: String,
        /// Its end.
        until: Timestamp,
    },
    /// Nothing is rotated now.
    #[error(
        "credential `{name}` is in a blackout until {until}; nothing was rotated, `--emergency` rotates all the same"
    )]
    CredentialBlackout {
        /// The name asked for.
        name: String,
        /// Its end.
        until: Timestamp,
    },
    /// No such credential in the configuration.
    #[error("no credential is called `{name}`; the configuration has {}", if known.is_empty() { "none" } else { known.as_str() })]
    UnknownCredential {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No such name in the configuration.
    #[error("no certificate is called `{name}`; the configuration has {known}")]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// It was in the configuration when it was asked for, and is not any more.
    #[error("certificate `{name}` left the configuration; what proxies and files have of it stays as it is")]
    Removed {
        /// The name asked for.
        name: String,
    },
    /// The request itself is wrong.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// It was tried and failed.
    #[error("{step} failed: {cause}")]
    Failed {
        /// The step of the state machine.
        step: String,
        /// The chain of causes.
        cause: String,
    },
}
