//! From DER to a [`Leaf`] (RFC 5280 §4.1).

use jiff::civil::DateTime;
use sha2::Digest as _;
use sha2::Sha256;

use super::Leaf;
use super::Provenance;
use super::Signed;
use super::der;
use super::der::Element;
use super::distinguished_name::DistinguishedName;
use super::error::CertificateError;
use super::extensions::Extensions;
use super::label;
use super::names::AlternativeName;
use super::oid;
use crate::spiffe::SpiffeId;
use crate::time::EPOCH;
use crate::time::UnixTime;

/// The largest certificate that is read, in bytes.
pub(super) const MAX_DER: usize = 64 * 1024;

/// Kind and size of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublicKey {
    /// On an elliptic curve (RFC 5480), named by its dotted object identifier.
    Ec {
        /// The curve: `1.2.840.10045.3.1.7` is P-256.
        curve: String,
    },
    /// RSA (RFC 8017).
    Rsa {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// Another algorithm, or Ed25519 and its like, whose identifier says everything.
    Other {
        /// The dotted object identifier of the algorithm.
        algorithm: String,
    },
}

impl PublicKey {
    /// Its size in bits, where that is known: of a curve of NIST its order's, of RSA the modulus's.
    pub fn bits(&self) -> Option<usize> {
        match self {
            Self::Ec { curve } => match curve.as_str() {
                "1.2.840.10045.3.1.7" => Some(256),
                "1.3.132.0.34" => Some(384),
                "1.3.132.0.35" => Some(521),
                _ => None,
            },
            Self::Rsa { bits } => Some(*bits),
            Self::Other { .. } => None,
        }
    }
}

pub(super) fn certificate(der: &[u8]) -> Result<Leaf, CertificateError> {
    if der.len() > MAX_DER {
        return Err(CertificateError::TooLong { length: der.len() });
    }
    let malformed = |part| move || CertificateError::Malformed(part);

    let mut outer = der::Reader::new(der);
    let mut signed = outer.take(der::SEQUENCE).ok_or_else(malformed("certificate"))?.reader();
    if !outer.rest().is_empty() {
        return Err(CertificateError::TrailingBytes(outer.rest().len()));
    }
    let message = signed.take(der::SEQUENCE).ok_or_else(malformed("certificate"))?;
    let mut fields = message.reader();
    let algorithm = signed.take(der::SEQUENCE).ok_or_else(malformed("signature algorithm"))?;
    let signature = signed.take(der::BIT_STRING).ok_or_else(malformed("signature"))?;
    let (signature, unused) = der::bit_string(signature.contents).ok_or_else(malformed("signature"))?;
    signed.finish().ok_or_else(malformed("certificate"))?;

    let version = match fields.take_if(der::context_constructed(0)).ok_or_else(malformed("version"))? {
        Some(explicit) => match explicit.contents {
            [der::INTEGER, 1, version @ 1..=2] => version + 1,
            _ => return Err(CertificateError::Version),
        },
        None => 1,
    };
    let serial = fields.take(der::INTEGER).filter(|serial| der::is_integer(serial.contents));
    let serial = serial.ok_or_else(malformed("serial number"))?.contents;
    let inner = fields.take(der::SEQUENCE).ok_or_else(malformed("signature algorithm"))?;
    if inner.encoded != algorithm.encoded {
        return Err(CertificateError::SignatureAlgorithm);
    }
    let (signature_algorithm, _) = algorithm_identifier(algorithm).ok_or_else(malformed("signature algorithm"))?;
    let issuer_name = fields.any().ok_or_else(malformed("issuer"))?;
    let issuer = DistinguishedName::parse(issuer_name).ok_or_else(malformed("issuer"))?;
    let validity = fields.take(der::SEQUENCE).and_then(validity);
    let (not_before, not_after) = validity.ok_or_else(malformed("validity"))?;
    let subject_name = fields.any().ok_or_else(malformed("subject"))?;
    let subject = DistinguishedName::parse(subject_name).ok_or_else(malformed("subject"))?;
    let key_info = fields.take(der::SEQUENCE).ok_or_else(malformed("public key"))?;
    let public_key = public_key(key_info).ok_or_else(malformed("public key"))?;

    let mut unique_ids = 0;
    for tag in [der::context(1), der::context(2)] {
        if let Some(id) = fields.take_if(tag).ok_or_else(malformed("unique identifier"))? {
            der::bit_string(id.contents).ok_or_else(malformed("unique identifier"))?;
            unique_ids += 1;
        }
    }
    let extensions = match fields.take_if(der::context_constructed(3)).ok_or_else(malformed("extensions"))? {
        Some(explicit) => Some(der::only(explicit.contents, der::SEQUENCE).ok_or_else(malformed("extensions"))?),
        None => None,
    };
    fields.finish().ok_or_else(malformed("certificate"))?;
    if (version < 2 && unique_ids > 0) || (version < 3 && extensions.is_some()) {
        return Err(CertificateError::Version);
    }
    let extensions = extensions.map(Extensions::parse).transpose()?.unwrap_or_default();

    let sha256 = Sha256::digest(der).into();
    let spiffe = spiffe(&extensions);
    let identity = label::identity(spiffe.as_ref(), &extensions.alternative_names, &subject, &sha256);
    Ok(Leaf {
        sha256,
        spki_sha256: Sha256::digest(key_info.encoded).into(),
        identity,
        spiffe,
        serial: serial.into(),
        signature_algorithm,
        issuer,
        not_before,
        not_after,
        subject,
        public_key,
        alternative_names: extensions.alternative_names,
        eku: extensions.eku,
        extensions: extensions.ids,
        policies: extensions.policies,
        authority_key_id: extensions.authority_key_id,
        key_usage: extensions.key_usage,
        ca: extensions.ca,
        issuer_name_sha256: Some(Sha256::digest(issuer_name.encoded).into()),
        provenance: Provenance::Unchecked(Box::new(Signed {
            message: message.encoded.into(),
            // No signature has a number of bits that is no number of bytes.
            signature: if unused == 0 { signature.into() } else { Box::default() },
            issuer: issuer_name.encoded.into(),
            subject: subject_name.encoded.into(),
            key: key_info.encoded.into(),
        })),
    })
}

/// The SPIFFE ID of an X.509-SVID that authenticates a workload, or none.
fn spiffe(extensions: &Extensions) -> Option<SpiffeId> {
    // A certificate that signs others speaks for a trust domain, never for a workload (§5.2).
    let signs = extensions.key_usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign());
    if extensions.ca || signs { None } else { spiffe_id(&extensions.alternative_names) }
}

/// The SPIFFE ID among the names of a certificate that signs no others.
pub(super) fn spiffe_id(names: &[AlternativeName]) -> Option<SpiffeId> {
    // "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID §2).
    let mut uris = names.iter().filter_map(|name| name.as_uri());
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return None;
    };
    // "Leaf certificate SPIFFE IDs MUST have a non-root path component" (§3.1).
    SpiffeId::parse(uri).filter(|id| id.segments().next().is_some())
}

/// The dotted identifier of an algorithm, and its parameters.
fn algorithm_identifier(algorithm: Element<'_>) -> Option<(String, Option<Element<'_>>)> {
    let mut fields = algorithm.reader();
    let oid = oid::dotted(fields.take(der::OBJECT_IDENTIFIER)?.contents)?;
    let parameters = if fields.rest().is_empty() { None } else { Some(fields.any()?) };
    fields.finish()?;
    Some((oid, parameters))
}

fn public_key(key_info: Element<'_>) -> Option<PublicKey> {
    let mut fields = key_info.reader();
    let (algorithm, parameters) = algorithm_identifier(fields.take(der::SEQUENCE)?)?;
    let (key, unused) = der::bit_string(fields.take(der::BIT_STRING)?.contents)?;
    fields.finish()?;
    if unused != 0 {
        return None;
    }
    match algorithm.as_str() {
        "1.2.840.10045.2.1" => {
            let curve = parameters.filter(|parameters| parameters.tag == der::OBJECT_IDENTIFIER)?;
            Some(PublicKey::Ec { curve: oid::dotted(curve.contents)? })
        }
        "1.2.840.113549.1.1.1" => {
            let mut numbers = der::only(key, der::SEQUENCE)?.reader();
            let modulus = numbers.take(der::INTEGER).filter(|modulus| der::is_integer(modulus.contents))?;
            numbers.take(der::INTEGER).filter(|exponent| der::is_integer(exponent.contents))?;
            numbers.finish()?;
            let digits = modulus.contents.strip_prefix(&[0]).unwrap_or(modulus.contents);
            let leading = digits.first()?.leading_zeros();
            Some(PublicKey::Rsa { bits: digits.len() * 8 - usize::try_from(leading).ok()? })
        }
        _ => Some(PublicKey::Other { algorithm }),
    }
}

fn validity(element: Element<'_>) -> Option<(UnixTime, UnixTime)> {
    let mut fields = element.reader();
    let not_before = time(fields.any()?)?;
    let not_after = time(fields.any()?)?;
    fields.finish()?;
    Some((not_before, not_after))
}

/// UTCTime or GeneralizedTime, with seconds and in UTC (RFC 5280 §4.1.2.5.1, §4.1.2.5.2).
fn time(element: Element<'_>) -> Option<UnixTime> {
    let digits = element.contents.strip_suffix(b"Z")?;
    let (century, digits) = match (element.tag, digits) {
        // Two digits of the year: 50 to 99 are in the twentieth century.
        (der::UTC_TIME, [b'5'..=b'9', ..]) => (19, digits),
        (der::UTC_TIME, _) => (20, digits),
        (der::GENERALIZED_TIME, [first, second, rest @ ..]) => (pair([*first, *second])?, rest),
        _ => return None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    let (&[year, month, day, hour, minute, second], []) = (pairs, rest) else {
        return None;
    };
    let year = i16::from(century) * 100 + i16::from(pair(year)?);
    let date = jiff::civil::Date::new(year, pair(month)?, pair(day)?).ok()?;
    let time = jiff::civil::Time::new(pair(hour)?, pair(minute)?, pair(second)?, 0).ok()?;
    Some(UnixTime(DateTime::from_parts(date, time).duration_since(EPOCH).as_secs()))
}

/// Two decimal digits.
fn pair(digits: [u8; 2]) -> Option<i8> {
    let [tens, ones] = digits.map(|digit| digit.is_ascii_digit().then(|| (digit - b'0').cast_signed()));
    Some(tens? * 10 + ones?)
}
