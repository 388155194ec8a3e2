//! A root whose key is kept elsewhere: it is made there, and signs a request of the agent there. Nothing here needs an agent.
//!
//! What comes back is looked at as a peer would, before anything is signed by it.

use std::path::Path;
use std::path::PathBuf;

use portcullis_policy::UnixTime;
use portcullis_policy::schedule::Validity;
use rcgen::CertificateSigningRequestParams;
use rcgen::Issuer;
use rcgen::SanType;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use super::Authority;
use super::CaError;
use super::Constraints;
use super::Intermediate;
use super::Order;
use super::ROOT_FILE;
use super::ROOT_KEY_FILE;
use super::directory;
use super::intermediate;
use super::intermediate::Awaited;
use super::is_key_of;
use super::serial;
use super::sign;
use crate::command::Usage;
use crate::config;
use crate::issuer::Roots;
use crate::keys;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;
use crate::leaf::LeafError;
use crate::names::Names;
use crate::rotation;
use crate::state_dir::place;
use crate::state_dir::private_directory;

/// How long the leaf is good that an intermediate is tried out with, in seconds. Nobody gets it.
const TRIAL: i64 = 60;

/// A root, where its key is.
pub struct Root {
    der: CertificateDer<'static>,
    pem: String,
    leaf: Leaf,
    constraints: Constraints,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The intermediate, then the root, PEM.
    pub chain_pem: String,
    /// The intermediate.
    pub leaf: Leaf,
    /// The trust domain that it asks for, if it asks for one.
    pub trust_domain: Option<String>,
}

/// Makes a root with its key in a directory where there is none yet. Returns the certificate, PEM.
///
/// # Errors
///
/// [`CaError`].
pub fn make_root(directory: &Path, config: &config::Ca, now: UnixTime) -> Result<String, CaError> {
    private_directory(directory).map_err(CaError::Folder)?;
    for name in [ROOT_FILE, ROOT_KEY_FILE] {
        let path = directory.join(name);
        if path.exists() {
            return Err(CaError::RootExists { path });
        }
    }
    let config =
        config::Ca { root: config::RootKey::Embedded, intermediate: Some(config::Below::default()), ..config.clone() };
    Authority::create(directory, &config, now).map(|root| root.pem)
}

impl Root {
    /// Takes a root with its key; the paths are for errors.
    ///
    /// # Errors
    ///
    /// [`CaError`].
    pub fn new((pem, root): (&str, &Path), (key, path): (&PrivateKey, &Path)) -> Result<Self, CaError> {
        let unreadable = |source| CaError::Unreadable { path: root.to_owned(), source };
        let chain = leaf::chain(pem).map_err(unreadable)?;
        let [der] = chain.as_slice() else { return Err(unreadable(LeafError)) };
        let pair = key.pair().map_err(|source| CaError::KeyUnreadable { path: path.to_owned(), source })?;
        if !is_key_of(der, &pair) {
            return Err(CaError::OtherKey { path: path.to_owned(), root: root.to_owned() });
        }
        if !may_have_below(der) {
            return Err(CaError::NobodyBelow { path: root.to_owned() });
        }
        Ok(Self {
            pem: leaf::pem("CERTIFICATE", der),
            leaf: Leaf::from_der(der).map_err(unreadable)?,
            constraints: Constraints::from_der(der),
            issuer: Issuer::from_ca_cert_der(der, pair).map_err(CaError::Sign)?,
            der: der.clone(),
        })
    }

    /// Signs a request (RFC 2986, PEM): an authority with a path length of 0 and the root's own constraints, good for `lifetime`
    /// seconds and no longer than the root.
    ///
    /// # Errors
    ///
    /// [`CaError`].
    pub fn sign(&self, request: &str, lifetime: i64, now: UnixTime) -> Result<Signed, CaError> {
        if !self.leaf.validity.holds(now) {
            return Err(CaError::RootEnded { validity: self.leaf.validity });
        }
        let request = CertificateSigningRequestParams::from_pem(request).map_err(CaError::NotARequest)?;
        let trust_domain = request.params.subject_alt_names.iter().find_map(|name| match name {
            SanType::URI(uri) => uri.as_str().strip_prefix("spiffe://").map(str::to_owned),
            _ => None,
        });
        if let (Some(wanted), Some(found)) = (&trust_domain, directory::trust_domain_of(&self.der))
            && *wanted != found
        {
            return Err(CaError::OtherTrustDomain { wanted: wanted.clone(), found });
        }
        let validity = intermediate::validity(self.leaf.validity, lifetime, now);
        let subject = Some(request.params.distinguished_name);
        let (key, constraints) = (&request.public_key, &self.constraints);
        let signed =
            intermediate::sign(trust_domain.as_deref(), subject, constraints, validity, key, &self.issuer)?.pem();
        let leaf = leaf::chain(&signed).ok().and_then(|chain| Leaf::from_der(chain.first()?).ok());
        let leaf = leaf.ok_or(CaError::NotAChain)?;
        Ok(Signed { chain_pem: signed + &self.pem, leaf, trust_domain })
    }
}

/// The request for the next intermediate of the root that is in the CA's directory, or is to come there; makes the key for it, if
/// it is not made yet. PEM.
///
/// # Errors
///
/// [`CaError`].
pub fn request(directory: &Path, trust_domain: &str) -> Result<String, CaError> {
    let (request, path) = (Awaited::next(&folder(directory)?)?.request(trust_domain)?, request_file(directory));
    place(&path, |path| keys::write_new(path, request.as_bytes(), 0o644)).map_err(|source| CaError::File {
        action: "write",
        path,
        source,
    })?;
    Ok(request)
}

/// Where the last request of a CA's directory is.
pub fn request_file(directory: &Path) -> PathBuf {
    directory.join("request.pem")
}

/// Puts what was signed in its place, for an agent that does not run. With a root that nobody knew here before, that comes last.
///
/// # Errors
///
/// [`CaError`]. Nothing is changed then.
pub fn install(directory: &Path, config: &config::Ca, chain_pem: &str, now: UnixTime) -> Result<Leaf, CaError> {
    let folder = folder(directory)?;
    let path = folder.join(ROOT_FILE);
    if path.exists() {
        let (authority, _) = Authority::open(&folder, config, now)?;
        return Ok(authority.install(chain_pem, &config.trust_domain, now)?.leaf().clone());
    }
    let chain = leaf::chain(chain_pem).map_err(|_| CaError::NotAChain)?;
    let [_, root] = chain.as_slice() else { return Err(CaError::NotAChain) };
    if let Some(found) = directory::trust_domain_of(root).filter(|found| *found != config.trust_domain) {
        return Err(CaError::OtherTrustDomain { wanted: config.trust_domain.clone(), found });
    }
    let awaited = Awaited::next(&folder)?;
    let taken = awaited.with(chain_pem)?;
    check(&taken, root, &config.trust_domain, now)?;
    awaited.keep(&taken)?;
    let pem = leaf::pem("CERTIFICATE", root);
    place(&path, |path| keys::write_new(path, pem.as_bytes(), 0o644)).map_err(|source| CaError::File {
        action: "write",
        path,
        source,
    })?;
    Ok(taken.leaf().clone())
}

/// Where the newest root is, or is to be.
fn folder(directory: &Path) -> Result<PathBuf, CaError> {
    let newest = directory::numbers(directory)?.last().copied().unwrap_or(directory::FIRST);
    let folder = directory::folder(directory, newest);
    private_directory(&folder).map_err(CaError::Folder)?;
    Ok(folder)
}

/// Whether a root lets an authority be below it (RFC 5280 §4.2.1.9).
pub(crate) fn may_have_below(root: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(root) else { return false };
    let basic = certificate.basic_constraints().ok().flatten();
    basic.is_some_and(|basic| basic.value.ca && basic.value.path_len_constraint != Some(0))
}

/// Looks at an intermediate as a peer would that is shown a leaf under it, and at what no peer looks at until it is too late.
///
/// # Errors
///
/// [`CaError::BadIntermediate`] and [`CaError::NotBelieved`].
pub(super) fn check(
    intermediate: &Intermediate,
    root: &CertificateDer<'static>,
    trust_domain: &str,
    now: UnixTime,
) -> Result<(), CaError> {
    let bad = |why| CaError::BadIntermediate { why };
    let (_, parsed) = X509Certificate::from_der(intermediate.der()).map_err(|_| bad("it cannot be read"))?;
    let (_, above) = X509Certificate::from_der(root).map_err(|_| bad("its root cannot be read"))?;
    if parsed.subject() == above.subject() {
        return Err(bad("it has the name of its root, and nobody could tell what either of them revoked"));
    }
    let basic = parsed.basic_constraints().ok().flatten().map(|basic| basic.value);
    if !basic.is_some_and(|basic| basic.ca && basic.path_len_constraint == Some(0)) {
        return Err(bad("it has to be an authority with a path length of 0, so that there is nobody below it"));
    }
    let usage = parsed.key_usage().ok().flatten().map(|usage| usage.value);
    if !usage.is_some_and(|usage| usage.key_cert_sign() && usage.crl_sign()) {
        return Err(bad("its key usage has to be to sign certificates and revocation lists"));
    }
    let validity = intermediate.leaf().validity;
    if validity.not_after.0 > above.validity().not_after.timestamp() {
        return Err(bad("it outlives its root"));
    }
    let id = format!("spiffe://{trust_domain}/portcullis-trial");
    let names = Names::new(Some(id), Vec::new(), Vec::new(), vec![Usage::Server, Usage::Client], trust_domain);
    let names = names.map_err(|_| bad("its trust domain is none"))?;
    let trial = Validity {
        not_before: validity.not_before,
        not_after: UnixTime(now.0.saturating_add(TRIAL)).min(validity.not_after),
    };
    let key = PrivateKey::generate().map_err(CaError::Key)?;
    let order = Order { key, serial: serial().map_err(CaError::Key)?, validity: trial, names };
    let chain = sign(&order, &intermediate.issuer)? + intermediate.pem();
    let roots = Roots::these(vec![root.clone()]);
    rotation::as_peer(&chain, &order.key, &order.names, &roots, now).map_err(CaError::NotBelieved)?;
    Ok(())
}
