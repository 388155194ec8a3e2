//! Chains as CAs send them (RFC 8555 §9.1), and which of several is taken. Pure.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use crate::leaf;
use crate::leaf::LeafError;

/// The chain without the root, which whoever trusts it has already; every certificate once.
pub(super) fn without_root(pem: &str) -> Result<String, LeafError> {
    let mut kept: Vec<CertificateDer<'static>> = Vec::new();
    for (at, der) in leaf::chain(pem)?.into_iter().enumerate() {
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| LeafError)?;
        let is_root = at > 0 && certificate.subject().as_raw() == certificate.issuer().as_raw();
        if !is_root && !kept.contains(&der) {
            kept.push(der);
        }
    }
    Ok(kept.iter().map(|der| leaf::pem("CERTIFICATE", der)).collect())
}

/// Whether the chain leads to an authority of this common name.
pub(super) fn leads_to(pem: &str, common_name: &str) -> bool {
    let Ok(chain) = leaf::chain(pem) else { return false };
    let Some(Ok((_, last))) = chain.last().map(|der| X509Certificate::from_der(der)) else { return false };
    last.issuer().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == common_name))
}

#[cfg(test)]
mod tests {
    use rcgen::BasicConstraints;
    use rcgen::CertificateParams;
    use rcgen::DnType;
    use rcgen::IsCa;
    use rcgen::Issuer;
    use rcgen::KeyPair;

    use super::*;

    struct Chain {
        leaf: String,
        intermediate: String,
        root: String,
    }

    fn chain() -> Chain {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let [root_key, key, leaf_key] = [(); 3].map(|()| KeyPair::generate().expect("a key"));
        let root_params = authority("the root");
        let root = root_params.self_signed(&root_key).expect("signed").pem();
        let root_issuer = Issuer::new(root_params, root_key);
        let params = authority("between");
        let intermediate = params.signed_by(&key, &root_issuer).expect("signed").pem();
        let issuer = Issuer::new(params, key);
        let leaf = CertificateParams::new(["a.example".to_owned()]).expect("a name");
        Chain { leaf: leaf.signed_by(&leaf_key, &issuer).expect("signed").pem(), intermediate, root }
    }

    #[test]
    fn roots_and_repetitions_are_left_out() {
        let Chain { leaf, intermediate, root } = chain();
        let want = without_root(&format!("{leaf}{intermediate}")).expect("a chain");
        for (name, pem) in [
            ("with the root", format!("{leaf}{intermediate}{root}")),
            ("twice", format!("{leaf}{intermediate}{intermediate}{root}{root}")),
            ("with other line ends and words", format!("# leaf\r\n{leaf}\n\n{intermediate}").replace('\n', "\r\n")),
        ] {
            assert_eq!(without_root(&pem).as_ref(), Ok(&want), "{name}");
        }
        assert_eq!(leaf::chain(&want).map(|chain| chain.len()), Ok(2));
        assert_eq!(without_root(&root).map(|pem| leaf::chain(&pem).map(|chain| chain.len())), Ok(Ok(1)), "alone");
        for bad in ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(without_root(bad), Err(LeafError), "{bad}");
        }
    }

    #[test]
    fn a_chain_leads_to_who_signed_its_last_certificate() {
        let Chain { leaf, intermediate, .. } = chain();
        let whole = format!("{leaf}{intermediate}");
        assert!(leads_to(&whole, "the root"));
        assert!(!leads_to(&whole, "between"));
        assert!(leads_to(&leaf, "between"));
        assert!(!leads_to("", "the root"));
    }
}
