//! Authorities: those in files, and what the built-in one may sign.

use portcullis_policy::SpiffeId;
use portcullis_policy::UnixTime;
use portcullis_policy::schedule::Share;
use portcullis_policy::schedule::Validity;
use portcullis_policy::succession::due_at;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::DnsName;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use super::Bundle;
use super::Ca;
use super::Certificate;
use super::Fallback;
use super::check::Check;
use super::check::LEAST_SHARE;
use super::check::LONGEST_ROOT_LIFETIME;
use super::check::SHORTEST_LIFETIME;
use super::raw;
use crate::ca::Constraints;
use crate::ca::Network;
use crate::issuer::BUILT_IN;
use crate::leaf;
use crate::names::Names;
use crate::yaml::Located;

/// Ten years: more than most roots have left.
const LONGEST_INTERMEDIATE: i64 = 3660 * 86_400;

/// Where the key of the built-in CA's root is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootKey {
    /// Beside the agent's state.
    #[default]
    Embedded,
    /// Not here: it signs the agent's requests elsewhere.
    Offline,
}

/// The authorities below the root, which take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below {
    /// How long one lives that is made now, in seconds.
    pub lifetime: i64,
    /// Share of one's lifetime after which another one follows it, or is asked for.
    pub rotate_after: Share,
}

impl Default for Below {
    fn default() -> Self {
        Self { lifetime: 90 * 86_400, rotate_after: Share::HALF }
    }
}

impl Below {
    /// The least that one has left while it signs, in seconds.
    pub(super) fn left(self) -> i64 {
        let life = Validity { not_before: UnixTime(0), not_after: UnixTime(self.lifetime) };
        self.lifetime.saturating_sub(due_at(life, self.rotate_after).0)
    }
}

/// Why nobody could use a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Not a domain.
    #[error("`{0}` is not a domain in lower case, as in `acme.example`")]
    Dns(String),
    /// Too long or too short.
    #[error("a root lives for {SHORTEST_LIFETIME}s to {LONGEST_ROOT_LIFETIME}s, not {0}s")]
    Lifetime(i64),
    /// Not a trust domain.
    #[error("`{0}` is not a SPIFFE trust domain: lower-case letters, digits, `.`, `-`, `_`")]
    TrustDomain(String),
}

impl Ca {
    /// Looks whether a root can be made as this says, where no configuration was checked.
    ///
    /// # Errors
    ///
    /// [`RootError`].
    pub fn check_root(&self) -> Result<(), RootError> {
        let Self { trust_domain, root_lifetime, constraints, .. } = self;
        if !is_trust_domain(trust_domain) {
            return Err(RootError::TrustDomain(trust_domain.clone()));
        }
        if !(SHORTEST_LIFETIME..=LONGEST_ROOT_LIFETIME).contains(root_lifetime) {
            return Err(RootError::Lifetime(*root_lifetime));
        }
        match constraints.dns.iter().find(|name| !is_domain(name)) {
            Some(bad) => Err(RootError::Dns(bad.clone())),
            None => Ok(()),
        }
    }
}

pub(super) fn is_trust_domain(text: &str) -> bool {
    SpiffeId::parse(&format!("spiffe://{text}/x")).is_some_and(|id| id.trust_domain() == text)
}

/// A leading dot would be read in different ways (RFC 5280 §4.2.1.10 knows it for URIs only).
fn is_domain(name: &str) -> bool {
    DnsName::try_from(name).is_ok() && *name == name.to_ascii_lowercase()
}

impl Check<'_> {
    pub(super) fn below(
        &self,
        root: RootKey,
        rotate_root_after: Option<f64>,
        raw: Option<raw::Intermediate>,
    ) -> Result<Option<Below>, Located> {
        if root == RootKey::Offline && rotate_root_after.is_some() {
            let message = "with `root: offline` the agent makes no root that could follow by itself; take it out";
            return Err(self.bad("ca.rotate_root_after", message));
        }
        let Some(raw) = raw else { return Ok((root == RootKey::Offline).then(Below::default)) };
        let Below { mut lifetime, mut rotate_after } = Below::default();
        if let Some(given) = raw.lifetime {
            lifetime = self.duration(&given, "ca.intermediate.lifetime", SHORTEST_LIFETIME, LONGEST_INTERMEDIATE)?;
        }
        if let Some(given) = raw.rotate_after {
            rotate_after = self.share(given, "ca.intermediate.rotate_after")?;
        }
        Ok(Some(Below { lifetime, rotate_after }))
    }

    /// What an intermediate signs ends with it at the latest: where the agent makes them, nothing has to be cut short.
    pub(super) fn ends_in_time(&self, lifetime: i64, field: &str, ca: &Ca) -> Result<(), Located> {
        let Some(below) = ca.intermediate.filter(|_| ca.root == RootKey::Embedded) else { return Ok(()) };
        if lifetime <= below.left() {
            return Ok(());
        }
        let message = format!(
            "{lifetime}s is longer than an intermediate has left when the next one follows ({}s): a longer \
             `ca.intermediate.lifetime`, an earlier `rotate_after`, or a shorter life",
            below.left()
        );
        Err(self.bad(&format!("{field}.lifetime"), &message))
    }

    /// Looks whether the bundles are there that a certificate is judged by; one that wants its SPIFFE ID is among them.
    pub(super) fn trusted_by(&self, certificates: &mut [Certificate], bundles: &[Bundle]) -> Result<(), Located> {
        for (at, certificate) in certificates.iter_mut().enumerate() {
            let is_there = |name: &&String| bundles.iter().any(|bundle| bundle.name == **name);
            if let Some(unknown) = certificate.trusted_by.iter().find(|name| !is_there(name)) {
                let message =
                    format!("certificate `{}` is judged by `{unknown}`, which is none of `bundles`", certificate.name);
                return Err(self.bad(&format!("certificates[{at}].trusted_by"), &message));
            }
            let Some(id) = certificate.names.spiffe() else { continue };
            let asks = |bundle: &&Bundle| bundle.spiffe.iter().any(|wanted| wanted == id);
            let more: Vec<String> = bundles.iter().filter(asks).map(|bundle| bundle.name.clone()).collect();
            certificate.trusted_by.extend(more);
            certificate.trusted_by.sort_unstable();
            certificate.trusted_by.dedup();
        }
        Ok(())
    }

    pub(super) fn share(&self, given: f64, field: &str) -> Result<Share, Located> {
        Share::new(given).filter(|_| given >= LEAST_SHARE).ok_or_else(|| {
            let message = format!("`{given}` is not a share of the lifetime: {LEAST_SHARE} or more, and less than 1");
            self.bad(field, &message)
        })
    }

    pub(super) fn constraints(&self, raw: raw::NameConstraints) -> Result<Constraints, Located> {
        for (at, name) in raw.dns.iter().enumerate() {
            if !is_domain(name) {
                let message = format!("`{name}` is not a domain in lower case, as in `acme.example`");
                return Err(self.bad(&format!("ca.name_constraints.dns[{at}]"), &message));
            }
        }
        let mut ip = Vec::with_capacity(raw.ip.len());
        for (at, given) in raw.ip.iter().enumerate() {
            ip.push(Network::parse(given).ok_or_else(|| {
                let message = format!("`{given}` is not a network, as in `10.0.0.0/8`, without bits behind its prefix");
                self.bad(&format!("ca.name_constraints.ip[{at}]"), &message)
            })?);
        }
        Ok(Constraints { dns: raw.dns, ip })
    }

    /// What the built-in CA signs has to be inside of what its next root is for.
    pub(super) fn inside(
        &self,
        names: &Names,
        issuer: &str,
        fallback: Option<&Fallback>,
        field: &str,
        ca: &Ca,
    ) -> Result<(), Located> {
        let is_ours = issuer == BUILT_IN || fallback.is_some_and(|fallback| fallback.issuer == BUILT_IN);
        match ca.constraints.outside(names).filter(|_| is_ours) {
            None => Ok(()),
            Some((kind, name)) => {
                let message = format!(
                    "`{name}` is outside of `ca.name_constraints` ({}): no peer would believe it; add it there, or have \
                     another issuer sign it",
                    ca.constraints.describe()
                );
                Err(self.bad(&format!("{field}.{kind}"), &message))
            }
        }
    }
}

/// The authorities of a PEM text, or which of them is none.
pub(super) fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut all = Vec::new();
    for (at, der) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let at = at + 1;
        let der = der.map_err(|_| format!("holds something else than a certificate in PEM as its {at}. one"))?;
        if !is_authority(&der) {
            let what = if leaf::Leaf::from_der(&der).is_ok() { "no authority's" } else { "unreadable" };
            return Err(format!("holds a certificate that is {what}, its {at}. one"));
        }
        all.push(der);
    }
    if all.is_empty() { Err("holds no certificates in PEM".to_owned()) } else { Ok(all) }
}

fn is_authority(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(rest, certificate)| rest.is_empty() && certificate.is_ca())
}
