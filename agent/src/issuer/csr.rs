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
