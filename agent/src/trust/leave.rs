//! Which authority may not leave a bundle yet: one that a certificate in use leads to would take its peers along.

use portcullis_policy::UnixTime;
use rustls::pki_types::CertificateDer;

use crate::config::Bundle;
use crate::issuer::Roots;
use crate::leaf;
use crate::leaf::Leaf;
use crate::rotation::Standing;

/// Why a bundle stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "bundle `{bundle}` would lose the authority {authority}, and certificate `{certificate}`, which is in use, leads to it until {}: \
     have it issued by another one first, or wait until then",
    leaf::timestamp(*until)
)]
pub(crate) struct StillNeeded {
    /// Which of the new bundles, from 0.
    pub(crate) at: usize,
    bundle: String,
    authority: String,
    certificate: String,
    until: UnixTime,
}

/// Looks whether every authority that leaves a bundle may. `own` are the roots of the built-in CA, which every bundle has.
///
/// A bundle that is gone as a whole takes nobody anything: proxies go on with what they have.
///
/// # Errors
///
/// [`StillNeeded`], the first that may not.
pub(crate) fn may_leave<'a>(
    old: &[Bundle],
    new: &[Bundle],
    own: &[CertificateDer<'static>],
    in_use: impl Iterator<Item = (&'a str, &'a Standing)> + Clone,
    now: UnixTime,
) -> Result<(), StillNeeded> {
    for (at, bundle) in new.iter().enumerate() {
        let Some(before) = old.iter().find(|before| before.name == bundle.name) else { continue };
        let gone: Vec<_> = before.also.iter().filter(|der| !bundle.also.contains(der)).collect();
        if gone.is_empty() {
            continue;
        }
        let rest = Roots::these(own.iter().chain(&bundle.also).cloned().collect());
        for der in gone {
            let lost = Roots::these(vec![der.clone()]);
            let needs = |standing: &Standing| {
                !standing.leaf.validity.has_ended(now) && standing.leads_to(&lost) && !standing.leads_to(&rest)
            };
            if let Some((name, standing)) = in_use.clone().find(|(_, standing)| needs(standing)) {
                let sha256 = Leaf::from_der(der).map(|leaf| format!("`{}`", leaf.sha256)).unwrap_or_default();
                let (bundle, certificate) = (bundle.name.clone(), name.to_owned());
                let until = standing.leaf.validity.not_after;
                return Err(StillNeeded { at, bundle, authority: sha256, certificate, until });
            }
        }
    }
    Ok(())
}
