//! What the store holds of one certificate.

use std::sync::OnceLock;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Edge;
use portcullis_policy::rotation::Flight;
use portcullis_policy::rotation::Record;
use portcullis_policy::rotation::State;
use portcullis_policy::rotation::Stored;
use portcullis_policy::schedule::Validity;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use super::advice::Advice;
use super::dead_names::DeadName;
use super::standing::Footing;
use crate::issuer::BUILT_IN;
use crate::issuer::Order;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;

/// A certificate with its key, checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Credential {
    /// Leaf first, PEM.
    pub(super) chain_pem: String,
    /// Its key.
    pub(super) key: PrivateKey,
    /// Whether it was seen in use. One of a record of before is taken at its word.
    #[serde(default = "yes")]
    pub(super) proven: bool,
    /// Who issued it.
    #[serde(default = "built_in")]
    pub(super) issuer: String,
    /// The leaf in short.
    pub(super) leaf: Leaf,
    /// Drawn at issuance, and anew where the issuer names another window.
    pub(super) renew_at: UnixTime,
    /// How that was drawn; none if an older agent wrote it.
    #[serde(default)]
    pub(super) drawn: Option<Drawn>,
    /// What the issuer said of that.
    #[serde(default)]
    pub(super) advice: Option<Advice>,
    /// When the issuer answered, in Unix milliseconds.
    pub(super) issued_ms: i64,
    /// Names of the configuration that it was issued without, for the issuer did not accept them.
    #[serde(default)]
    pub(super) without: Vec<String>,
    /// The roots at that time; none for other issuers than the built-in CA, or if an older agent wrote it.
    #[serde(default)]
    pub(super) under: Option<Under>,
    /// Until when the chain leads to a root, where that is before the leaf's own end.
    #[serde(default)]
    pub(super) leads_until: Option<UnixTime>,
    /// The authorities of the chain, once they were read.
    #[serde(skip)]
    pub(super) above: OnceLock<Vec<(String, Timestamp)>>,
}

impl Credential {
    /// From when to when a peer accepts it.
    pub(super) fn validity(&self) -> Validity {
        let Validity { not_before, not_after } = self.leaf.validity;
        Validity { not_before, not_after: self.leads_until.map_or(not_after, |end| end.min(not_after)) }
    }

    /// SHA-256 (hex) and end of validity of each authority of the chain, the leaf's issuer first.
    pub(super) fn above(&self) -> &[(String, Timestamp)] {
        self.above.get_or_init(|| {
            let chain = leaf::chain(&self.chain_pem).unwrap_or_default();
            let above = chain.iter().skip(1).filter_map(|der| Leaf::from_der(der).ok());
            above.map(|one| (one.sha256, leaf::timestamp(one.validity.not_after))).collect()
        })
    }
}

/// What a plan was made of, beside the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drawn {
    /// Made once.
    pub(super) draws: [u32; 2],
    /// When it was taken into use.
    pub(super) at: UnixTime,
}

/// The roots of the built-in CA when a certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Under {
    /// SHA-256 of the one that signed it, hex.
    pub(super) root: String,
    /// All that were trusted, PEM, if there are files to hold them.
    pub(super) ca_pem: Option<String>,
}

/// What the issuer answered, before it was checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) chain_pem: String,
    pub(super) issued_ms: i64,
}

/// All that is kept of one certificate. Written whole, by compare-and-swap.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    /// The newest that passed its checks.
    pub(super) stored: Option<Credential>,
    /// What it replaced, until that is retired.
    pub(super) previous: Option<Leaf>,
    /// What was stored before the flight: in use again if the flight's certificate is refused.
    pub(super) last_good: Option<Credential>,
    /// What was in use before the stored one was: one step back.
    pub(super) back: Option<Credential>,
    /// Serial of the last one that a proxy refused.
    pub(super) refused: Option<String>,
    /// Serial of the one that was gone back from: not taken again by itself.
    pub(super) left: Option<String>,
    /// The rotation under way.
    pub(super) flight: Option<Flight>,
    /// What the flight has asked for.
    pub(super) order: Option<Order>,
    /// What the flight was answered.
    pub(super) answer: Option<Answer>,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Those among them that an issuer is to blame for, since it issued last.
    pub(super) unissued: u32,
    /// Not before this instant.
    pub(super) retry_at: Option<UnixTime>,
    /// Names that an issuer did not accept, when it was asked for them last.
    pub(super) dead: Vec<DeadName>,
    /// When it is tried again whether all names are good.
    pub(super) whole_at: Option<UnixTime>,
    /// Why the last attempt failed.
    pub(super) last_error: Option<String>,
    /// Completed rotations.
    pub(super) rotations: u64,
    /// Of the last rotation.
    pub(super) issued_to_served_ms: Option<u64>,
}

const fn yes() -> bool {
    true
}

fn built_in() -> String {
    BUILT_IN.to_owned()
}

impl Entry {
    pub(super) fn key(name: &str) -> String {
        format!("certificate/{name}")
    }

    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("an entry is made of strings and numbers"))
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub(super) fn record(&self) -> Record {
        let stored = self.stored.as_ref();
        Record {
            stored: stored.map(|stored| Stored { validity: stored.validity(), renew_at: stored.renew_at }),
            flight: self.flight,
            retry_at: self.retry_at,
        }
    }

    pub(super) fn serial(&self) -> Option<&str> {
        self.stored.as_ref().map(|stored| stored.leaf.serial.as_str())
    }

    /// Puts the stored certificate aside that a proxy refused, for the one before it.
    pub(super) fn refuse_stored(&mut self) {
        self.refused = self.serial().map(str::to_owned);
        if let Some(good) = self.last_good.take() {
            self.stored = Some(good);
            self.previous = None;
        }
    }

    /// Whether the stored certificate is one that a proxy refused.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some() && self.refused.as_deref() == self.serial()
    }

    /// Serial that every target has taken.
    pub(super) fn installed(&self) -> Option<&str> {
        match self.flight {
            _ if self.is_refused() => None,
            None => self.serial(),
            Some(flight) if flight.edge > Edge::Install => self.serial(),
            Some(flight) if flight.edge < Edge::Stage => self.serial(),
            Some(_) => self.previous.as_ref().map(|previous| previous.serial.as_str()),
        }
    }

    /// How it stands towards the roots of the built-in CA.
    pub(super) fn footing(&self) -> Option<Footing> {
        let stored = self.stored.as_ref()?;
        let older = [self.last_good.as_ref().map(|good| &good.leaf), self.previous.as_ref()];
        let replaces = self.last_good.as_ref().is_some_and(|good| good.issuer == BUILT_IN);
        let (root, ca_pem) = stored.under.clone().map(|under| (under.root, under.ca_pem)).unzip();
        Some(Footing {
            is_built_in: stored.issuer == BUILT_IN || replaces,
            root,
            ca_pem: ca_pem.flatten(),
            is_settled: self.is_settled(),
            replaced_until: older.into_iter().flatten().map(|leaf| leaf.validity.not_after).max(),
        })
    }

    /// Whether nothing older is in use any more, for all that is known.
    pub(super) fn is_settled(&self) -> bool {
        self.flight.is_none_or(|flight| flight.edge == Edge::Retire)
    }

    pub(super) fn state(&self) -> State {
        match (self.flight, &self.stored) {
            (Some(flight), _) => flight.edge.from(),
            (None, Some(_)) => State::Retired,
            (None, None) => State::Planned,
        }
    }
}
