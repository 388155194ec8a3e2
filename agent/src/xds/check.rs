//! The last gate before a proxy: what no proxy could use, or would use to its harm, is not published.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::catalogue::Published;
use crate::leaf::Leaf;
use crate::leaf::timestamp;
use crate::resource::Body;
use crate::resource::Resource;

/// Bytes of a session ticket key: a name, a key that authenticates, one that encrypts.
pub(crate) const TICKET_KEY: usize = 80;
/// How a WebAssembly module begins.
const WASM_MAGIC: [u8; 4] = *b"\0asm";

/// Why a resource is not published. What was published before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// An empty bundle would trust nobody, or everybody: proxies differ.
    #[error("bundle `{name}` is empty")]
    EmptyBundle {
        /// Name of the resource.
        name: String,
    },
    /// Proxies accept and serve an expired certificate without a word, so it ends here.
    #[error("certificate `{name}` expired at {not_after}")]
    Expired {
        /// Name of the resource.
        name: String,
        /// End of validity.
        not_after: Timestamp,
    },
    /// There is no certificate in the PEM, or it cannot be read.
    #[error("`{name}` is not a PEM certificate")]
    MalformedCertificate {
        /// Name of the resource.
        name: String,
    },
    /// The module's file is something else.
    #[error("`{path}` is not a WebAssembly module")]
    NotAModule {
        /// The file.
        path: String,
    },
    /// A header cannot hold it.
    #[error("the secret `{name}` is empty or has a control character, as a line's end, which no header can hold")]
    NotAValue {
        /// Name of the resource.
        name: String,
    },
    /// Something else than ticket keys.
    #[error("`{name}` is not one or more session ticket keys of {TICKET_KEY} bytes")]
    NotTicketKeys {
        /// Name of the resource.
        name: String,
    },
    /// The module's file cannot be read.
    #[error("cannot read the module `{path}`")]
    UnreadableModule {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Passes what a proxy can use.
pub(super) fn check(resource: Resource, now: Timestamp) -> Result<Published, PublishError> {
    let name = &resource.name;
    let not_after = match &resource.body {
        Body::TlsCertificate { chain_pem, .. } => {
            let leaf = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).next().and_then(Result::ok);
            let not_after = leaf
                .and_then(|leaf| not_after(&leaf))
                .ok_or_else(|| PublishError::MalformedCertificate { name: name.clone() })?;
            if not_after.as_second() < now.as_second() {
                return Err(PublishError::Expired { name: name.clone(), not_after });
            }
            Some(not_after)
        }
        Body::ValidationContext { trusted_ca_pem, .. } => {
            let mut entries = 0;
            for entry in CertificateDer::pem_slice_iter(trusted_ca_pem.as_bytes()) {
                entry
                    .ok()
                    .and_then(|entry| not_after(&entry))
                    .ok_or_else(|| PublishError::MalformedCertificate { name: name.clone() })?;
                entries += 1;
            }
            if entries == 0 {
                return Err(PublishError::EmptyBundle { name: name.clone() });
            }
            None
        }
        Body::GenericSecret { value } => {
            // A proxy takes a line's end without a word, and answers every request with 503 from then on.
            let is_value = |byte: &u8| (0x20..0x7f).contains(byte) || *byte >= 0x80;
            if value.is_empty() || !value.iter().all(is_value) {
                return Err(PublishError::NotAValue { name: name.clone() });
            }
            None
        }
        Body::SessionTicketKeys { keys } => {
            if keys.is_empty() || keys.iter().any(|key| key.len() != TICKET_KEY) {
                return Err(PublishError::NotTicketKeys { name: name.clone() });
            }
            None
        }
        Body::WasmFilter { module, .. } => {
            check_module(Path::new(module))?;
            None
        }
    };
    Ok(Published { resource, not_after })
}

/// Whether the file can be read and begins as a module does.
///
/// # Errors
///
/// [`PublishError::UnreadableModule`] and [`PublishError::NotAModule`].
pub fn check_module(path: &Path) -> Result<(), PublishError> {
    let shown = path.display().to_string();
    let mut magic = [0; WASM_MAGIC.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if magic == WASM_MAGIC => Ok(()),
        Ok(()) => Err(PublishError::NotAModule { path: shown }),
        Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => Err(PublishError::NotAModule { path: shown }),
        Err(source) => Err(PublishError::UnreadableModule { path: shown, source }),
    }
}

fn not_after(der: &CertificateDer<'_>) -> Option<Timestamp> {
    Leaf::from_der(der).ok().map(|leaf| timestamp(leaf.validity.not_after))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zeroize::Zeroizing;

    use super::*;

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
        params.self_signed(&key).unwrap().pem()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn resource(body: Body) -> Resource {
        Resource { name: "gateway".to_owned(), version: "1".to_owned(), body }
    }

    fn certificate(chain_pem: String) -> Resource {
        resource(Body::TlsCertificate { chain_pem, key_pem: Zeroizing::new("secret".to_owned()) })
    }

    fn bundle(trusted_ca_pem: String) -> Resource {
        resource(Body::ValidationContext { trusted_ca_pem, match_uri: Vec::new(), crl_pem: None })
    }

    #[test]
    fn an_expired_certificate_is_refused_after_its_last_second() {
        let checked = check(certificate(pem()), at("2026-01-02T00:00:00.9Z")).unwrap();
        assert_eq!(checked.not_after, Some(at("2026-01-02T00:00:00Z")));
        let error = check(certificate(pem()), at("2026-01-02T00:00:01Z")).unwrap_err();
        assert!(matches!(error, PublishError::Expired { .. }), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let now = at("2026-01-01T12:00:00Z");
        for junk in ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = check(certificate(junk.to_owned()), now).unwrap_err();
            assert!(matches!(error, PublishError::MalformedCertificate { .. }), "{junk:?}: {error}");
        }
    }

    #[test]
    fn an_empty_bundle_and_one_with_a_bad_entry_are_refused() {
        let now = at("2026-01-01T12:00:00Z");
        assert!(check(bundle(pem()), now).is_ok());
        assert!(matches!(check(bundle(String::new()), now), Err(PublishError::EmptyBundle { .. })));
        let bad = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pem());
        assert!(matches!(check(bundle(bad), now), Err(PublishError::MalformedCertificate { .. })));
    }

    #[test]
    fn a_module_must_be_there_and_be_one() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        assert!(matches!(check_module(&path), Err(PublishError::NotAModule { .. })), "empty");
        file.write_all(b"\0asm\x01\0\0\0").unwrap();
        assert!(check_module(&path).is_ok());
        drop(file);
        assert!(matches!(check_module(&path), Err(PublishError::UnreadableModule { .. })), "gone");
    }
}
