//! The built-in CA: a P-256 root that is made at the first start and kept, and short-lived leaves under it, or under an
//! [`Intermediate`] below it. The root's key may be kept elsewhere ([`offline`]).
//!
//! [`Authority`] is one root; [`Authorities`] are those of now, while one follows another. All of them have the same name, as
//! RFC 4210 §4.4 has it, so that what is revoked by issuer and serial number stays so.
//!
//! Absent: when to issue and for whom. A leaf is fixed entirely by its [`Order`], which the caller writes down first:
//! the same order signed twice is the same certificate under the same serial.

mod authorities;
mod below;
mod constraints;
pub(crate) mod directory;
mod error;
pub(crate) mod intermediate;
mod journal;
mod lists;
pub mod offline;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use portcullis_policy::UnixTime;
use portcullis_policy::revocation::IssuerName;
use portcullis_policy::schedule::Validity;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::SerialNumber;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::command::Usage;
use crate::config;
use crate::config::RootKey;
use crate::keys;
use crate::keys::KeyError;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;
use crate::leaf::LeafError;
use crate::names::Names;
use crate::revocation::Sha256Hex;
use crate::state_dir::place;

pub use authorities::Authorities;
pub(crate) use authorities::Changes;
pub use constraints::Constraints;
pub use constraints::Network;
pub use directory::below_pem;
pub use directory::root_pem;
pub use directory::trust_domain;
pub use error::CaError;
pub use intermediate::Intermediate;
pub use journal::Below;
pub use journal::Journal;
pub use journal::JournalError;
pub use journal::Kept;
pub use journal::Record;
pub use journal::Turn;

use below::Intermediates;
use below::Signer;

/// Clocks of peers may be this far behind.
const BACKDATE: i64 = 30;
/// A short-lived certificate is backdated by no more than this part of its life.
const BACKDATE_PART: i64 = 10;

/// A root with less left than this is as good as ended: a leaf under it would be due again at once.
const LEAST_LEFT: i64 = 10;

/// Name of the root's certificate in the CA's directory.
pub const ROOT_FILE: &str = "root.pem";
const ROOT_KEY_FILE: &str = "root.key";

/// The CA.
pub struct Authority {
    directory: PathBuf,
    pem: String,
    der: CertificateDer<'static>,
    leaf: Leaf,
    constraints: Constraints,
    /// None where its key is kept elsewhere.
    issuer: Option<Issuer<'static, KeyPair>>,
    /// Whether leaves are signed by intermediates, as far as there are any.
    delegates: bool,
    below: RwLock<Intermediates>,
}

/// Everything that a leaf is made of, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The new key; no two orders share one.
    pub key: PrivateKey,
    /// 128 random bits, positive.
    pub serial: [u8; 16],
    /// Ends no later than the root.
    pub validity: Validity,
    /// Names and uses.
    pub names: Names,
}

impl Authority {
    /// Reads the root from `directory`, or makes one there, unless its key is to be kept elsewhere. Says which with the second
    /// value.
    ///
    /// # Errors
    ///
    /// [`CaError`]. A root that is there and cannot be used is never replaced.
    pub fn open(directory: &Path, config: &config::Ca, now: UnixTime) -> Result<(Self, Origin), CaError> {
        let root = directory.join(ROOT_FILE);
        match fs::read_to_string(&root) {
            Ok(pem) => {
                let authority = Self::load(directory, pem, config)?;
                // Who was away for long comes back to one that has ended.
                let newest = authority.newest();
                if newest.is_some_and(|newest| newest.leaf().validity.has_ended(now)) && authority.has_key() {
                    let next = authority.make_intermediate(config, now)?;
                    authority.sign_with(&next.leaf().sha256);
                }
                Ok((authority, Origin::Found))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && config.root == RootKey::Offline => {
                Err(CaError::NotInstalled { path: root })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let authority = Self::create(directory, config, now)?;
                // Before anything is signed by a root that nobody knows yet.
                if config.intermediate.is_some() {
                    let first = authority.make_intermediate(config, now)?;
                    authority.sign_with(&first.leaf().sha256);
                }
                Ok((authority, Origin::Created))
            }
            Err(source) => Err(CaError::File { action: "read", path: root, source }),
        }
    }

    fn load(directory: &Path, pem: String, config: &config::Ca) -> Result<Self, CaError> {
        let path = directory.join(ROOT_FILE);
        let key = match (read_key(directory)?, config.root) {
            (Some(key), RootKey::Embedded) => Some(key.pair().map_err(CaError::Key)?),
            (None, RootKey::Embedded) => return Err(CaError::KeyMissing { path }),
            (Some(_), RootKey::Offline) => return Err(CaError::KeyHere { path: directory.join(ROOT_KEY_FILE) }),
            (None, RootKey::Offline) => None,
        };
        let unreadable = |source| CaError::Unreadable { path: path.clone(), source };
        let chain = leaf::chain(&pem).map_err(unreadable)?;
        let [der] = chain.as_slice() else {
            return Err(unreadable(LeafError));
        };
        if key.as_ref().is_some_and(|key| !is_key_of(der, key)) {
            return Err(CaError::KeyMismatch { path });
        }
        let leaf = Leaf::from_der(der).map_err(unreadable)?;
        let der = der.clone();
        let issuer = key.map(|key| Issuer::from_ca_cert_der(&der, key)).transpose().map_err(CaError::Sign)?;
        let constraints = Constraints::from_der(&der);
        let all = intermediate::all(directory)?.into_iter().map(Arc::new).collect();
        let (below, delegates) = (RwLock::new(Intermediates::new(all)), config.intermediate.is_some());
        Ok(Self { directory: directory.to_owned(), pem, der, leaf, constraints, issuer, delegates, below })
    }

    fn create(directory: &Path, config: &config::Ca, now: UnixTime) -> Result<Self, CaError> {
        let write = |path: PathBuf, source| CaError::File { action: "write", path, source };
        // A key without a certificate is what a crash between the two left: nothing was signed with it but perhaps a
        // root that nobody saw.
        let key = match read_key(directory)? {
            Some(key) => key,
            None => {
                let key = PrivateKey::generate().map_err(CaError::Key)?;
                place(&directory.join(ROOT_KEY_FILE), |path| key.write_new(path, 0o600))
                    .map_err(|source| write(directory.join(ROOT_KEY_FILE), source))?;
                key
            }
        };
        let pair = key.pair().map_err(CaError::Key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, config.trust_domain.as_str());
        params.distinguished_name.push(DnType::CommonName, "Portcullis root CA");
        params.subject_alt_names = vec![uri(&format!("spiffe://{}", config.trust_domain))?];
        // As many authorities below it as there are to be, and no more (RFC 5280 §4.2.1.9).
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(config.intermediate.is_some().into()));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = config.constraints.for_certificate();
        params.serial_number = Some(SerialNumber::from_slice(&serial().map_err(CaError::Key)?));
        let not_after = UnixTime(now.0.saturating_add(config.root_lifetime));
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(UnixTime(now.0.saturating_sub(BACKDATE)));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        let pem = params.self_signed(&pair).map_err(CaError::Sign)?.pem();
        place(&directory.join(ROOT_FILE), |path| keys::write_new(path, pem.as_bytes(), 0o644))
            .map_err(|source| write(directory.join(ROOT_FILE), source))?;
        Self::load(directory, pem, config)
    }

    /// Where it is kept.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The root, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of subjects in DER: what certificates under it give as their issuer. The root's is the first.
    pub fn names_sha256(&self) -> Vec<Sha256Hex> {
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        let all = std::iter::once(&self.der).chain(below.all.iter().map(|one| one.der()));
        let mut names: Vec<Sha256Hex> = all.filter_map(|der| issuer_name(der)).collect();
        // All below it have one name, but for those that somebody named otherwise.
        names.dedup();
        names
    }

    /// The root's serial, hash and validity.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Fixes what is to be signed: a new key, a new serial, and a validity from a little before `now` to `lifetime`
    /// seconds after it, inside that of whoever signs.
    ///
    /// # Errors
    ///
    /// [`CaError::RootNotValid`], [`CaError::IntermediateNotValid`], [`CaError::NoIntermediate`] and [`CaError::Outside`], if
    /// nobody would accept what is signed.
    pub fn order(&self, names: Names, lifetime: i64, directory: &Path, now: UnixTime) -> Result<Order, CaError> {
        let path = directory.join(ROOT_FILE);
        let signer = self.signer()?;
        let all = match &signer {
            Signer::Root => vec![&self.constraints],
            Signer::Below(below) => vec![&self.constraints, below.constraints()],
        };
        for constraints in all {
            if let Some((_, name)) = constraints.outside(&names) {
                return Err(CaError::Outside { name, path, allowed: constraints.describe() });
            }
        }
        let root = self.leaf.validity;
        let signs = match &signer {
            Signer::Root => root,
            Signer::Below(below) => below.leaf().validity,
        };
        let end = signs.not_after.min(root.not_after);
        let left = end.0.saturating_sub(now.0);
        let too_late = left < lifetime.min(LEAST_LEFT);
        match &signer {
            _ if !root.holds(now) => return Err(CaError::RootNotValid { path, validity: root }),
            Signer::Root if too_late => return Err(CaError::RootNotValid { path, validity: root }),
            Signer::Below(_) if too_late || !signs.holds(now) => {
                let remedy = self.remedy();
                return Err(CaError::IntermediateNotValid { validity: signs, remedy });
            }
            Signer::Root | Signer::Below(_) => {}
        }
        if lifetime > left {
            let (of, until) = (names.label(), leaf::timestamp(end));
            tracing::warn!(of, asked = lifetime, left, %until, "a certificate ends with who signs it; `portcullis ca` shows when another follows");
        }
        let lifetime = lifetime.min(left);
        let backdate = BACKDATE.min(lifetime / BACKDATE_PART);
        let validity = Validity {
            not_before: UnixTime(now.0.saturating_sub(backdate)).max(signs.not_before),
            not_after: UnixTime(now.0.saturating_add(lifetime)),
        };
        let key = PrivateKey::generate().map_err(CaError::Key)?;
        Ok(Order { key, serial: serial().map_err(CaError::Key)?, validity, names })
    }

    /// Signs an order. Returns the chain in PEM, leaf first, without the root.
    ///
    /// # Errors
    ///
    /// [`CaError`].
    pub fn sign(&self, order: &Order) -> Result<String, CaError> {
        match self.signer_of(order)? {
            Signer::Below(below) => Ok(sign(order, &below.issuer)? + below.pem()),
            Signer::Root => {
                let root = self.issuer.as_ref().ok_or_else(|| CaError::NoIntermediate { remedy: self.remedy() })?;
                sign(order, root)
            }
        }
    }
}

/// Signs an order; the leaf alone.
fn sign(order: &Order, issuer: &Issuer<'_, KeyPair>) -> Result<String, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&order.serial));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(order.validity.not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(order.validity.not_after);
    params.subject_alt_names = alternative_names(&order.names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = order.names.usage().iter().map(|usage| purpose(*usage)).collect();
    params.use_authority_key_identifier_extension = true;
    let key = order.key.pair().map_err(CaError::Key)?;
    Ok(params.signed_by(&key, issuer).map_err(CaError::Sign)?.pem())
}

/// SHA-256 of an authority's subject in DER, from its certificate; `None` for bytes that are none.
pub fn issuer_name(der: &[u8]) -> Option<Sha256Hex> {
    use x509_parser::prelude::FromDer as _;

    let (_, certificate) = x509_parser::prelude::X509Certificate::from_der(der).ok()?;
    Some(Sha256Hex(*IssuerName::from_der(certificate.subject().as_raw()).as_bytes()))
}

/// Where a root came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made now.
    Created,
    /// Kept from before.
    Found,
}

fn read_key(directory: &Path) -> Result<Option<PrivateKey>, CaError> {
    let path = directory.join(ROOT_KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(pem) => PrivateKey::from_pem(Zeroizing::new(pem))
            .map(Some)
            .map_err(|source| CaError::KeyUnreadable { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CaError::File { action: "read", path, source }),
    }
}

fn is_key_of(der: &CertificateDer<'_>, key: &KeyPair) -> bool {
    use x509_parser::prelude::FromDer as _;

    let parsed = x509_parser::prelude::X509Certificate::from_der(der);
    parsed
        .is_ok_and(|(_, certificate)| certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}

fn serial() -> Result<[u8; 16], KeyError> {
    let mut bytes: [u8; 16] = keys::random()?;
    // Positive, and never shorter: the first octet is 0x40 to 0x7f (RFC 5280 §4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes)
}

pub(crate) fn alternative_names(names: &Names) -> Result<Vec<SanType>, CaError> {
    let mut all = Vec::new();
    if let Some(id) = names.spiffe() {
        all.push(uri(id)?);
    }
    for name in names.dns() {
        all.push(SanType::DnsName(name.as_str().try_into().map_err(CaError::Sign)?));
    }
    all.extend(names.ip().iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(all)
}

/// What rcgen's type of a time is counted from 1970 by; no certificate here is older.
fn since_epoch(time: UnixTime) -> Duration {
    Duration::from_secs(time.0.max(0).unsigned_abs())
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into().map_err(CaError::Sign)?))
}

fn purpose(usage: Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }
}

#[cfg(test)]
mod tests;
