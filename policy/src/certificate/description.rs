//! What a certificate says, in the form of the peers of a policy's `tests:`: for records that can be decided again.

use serde::Serialize;

use super::AlternativeName;
use super::DistinguishedName;
use super::Leaf;
use super::PublicKey;
use super::Synthetic;
use crate::compile;
use crate::document::Entries;
use crate::document::OneOrMany;
use crate::document::PeerNames;
use crate::document::TestKey;
use crate::error::PolicyError;
use crate::hex::Hex;
use crate::roles::condition::ED25519;
use crate::time::UnixTime;

/// The most names of one kind that a description has.
const MAX_NAMES: usize = 16;

/// The longest name that a description has, in bytes.
const MAX_NAME: usize = 256;

/// Everything that policies ask of a certificate, as [`Leaf::describe`] gives it and [`Leaf::described`] takes it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Description(PeerNames);

impl Description {
    /// Without what a sample has only because every certificate has some: what is left can stand in a policy's `tests:`.
    pub(crate) fn of_sample(mut self) -> Self {
        let blank = Synthetic::blank(UnixTime(0));
        let made_up = |text: &String, blank: &[u8]| *text == Hex(blank).to_string();
        self.0.serial = self.0.serial.filter(|text| !made_up(text, &blank.serial));
        self.0.sha256 = self.0.sha256.filter(|text| !made_up(text, &blank.sha256));
        self.0.spki_sha256 = self.0.spki_sha256.filter(|text| !made_up(text, &blank.spki_sha256));
        self.0.not_before = None;
        self
    }
}

impl Leaf {
    /// Describes the certificate. `None` if that cannot be done within bounds, or if a name is of a kind that descriptions
    /// do not have: a part would be another certificate.
    pub fn describe(&self) -> Option<Description> {
        if self.ca {
            return None;
        }
        let mut names = PeerNames::default();
        for name in &self.alternative_names {
            let (list, text) = match name {
                AlternativeName::Uri(uri) if self.spiffe.is_some() => {
                    names.spiffe = Some(bounded(uri)?);
                    continue;
                }
                AlternativeName::Uri(uri) => (&mut names.uri, bounded(uri)?),
                AlternativeName::Dns(name) => (&mut names.dns, bounded(name)?),
                AlternativeName::Email(name) => (&mut names.email, bounded(name)?),
                AlternativeName::Ip(address) => (&mut names.ip, address.to_string()),
                _ => return None,
            };
            push(list, text)?;
        }
        for oid in self.policies.iter().flatten().chain(self.custom_extensions()) {
            push(&mut names.oid, bounded(oid)?)?;
        }
        if self.policies.is_none() && !names.oid.0.is_empty() {
            return None;
        }
        names.key = key(&self.public_key)?;
        for purpose in &self.eku {
            push(&mut names.eku, bounded(purpose)?)?;
        }
        names.subject = attributes(&self.subject)?;
        names.issuer = attributes(&self.issuer)?;
        if let Some(key) = &self.authority_key_id
            && !key.is_empty()
        {
            names.issuer.0.push(("key_id".to_owned(), bounded(&Hex(key).to_string())?));
        }
        // Of the anchors that signed it one is enough for a policy.
        if let Some(anchor) = self.provenance.issuers().next() {
            names.issuer.0.push(("sha256".to_owned(), Hex(anchor).to_string()));
        }
        names.serial = Some(serial(&self.serial)?);
        names.sha256 = Some(Hex(&self.sha256).to_string());
        names.spki_sha256 = Some(Hex(&self.spki_sha256).to_string());
        names.not_before = Some(self.not_before.to_rfc3339()?);
        // What is thought of is valid for ever.
        if self.not_after != UnixTime(i64::MAX) {
            names.not_after = Some(self.not_after.to_rfc3339()?);
        }
        Some(Description(names))
    }

    /// The extensions that are not those of RFC 5280, which policies ask for in other ways.
    fn custom_extensions(&self) -> impl Iterator<Item = &String> {
        let standard = ["2.5.29.", "1.3.6.1.5.5.7.1."];
        self.extensions.iter().filter(move |oid| !standard.iter().any(|arc| oid.starts_with(arc)))
    }

    /// The certificate of a description (JSON), for decisions that are made again; `None` if it says `"none"`.
    ///
    /// Nobody signed it. Never call it with what a client sent.
    ///
    /// # Errors
    ///
    /// What is wrong with the description, with its field.
    pub fn described(description: &str) -> Result<Option<Self>, PolicyError> {
        compile::peer(description, UnixTime(0))
    }
}

/// `None` for a key that descriptions have no words for; one of an unknown algorithm is left out.
fn key(key: &PublicKey) -> Option<Option<TestKey>> {
    let (kind, bits) = match key {
        PublicKey::Ec { .. } => ("ec", Some(key.bits()?)),
        PublicKey::Rsa { bits } => ("rsa", Some(*bits)),
        PublicKey::Other { algorithm } if algorithm == ED25519 => ("ed25519", None),
        PublicKey::Other { .. } => return Some(None),
    };
    Some(Some(TestKey { r#type: kind.to_owned(), bits }))
}

/// The attributes that occur once: of others there is no saying which value is meant, so no policy can ask for them.
fn attributes(name: &DistinguishedName) -> Option<Entries<String, String>> {
    let mut entries = Vec::new();
    for attribute in name.attributes() {
        if let Some(text) = name.single(attribute.oid()) {
            entries.push((attribute.oid().to_owned(), bounded(text)?));
        }
    }
    (entries.len() <= MAX_NAMES).then_some(Entries(entries))
}

fn serial(serial: &[u8]) -> Option<String> {
    if serial.is_empty() { Some("00".to_owned()) } else { bounded(&Hex(serial).to_string()) }
}

fn push(list: &mut OneOrMany, text: String) -> Option<()> {
    list.0.push(text);
    (list.0.len() <= MAX_NAMES).then_some(())
}

fn bounded(text: &str) -> Option<String> {
    (text.len() <= MAX_NAME).then(|| text.to_owned())
}
