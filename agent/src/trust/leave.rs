//! Which authority may not leave yet: one that a certificate in use leads to would take its peers along.

use portcullis_policy::UnixTime;
use rustls::pki_types::CertificateDer;

use crate::config::Bundle;
use crate::config::Issuer;
use crate::issuer::Roots;
use crate::leaf;
use crate::leaf::Leaf;
use crate::rotation::Standing;

/// Why everything stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{of} would lose the authority `{authority}`, and certificate `{certificate}`, which is in use, leads to it until {}: keep it \
     beside the one that follows until that certificate is issued by another, or has ended",
    leaf::timestamp(*until)
)]
pub(crate) struct StillNeeded {
    /// Where the new configuration says it.
    pub(crate) field: String,
    of: String,
    authority: String,
    certificate: String,
    until: UnixTime,
}

/// A certificate of the configuration, with its name.
pub(crate) type InUse<'a> = (&'a str, Standing);

/// Looks whether every authority that leaves a bundle may. `own` are the roots of the built-in CA, which every bundle has.
///
/// A bundle that is gone as a whole takes nobody anything: proxies go on with what they have.
///
/// # Errors
///
/// [`StillNeeded`], the first that may not.
pub(crate) fn may_leave(
    old: &[Bundle],
    new: &[Bundle],
    own: &[CertificateDer<'static>],
    in_use: &[InUse<'_>],
    now: UnixTime,
) -> Result<(), StillNeeded> {
    for (at, bundle) in new.iter().enumerate() {
        let Some(before) = old.iter().find(|before| before.name == bundle.name) else { continue };
        let gone = before.also.iter().filter(|der| !bundle.also.contains(der));
        let rest = Roots::these(own.iter().chain(&bundle.also).cloned().collect());
        if let Some((authority, certificate, until)) = needed(gone, &rest, in_use.iter(), now) {
            let (field, of) = (format!("bundles[{at}].also"), format!("bundle `{}`", bundle.name));
            return Err(StillNeeded { field, of, authority, certificate, until });
        }
    }
    Ok(())
}

/// Looks whether every root of an issuer that leaves may: its certificates would all be issued anew at once, and the peers that
/// read files would lose it at the same moment.
///
/// # Errors
///
/// [`StillNeeded`], the first that may not.
pub(crate) fn may_leave_issuers(
    old: &[Issuer],
    new: &[Issuer],
    in_use: &[InUse<'_>],
    now: UnixTime,
) -> Result<(), StillNeeded> {
    for (at, issuer) in new.iter().enumerate() {
        let before = old.iter().find(|before| before.name == issuer.name && before.kind == issuer.kind);
        let (Some(before), Some(after)) = (before.and_then(|before| before.roots.named()), issuer.roots.named()) else {
            continue;
        };
        let gone = before.iter().filter(|der| !after.contains(der));
        let its = in_use.iter().filter(|(_, standing)| standing.issuer == issuer.name);
        if let Some((authority, certificate, until)) = needed(gone, &issuer.roots, its, now) {
            let (field, of) = (format!("issuers[{at}].roots"), format!("issuer `{}`", issuer.name));
            return Err(StillNeeded { field, of, authority, certificate, until });
        }
    }
    Ok(())
}

/// The first authority of those that go that a certificate leads to which leads to none that stays: its SHA-256, the certificate's
/// name, and its last second.
fn needed<'a>(
    gone: impl Iterator<Item = &'a CertificateDer<'static>>,
    rest: &Roots,
    in_use: impl Iterator<Item = &'a InUse<'a>> + Clone,
    now: UnixTime,
) -> Option<(String, String, UnixTime)> {
    for der in gone {
        let lost = Roots::these(vec![der.clone()]);
        let needs = |standing: &Standing| {
            !standing.leaf.validity.has_ended(now) && standing.leads_to(&lost) && !standing.leads_to(rest)
        };
        if let Some((name, standing)) = in_use.clone().find(|(_, standing)| needs(standing)) {
            let sha256 = Leaf::from_der(der).map(|leaf| leaf.sha256).unwrap_or_default();
            return Some((sha256, (*name).to_owned(), standing.leaf.validity.not_after));
        }
    }
    None
}
