//! A certificate through the eyes of the peers that will see it, before any of them does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Fit;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use crate::command::Usage;
use crate::issuer::Roots;
use crate::keys::KeyError;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;
use crate::leaf::LeafError;
use crate::names::Names;

/// Why a certificate is not handed to anybody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It does not lead to the root, its validity is not now, or it may not be used for what it is meant for.
    #[error("a {} would refuse the certificate", match usage { Usage::Server => "client", Usage::Client => "server" })]
    Chain {
        /// What it is to be used for.
        usage: Usage,
        /// The verifier's words.
        source: rustls::Error,
    },
    /// The key cannot be read.
    #[error("the key cannot be used")]
    Key(#[source] KeyError),
    /// Certificate and key are not a pair.
    #[error("the certificate is of another key")]
    KeyMismatch(#[source] rustls::Error),
    /// Other names than those asked for.
    #[error("the certificate is for {found:?}, and {wanted:?} was asked for")]
    Names {
        /// In the certificate.
        found: Vec<String>,
        /// In the configuration.
        wanted: Vec<String>,
    },
    /// Not a certificate.
    #[error("the answer is not a certificate chain")]
    Unreadable(#[source] LeafError),
}

/// Looks at a chain as a peer would at `now`: the key is its key, it leads to one of `roots`, it is valid, may be used for every
/// configured usage, and carries exactly the configured names.
///
/// # Errors
///
/// [`CheckError`], the first that a peer would stumble over.
pub(crate) fn as_peer(
    chain_pem: &str,
    key: &PrivateKey,
    names: &Names,
    roots: &Roots,
    now: UnixTime,
) -> Result<Leaf, CheckError> {
    let chain = leaf::chain(chain_pem).map_err(CheckError::Unreadable)?;
    let end = &chain[0];
    let summary = Leaf::from_der(end).map_err(CheckError::Unreadable)?;
    let provider = ring::default_provider();
    let signer =
        provider.key_provider.load_private_key(key.der().map_err(CheckError::Key)?).map_err(CheckError::KeyMismatch)?;
    CertifiedKey::new(chain.clone(), signer).keys_match().map_err(CheckError::KeyMismatch)?;

    let found = names_of(end).map_err(CheckError::Unreadable)?;
    let wanted = labels(names);
    if found != wanted {
        return Err(CheckError::Names { found, wanted });
    }

    for usage in names.usage() {
        verify(&chain, roots.store(), provider.clone(), *usage, now)
            .map_err(|source| CheckError::Chain { usage: *usage, source })?;
    }
    Ok(summary)
}

/// Whether a stored chain is the one that the configuration asks for, whatever the time is.
pub(super) fn fit(chain_pem: &str, key: &PrivateKey, names: &Names, roots: &Roots, leaf: &Leaf) -> Fit {
    match as_peer(chain_pem, key, names, roots, leaf.validity.not_before) {
        Ok(_) => Fit::Fits,
        Err(CheckError::Names { .. }) => Fit::OtherNames,
        Err(CheckError::Chain { source, .. }) if is_purpose(&source) => Fit::OtherNames,
        Err(CheckError::Chain { .. }) => Fit::OtherIssuer,
        Err(_) => Fit::Unusable,
    }
}

/// Whether a chain leads to one of `roots` for any use, at the begin of its leaf's validity.
pub(super) fn leads_to(chain_pem: &str, leaf: &Leaf, roots: &Roots) -> bool {
    let Ok(chain) = leaf::chain(chain_pem) else { return false };
    let provider = ring::default_provider;
    let at = leaf.validity.not_before;
    [Usage::Server, Usage::Client].into_iter().any(|usage| verify(&chain, roots.store(), provider(), usage, at).is_ok())
}

/// Until when a chain that is good at `now` leads to one of `roots`, where that is before its leaf's end; none if it is not.
/// What a peer does not need on its way there may end sooner, such as a root signed by another. The end of a root itself does not
/// count, here as in [`as_peer`]: it is an anchor for as long as it is configured.
pub(super) fn leads_until(
    chain_pem: &str,
    names: &Names,
    roots: &Roots,
    leaf: &Leaf,
    now: UnixTime,
) -> Option<UnixTime> {
    let chain = leaf::chain(chain_pem).ok()?;
    let end = leaf.validity.not_after;
    let holds = |at: UnixTime| {
        names.usage().iter().all(|usage| verify(&chain, roots.store(), ring::default_provider(), *usage, at).is_ok())
    };
    let above = chain.iter().skip(1).filter_map(|der| Some(Leaf::from_der(der).ok()?.validity.not_after));
    let mut ends: Vec<UnixTime> = above.filter(|at| now <= *at && *at < end).collect();
    if ends.is_empty() || holds(end) {
        return None;
    }
    ends.sort_unstable();
    ends.into_iter().rev().find(|at| holds(*at))
}

fn is_purpose(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::InvalidPurpose | rustls::CertificateError::InvalidPurposeContext { .. }
        )
    )
}

fn verify(
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    provider: CryptoProvider,
    usage: Usage,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let (end, intermediates) = chain.split_first().expect("a chain has a leaf");
    let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.0.max(0).unsigned_abs()));
    match usage {
        Usage::Server => {
            let algorithms = provider.signature_verification_algorithms.all;
            let parsed = ParsedCertificate::try_from(end)?;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
        }
        Usage::Client => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::new(provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            verifier.verify_client_cert(end, intermediates, now).map(|_| ())
        }
    }
}

/// Every alternative name, with its kind, sorted.
fn names_of(der: &CertificateDer<'_>) -> Result<Vec<String>, LeafError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| LeafError)?;
    let names = certificate.subject_alternative_name().map_err(|_| LeafError)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut labels: Vec<String> = names
        .iter()
        .map(|name| match name {
            GeneralName::URI(uri) => format!("uri:{uri}"),
            GeneralName::DNSName(name) => format!("dns:{name}"),
            GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => format!("ip:{}", IpAddr::from(v4)),
                (_, Ok(v6)) => format!("ip:{}", IpAddr::from(v6)),
                _ => format!("ip:{bytes:?}"),
            },
            other => format!("{other:?}"),
        })
        .collect();
    labels.sort();
    Ok(labels)
}

fn labels(names: &Names) -> Vec<String> {
    let uri = names.spiffe().map(|id| format!("uri:{id}"));
    let dns = names.dns().iter().map(|name| format!("dns:{name}"));
    let ip = names.ip().iter().map(|ip| format!("ip:{ip}"));
    let mut labels: Vec<String> = uri.into_iter().chain(dns).chain(ip).collect();
    labels.sort();
    labels
}

#[cfg(test)]
mod tests;
