//! Authorities: those in files, and what the built-in one may sign.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::DnsName;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use super::Bundle;
use super::Ca;
use super::Certificate;
use super::Fallback;
use super::check::Check;
use super::raw;
use crate::ca::Constraints;
use crate::ca::Network;
use crate::issuer::BUILT_IN;
use crate::leaf;
use crate::names::Names;
use crate::yaml::Located;

impl Check<'_> {
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

    pub(super) fn constraints(&self, raw: raw::NameConstraints) -> Result<Constraints, Located> {
        for (at, name) in raw.dns.iter().enumerate() {
            // A leading dot would be read in different ways (RFC 5280 §4.2.1.10 knows it for URIs only).
            let good = DnsName::try_from(name.as_str()).is_ok() && *name == name.to_ascii_lowercase();
            if !good {
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
