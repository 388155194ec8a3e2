//! The built-in CA: a P-256 root that is made at the first start and kept, and short-lived leaves under it.
//!
//! [`Authority`] is one root; [`Authorities`] are those of now, while one follows another. All of them have the same name, as
//! RFC 4210 §4.4 has it, so that what is revoked by issuer and serial number stays so.
//!
//! Absent: when to issue and for whom. A leaf is fixed entirely by its [`Order`], which the caller writes down first:
//! the same order signed twice is the same certificate under the same serial.

mod authorities;
mod constraints;
pub(crate) mod directory;
mod error;
mod journal;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_policy::UnixTime;
use portcullis_policy::revocation::IssuerName;
use portcullis_policy::schedule::Validity;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::SanType;
use rcgen::SerialNumber;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::command::Usage;
use crate::config;
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
pub use directory::root_pem;
pub use directory::trust_domain;
pub use error::CaError;
pub use journal::Journal;
pub use journal::JournalError;
pub use journal::Kept;
pub use journal::Record;
pub use journal::Turn;

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
    issuer: Issuer<'static, KeyPair>,
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
    /// Reads the root from `directory`, or makes one there. Says which with the second value.
    ///
    /// # Errors
    ///
    /// [`CaError`]. A root that is there and cannot be used is never replaced.
    pub fn open(directory: &Path, config: &config::Ca, now: UnixTime) -> Result<(Self, Origin), CaError> {
        let root = directory.join(ROOT_FILE);
        match fs::read_to_string(&root) {
            Ok(pem) => Ok((Self::load(directory, pem)?, Origin::Found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok((Self::create(directory, config, now)?, Origin::Created))
            }
            Err(source) => Err(CaError::File { action: "read", path: root, source }),
        }
    }

    fn load(directory: &Path, pem: String) -> Result<Self, CaError> {
        let path = directory.join(ROOT_FILE);
        let key = match read_key(directory)? {
            Some(key) => key.pair().map_err(CaError::Key)?,
            None => return Err(CaError::KeyMissing { path }),
        };
        let unreadable = |source| CaError::Unreadable { path: path.clone(), source };
        let chain = leaf::chain(&pem).map_err(unreadable)?;
        let [der] = chain.as_slice() else {
            return Err(unreadable(LeafError));
        };
        if !is_key_of(der, &key) {
            return Err(CaError::KeyMismatch { path });
        }
        let leaf = Leaf::from_der(der).map_err(unreadable)?;
        let der = der.clone();
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(CaError::Sign)?;
        let constraints = Constraints::from_der(&der);
        Ok(Self { directory: directory.to_owned(), pem, der, leaf, constraints, issuer })
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
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = config.constraints.for_certificate();
        params.serial_number = Some(SerialNumber::from_slice(&serial().map_err(CaError::Key)?));
        let not_after = UnixTime(now.0.saturating_add(config.root_lifetime));
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(UnixTime(now.0.saturating_sub(BACKDATE)));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        let pem = params.self_signed(&pair).map_err(CaError::Sign)?.pem();
        place(&directory.join(ROOT_FILE), |path| keys::write_new(path, pem.as_bytes(), 0o644))
            .map_err(|source| write(directory.join(ROOT_FILE), source))?;
        Self::load(directory, pem)
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

    /// SHA-256 of the root's subject in DER: what certificates under it give as their issuer.
    pub fn name_sha256(&self) -> Sha256Hex {
        issuer_name(&self.der).expect("the root was read when it was loaded, and has a name")
    }

    /// The root's serial, hash and validity.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Fixes what is to be signed: a new key, a new serial, and a validity from a little before `now` to `lifetime`
    /// seconds after it, inside the root's.
    ///
    /// # Errors
    ///
    /// [`CaError::RootNotValid`] and [`CaError::Outside`], if nobody would accept what is signed.
    pub fn order(&self, names: Names, lifetime: i64, directory: &Path, now: UnixTime) -> Result<Order, CaError> {
        if let Some((_, name)) = self.constraints.outside(&names) {
            let (path, allowed) = (directory.join(ROOT_FILE), self.constraints.describe());
            return Err(CaError::Outside { name, path, allowed });
        }
        let root = self.leaf.validity;
        let left = root.not_after.0.saturating_sub(now.0);
        if !root.holds(now) || left < lifetime.min(LEAST_LEFT) {
            return Err(CaError::RootNotValid { path: directory.join(ROOT_FILE), validity: root });
        }
        if lifetime > left {
            let until = leaf::timestamp(root.not_after);
            tracing::warn!(asked = lifetime, left, %until, "a certificate ends with its root; `portcullis ca rotate` makes another");
        }
        let lifetime = lifetime.min(left);
        let backdate = BACKDATE.min(lifetime / BACKDATE_PART);
        let validity = Validity {
            not_before: UnixTime(now.0.saturating_sub(backdate)).max(root.not_before),
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
        Ok(params.signed_by(&key, &self.issuer).map_err(CaError::Sign)?.pem())
    }
}

impl Authority {
    /// Signs a revocation list (RFC 5280 §5) of serial numbers, each with the time since when it is revoked; PEM.
    ///
    /// # Errors
    ///
    /// [`CaError::Sign`].
    pub fn revocation_list<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], UnixTime)>,
        number: u64,
        this_update: UnixTime,
        next_update: UnixTime,
    ) -> Result<String, CaError> {
        let instant = |time| rcgen::date_time_ymd(1970, 1, 1) + since_epoch(time);
        let revoked = |(serial, since): (&[u8], UnixTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: instant(since),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: instant(this_update),
            next_update: instant(next_update),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: entries.map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(CaError::Sign)
    }
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
