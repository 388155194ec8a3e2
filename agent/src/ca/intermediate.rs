//! Authorities below a root, which sign leaves in its stead: certificate, key and the directory of both.
//!
//! All of one trust domain have one name, as roots have. One that was replaced is kept until it has ended, so that lists of what
//! is revoked under it can be signed; then its key is destroyed.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use portcullis_policy::UnixTime;
use portcullis_policy::schedule::Validity;
use rcgen::BasicConstraints;
use rcgen::Certificate;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData;
use rcgen::SerialNumber;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;
use zeroize::Zeroizing;

use super::BACKDATE;
use super::BACKDATE_PART;
use super::CaError;
use super::Constraints;
use super::is_key_of;
use super::serial;
use super::since_epoch;
use super::uri;
use crate::keys;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;
use crate::leaf::LeafError;
use crate::rotation::failpoint;
use crate::state_dir::place;
use crate::state_dir::private_directory;

/// In the folder of the root.
const FOLDER: &str = "intermediates";
const NAME: &str = "Portcullis intermediate CA";

/// An authority below a root.
pub struct Intermediate {
    number: u32,
    pem: String,
    der: CertificateDer<'static>,
    leaf: Leaf,
    constraints: Constraints,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// One that has a key, and no certificate yet.
pub(crate) struct Awaited {
    folder: PathBuf,
    number: u32,
    key: PrivateKey,
}

impl Intermediate {
    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its serial, hash and validity.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    pub(super) fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    fn new(number: u32, pem: &str, key: KeyPair, path: &Path) -> Result<Self, CaError> {
        let unreadable = |source| CaError::Unreadable { path: path.to_owned(), source };
        let chain = leaf::chain(pem).map_err(unreadable)?;
        let der = chain.into_iter().next().ok_or_else(|| unreadable(LeafError))?;
        if !is_key_of(&der, &key) {
            return Err(CaError::IntermediateKeyMismatch { path: path.to_owned() });
        }
        let leaf = Leaf::from_der(&der).map_err(unreadable)?;
        let constraints = Constraints::from_der(&der);
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(CaError::Sign)?;
        let pem = leaf::pem("CERTIFICATE", &der);
        Ok(Self { number, pem, der, leaf, constraints, issuer })
    }

    /// As lists that it signs name its key (RFC 5280 §5.2.1), whoever signed its certificate and by whatever method.
    pub(super) fn key_id(&self) -> KeyIdMethod {
        let parsed = X509Certificate::from_der(&self.der);
        let of = |certificate: &X509Certificate<'_>| {
            certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
        };
        let id = parsed.ok().and_then(|(_, certificate)| of(&certificate));
        id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
    }

    /// Destroys it: first its certificate, so that what a crash leaves is a key that counts for nothing.
    pub(super) fn remove(&self, root: &Path) -> Result<(), CaError> {
        let folder = root.join(FOLDER);
        for path in [certificate(&folder, self.number), key_file(&folder, self.number)] {
            let removed = fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            let removed = removed.and_then(|()| keys::sync_directory(&folder));
            removed.map_err(|source| CaError::File { action: "remove", path, source })?;
        }
        Ok(())
    }
}

impl Awaited {
    /// The next one of the root in this folder, with the key that was made for it, or a new one.
    pub(crate) fn next(root: &Path) -> Result<Self, CaError> {
        let folder = root.join(FOLDER);
        private_directory(&folder).map_err(CaError::Folder)?;
        let number = numbers(&folder)?.last().map_or(1, |last| last.saturating_add(1));
        let key = match read_key(&folder, number)? {
            Some(key) => key,
            None => {
                let (key, path) = (PrivateKey::generate().map_err(CaError::Key)?, key_file(&folder, number));
                place(&path, |path| key.write_new(path, 0o600)).map_err(|source| CaError::File {
                    action: "write",
                    path,
                    source,
                })?;
                key
            }
        };
        failpoint::hit("intermediate-key");
        Ok(Self { folder, number, key })
    }

    pub(super) fn pair(&self) -> Result<KeyPair, CaError> {
        self.key.pair().map_err(CaError::Key)
    }

    /// Asks for a certificate for it (RFC 2986), PEM.
    pub(super) fn request(&self, trust_domain: &str) -> Result<String, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(trust_domain);
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
        let request = params.serialize_request(&self.pair()?).map_err(CaError::Sign)?;
        request.pem().map_err(CaError::Sign)
    }

    /// With its certificate, which is not kept yet.
    pub(super) fn with(&self, pem: &str) -> Result<Intermediate, CaError> {
        Intermediate::new(self.number, pem, self.pair()?, &certificate(&self.folder, self.number))
    }

    /// Keeps it. When this returns, it is there, whatever becomes of the machine.
    pub(super) fn keep(&self, intermediate: &Intermediate) -> Result<(), CaError> {
        let path = certificate(&self.folder, self.number);
        let kept = place(&path, |path| keys::write_new(path, intermediate.pem.as_bytes(), 0o644));
        kept.map_err(|source| CaError::File { action: "write", path, source })?;
        failpoint::hit("intermediate-made");
        Ok(())
    }
}

/// Those that are kept for the root in this folder, oldest first. One that cannot be used is left out, and told of: another one
/// takes its place.
pub(super) fn all(root: &Path) -> Result<Vec<Intermediate>, CaError> {
    let folder = root.join(FOLDER);
    let load = |number| {
        let path = certificate(&folder, number);
        let pem =
            fs::read_to_string(&path).map_err(|source| CaError::File { action: "read", path: path.clone(), source })?;
        let key = read_key(&folder, number)?.ok_or_else(|| CaError::IntermediateKeyMismatch { path: path.clone() })?;
        Intermediate::new(number, &pem, key.pair().map_err(CaError::Key)?, &path)
    };
    let mut all = Vec::new();
    for number in numbers(&folder)? {
        match load(number) {
            Ok(intermediate) => all.push(intermediate),
            Err(error) => {
                tracing::error!(number, error = crate::errors::chain(&error), "an intermediate is not used");
            }
        }
    }
    Ok(all)
}

/// Their certificates, PEM, for those who only want to look at them.
pub(super) fn pem(root: &Path) -> Result<String, CaError> {
    let folder = root.join(FOLDER);
    let read = |number| {
        let path = certificate(&folder, number);
        fs::read_to_string(&path).map_err(|source| CaError::File { action: "read", path, source })
    };
    numbers(&folder)?.into_iter().map(read).collect()
}

/// What a certificate of an intermediate says, but for who signs it.
pub(super) fn sign(
    trust_domain: Option<&str>,
    subject: Option<DistinguishedName>,
    constraints: &Constraints,
    validity: Validity,
    key: &impl PublicKeyData,
    root: &Issuer<'_, KeyPair>,
) -> Result<Certificate, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject.or_else(|| trust_domain.map(name)).unwrap_or_default();
    if let Some(trust_domain) = trust_domain {
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    }
    // Nobody below it signs for anybody.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = constraints.for_certificate();
    params.serial_number = Some(SerialNumber::from_slice(&serial().map_err(CaError::Key)?));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(validity.not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(validity.not_after);
    params.use_authority_key_identifier_extension = true;
    params.signed_by(key, root).map_err(CaError::Sign)
}

/// From a little before `now` to `lifetime` seconds after it, inside the root's.
pub(super) fn validity(root: Validity, lifetime: i64, now: UnixTime) -> Validity {
    let backdate = BACKDATE.min(lifetime / BACKDATE_PART);
    Validity {
        not_before: UnixTime(now.0.saturating_sub(backdate)).max(root.not_before),
        not_after: UnixTime(now.0.saturating_add(lifetime)).min(root.not_after),
    }
}

/// The name of every intermediate of a trust domain.
fn name(trust_domain: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, trust_domain);
    name.push(DnType::CommonName, NAME);
    name
}

/// The numbers of those that have a certificate, in order.
fn numbers(folder: &Path) -> Result<Vec<u32>, CaError> {
    let failed = |source| CaError::File { action: "read", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".pem")?.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn certificate(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.pem"))
}

fn key_file(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.key"))
}

fn read_key(folder: &Path, number: u32) -> Result<Option<PrivateKey>, CaError> {
    let path = key_file(folder, number);
    match fs::read_to_string(&path) {
        Ok(pem) => PrivateKey::from_pem(Zeroizing::new(pem))
            .map(Some)
            .map_err(|source| CaError::KeyUnreadable { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CaError::File { action: "read", path, source }),
    }
}
