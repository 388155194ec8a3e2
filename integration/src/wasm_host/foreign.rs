//! Functions that Envoy offers beside the ABI: `verify_signature`, with a library that is not the module's.

use ring::signature::ECDSA_P256_SHA256_ASN1;
use ring::signature::ECDSA_P256_SHA384_ASN1;
use ring::signature::ECDSA_P384_SHA256_ASN1;
use ring::signature::ECDSA_P384_SHA384_ASN1;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use ring::signature::RSA_PKCS1_2048_8192_SHA384;
use ring::signature::RSA_PKCS1_2048_8192_SHA512;
use ring::signature::UnparsedPublicKey;
use ring::signature::VerificationAlgorithm;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::status::HostResult;
use super::status::Status;

/// Calls a function by its name.
pub(crate) fn call(name: &[u8], arguments: &[u8]) -> HostResult<Vec<u8>> {
    match name {
        b"verify_signature" => verify_signature(arguments),
        _ => Err(Status::NotFound),
    }
}

/// `VerifySignatureArguments` of Envoy's `verify_signature.proto`.
#[derive(Default)]
struct Arguments<'a> {
    hash: &'a [u8],
    key: &'a [u8],
    signature: &'a [u8],
    text: &'a [u8],
}

/// As Envoy answers: a key that cannot be read is a bad argument, a signature that is not good a result.
fn verify_signature(message: &[u8]) -> HostResult<Vec<u8>> {
    let arguments = Arguments::parse(message).ok_or(Status::BadArgument)?;
    let (_, key) = SubjectPublicKeyInfo::from_der(arguments.key).map_err(|_| Status::BadArgument)?;
    let kind = key.algorithm.algorithm.to_id_string();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curve = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
    let algorithm: &dyn VerificationAlgorithm = match (kind.as_str(), curve.as_str(), arguments.hash) {
        ("1.2.840.10045.2.1", "1.2.840.10045.3.1.7", b"sha256") => &ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.2.1", "1.2.840.10045.3.1.7", b"sha384") => &ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.2.1", "1.3.132.0.34", b"sha256") => &ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.2.1", "1.3.132.0.34", b"sha384") => &ECDSA_P384_SHA384_ASN1,
        ("1.2.840.113549.1.1.1", _, b"sha256") => &RSA_PKCS1_2048_8192_SHA256,
        ("1.2.840.113549.1.1.1", _, b"sha384") => &RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.1", _, b"sha512") => &RSA_PKCS1_2048_8192_SHA512,
        // Envoy names what is wrong in the result; this host has no key or hash beyond those.
        _ => return Err(Status::BadArgument),
    };
    let key = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data);
    // `VerifySignatureResult`: 1 is the verdict, and what is false is not written; 2 is a text.
    Ok(match key.verify(arguments.text, arguments.signature) {
        Ok(()) => vec![1 << 3, 1],
        Err(_) => [&[2 << 3 | 2, 7][..], b"invalid"].concat(),
    })
}

impl<'a> Arguments<'a> {
    fn parse(mut message: &'a [u8]) -> Option<Self> {
        let mut arguments = Self::default();
        while let Some((tag, rest)) = message.split_first() {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(length)?;
            message = rest;
            *match tag {
                0x0a => &mut arguments.hash,
                0x12 => &mut arguments.key,
                0x1a => &mut arguments.signature,
                0x22 => &mut arguments.text,
                _ => return None,
            } = bytes;
        }
        Some(arguments)
    }
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (position, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[position + 1..]));
        }
    }
    None
}
