//! Certificate requests (RFC 2986), for issuers that take their names from there.

use rcgen::CertificateParams;
use rcgen::DistinguishedName;

use super::Request;
use crate::ca;
use crate::ca::CaError;
use crate::keys::KeyError;

/// Why a request cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// The key.
    #[error("the key cannot be used")]
    Key(#[source] KeyError),
    /// A name that no certificate can carry.
    #[error("the names cannot be put into a request")]
    Names(#[source] Box<CaError>),
    /// The library refuses to sign.
    #[error("the request cannot be signed")]
    Sign(#[source] rcgen::Error),
}

/// The request in PEM: alternative names only, no subject.
pub(super) fn pem(request: &Request) -> Result<String, CsrError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names =
        ca::alternative_names(&request.names).map_err(|error| CsrError::Names(Box::new(error)))?;
    let key = request.key.pair().map_err(CsrError::Key)?;
    let csr = params.serialize_request(&key).map_err(CsrError::Sign)?;
    csr.pem().map_err(CsrError::Sign)
}

#[cfg(test)]
mod tests {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::cri_attributes::ParsedCriAttribute;
    use x509_parser::pem::parse_x509_pem;
    use x509_parser::prelude::FromDer as _;

    use super::*;
    use crate::command::Usage;
    use crate::keys::PrivateKey;
    use crate::names::Names;

    #[test]
    fn a_request_asks_for_names_and_nothing_else() {
        let (dns, ip) = (vec!["a.acme.example".to_owned()], vec!["127.0.0.1".parse().expect("an address")]);
        let id = "spiffe://acme.example/x".to_owned();
        let names = Names::new(Some(id), dns, ip, vec![Usage::Server, Usage::Client], "acme.example").expect("names");
        let request = Request { key: PrivateKey::generate().expect("a key"), names, lifetime: 3_600 };
        let pem = pem(&request).expect("a request");
        let (_, pem) = parse_x509_pem(pem.as_bytes()).expect("PEM");
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).expect("a request");
        let mut asked = Vec::new();
        for attribute in request.certification_request_info.iter_attributes() {
            if let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() {
                asked.extend(wanted.extensions.iter().map(|extension| extension.oid.to_id_string()));
            }
        }
        // subjectAltName: above all no `status_request` (RFC 7633), which nobody answers any more.
        assert_eq!(asked, ["2.5.29.17"]);
    }
}
