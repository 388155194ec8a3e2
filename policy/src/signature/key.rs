//! A public key with the one scheme that it is for (RFC 8725 §3.1), from a JWK or from a certificate.

use jsonwebtoken::DecodingKey;

use super::Algorithm;
use super::Hash;
use super::Scheme;
use super::Verifier;
use super::ecdsa;
use super::pure_rust;
use super::write;
use crate::certificate::der;
use crate::certificate::oid;

/// Sizes of an RSA modulus, in bits: the smallest that is safe (RFC 7518 §3.3), and the largest that every library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Largest RSA exponent, in bits, that every library takes.
const MAX_EXPONENT_BITS: usize = 33;

// Object identifiers (RFC 3279 §2.3, RFC 5480 §2.1.1, RFC 8410 §3), as DER.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const NULL: &[u8] = &[0x05, 0x00];

/// A public key that verifies signatures of one scheme.
#[derive(Clone)]
pub struct VerifyingKey {
    scheme: Scheme,
    signature_length: usize,
    spki: Box<[u8]>,
    material: DecodingKey,
}

/// A key and a signature in the forms that OpenSSL's family takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostForm<'k> {
    /// The hash function: `sha256`, `sha384`, `sha512`.
    pub hash: &'static str,
    /// `SubjectPublicKeyInfo`, DER.
    pub key: &'k [u8],
    /// The signature; DER for ECDSA.
    pub signature: Vec<u8>,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// A point on the curve of an ECDSA algorithm; both coordinates have the full size (RFC 7518 §6.2.1.2).
    pub(crate) fn ec(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Option<Self> {
        let size = algorithm.scheme().coordinate()?;
        (x.len() == size && y.len() == size).then_some(())?;
        let encoded = [&[4], x, y].concat();
        pure_rust::is_on_curve(algorithm.scheme(), &encoded).then_some(())?;
        Self::point(algorithm.scheme(), &encoded)
    }

    /// An RSA key, of big-endian numbers without leading zeros.
    pub(crate) fn rsa(algorithm: Algorithm, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        algorithm.is_rsa().then_some(())?;
        Self::numbers(algorithm.scheme(), modulus, exponent)
    }

    /// An Ed25519 key (RFC 8032 §5.1.5).
    pub(crate) fn ed25519(public: &[u8]) -> Option<Self> {
        (public.len() == 32).then_some(())?;
        let algorithm = write::element(der::SEQUENCE, &[&write::element(der::OBJECT_IDENTIFIER, &[ED25519])]);
        Some(Self {
            scheme: Scheme::Ed25519,
            signature_length: 64,
            spki: spki(&algorithm, public),
            material: DecodingKey::from_ed_der(public),
        })
    }

    /// The key of a certificate's issuer: its `SubjectPublicKeyInfo` (DER), for the signature algorithm, a dotted object
    /// identifier, that the certificate names.
    ///
    /// `None` if the two do not go together, or are not supported: ECDSA on P-256 and P-384, RSASSA-PKCS1-v1_5 with 2,048 to
    /// 4,096 bits, both with SHA-256, SHA-384 or SHA-512, and Ed25519.
    pub fn of_issuer(spki: &[u8], signature_algorithm: &str) -> Option<Self> {
        let mut fields = der::only(spki, der::SEQUENCE)?.reader();
        let mut algorithm = fields.take(der::SEQUENCE)?.reader();
        let kind = algorithm.take(der::OBJECT_IDENTIFIER)?.contents;
        let (bits, 0) = der::bit_string(fields.take(der::BIT_STRING)?.contents)? else { return None };
        fields.finish()?;
        let ecdsa = |hash| {
            let curve = der::only(algorithm.rest(), der::OBJECT_IDENTIFIER)?.contents;
            let scheme = if curve == P256 { Scheme::P256(hash) } else { Scheme::P384(hash) };
            (kind == EC && (curve == P256 || curve == P384)).then_some(())?;
            Self::point(scheme, bits)
        };
        let rsa = |hash| {
            let mut numbers = der::only(bits, der::SEQUENCE)?.reader();
            let modulus = ecdsa::unsigned(numbers.take(der::INTEGER)?.contents)?;
            let exponent = ecdsa::unsigned(numbers.take(der::INTEGER)?.contents)?;
            numbers.finish()?;
            (kind == RSA && matches!(algorithm.rest(), NULL | [])).then_some(())?;
            Self::numbers(Scheme::Rsa(hash), modulus, exponent)
        };
        match signature_algorithm {
            "1.2.840.10045.4.3.2" => ecdsa(Hash::Sha256),
            "1.2.840.10045.4.3.3" => ecdsa(Hash::Sha384),
            "1.2.840.10045.4.3.4" => ecdsa(Hash::Sha512),
            "1.2.840.113549.1.1.11" => rsa(Hash::Sha256),
            "1.2.840.113549.1.1.12" => rsa(Hash::Sha384),
            "1.2.840.113549.1.1.13" => rsa(Hash::Sha512),
            "1.3.101.112" => (oid::dotted(kind)? == signature_algorithm && algorithm.rest().is_empty())
                .then(|| Self::ed25519(bits))
                .flatten(),
            _ => None,
        }
    }

    /// Whether `signature`, in the form of JWS, is that of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8], verifier: &mut dyn Verifier) -> bool {
        signature.len() == self.signature_length && verifier.verify(self, message, signature)
    }

    /// Whether `signature`, in the form of X.509 (the bits of `signatureValue`, RFC 5280 §4.1.1.3), is that of `message`.
    pub fn verify_x509(&self, message: &[u8], signature: &[u8], verifier: &mut dyn Verifier) -> bool {
        match self.scheme.coordinate() {
            None => self.verify(message, signature, verifier),
            Some(size) => {
                ecdsa::from_der(signature, size).is_some_and(|signature| self.verify(message, &signature, verifier))
            }
        }
    }

    /// Key and signature for a library of OpenSSL's family that is told a hash and no padding, as Envoy's
    /// `verify_signature` is. `None` for what it cannot be asked: RSASSA-PSS and Ed25519.
    pub fn host_form(&self, signature: &[u8]) -> Option<HostForm<'_>> {
        let (hash, signature) = match self.scheme {
            Scheme::P256(hash) | Scheme::P384(hash) => (hash, ecdsa::to_der(signature)),
            Scheme::Rsa(hash) => (hash, signature.to_vec()),
            Scheme::RsaPss256 | Scheme::Ed25519 => return None,
        };
        Some(HostForm { hash: hash.name(), key: &self.spki, signature })
    }

    /// `SubjectPublicKeyInfo`, DER (RFC 5280 §4.1.2.7).
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) fn material(&self) -> &DecodingKey {
        &self.material
    }

    /// An uncompressed point (SEC 1 §2.3.3). Whether it is on the curve is found out when the key is used.
    fn point(scheme: Scheme, encoded: &[u8]) -> Option<Self> {
        let size = scheme.coordinate()?;
        (encoded.len() == 1 + 2 * size && encoded.first() == Some(&4)).then_some(())?;
        let curve = if size == 32 { P256 } else { P384 };
        let identifiers = [EC, curve].map(|oid| write::element(der::OBJECT_IDENTIFIER, &[oid]));
        let algorithm = write::element(der::SEQUENCE, &identifiers.each_ref().map(Vec::as_slice));
        Some(Self {
            scheme,
            signature_length: 2 * size,
            spki: spki(&algorithm, encoded),
            material: DecodingKey::from_ec_der(encoded),
        })
    }

    fn numbers(scheme: Scheme, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        let exponent_fits = odd(exponent) && exponent != [1] && bits(exponent) <= MAX_EXPONENT_BITS;
        (exponent_fits && odd(modulus) && RSA_BITS.contains(&bits(modulus))).then_some(())?;
        let algorithm = write::element(der::SEQUENCE, &[&write::element(der::OBJECT_IDENTIFIER, &[RSA]), NULL]);
        let numbers = write::element(der::SEQUENCE, &[&write::unsigned(modulus), &write::unsigned(exponent)]);
        Some(Self {
            scheme,
            signature_length: modulus.len(),
            spki: spki(&algorithm, &numbers),
            material: DecodingKey::from_rsa_raw_components(modulus, exponent),
        })
    }
}

fn spki(algorithm: &[u8], key: &[u8]) -> Box<[u8]> {
    write::element(der::SEQUENCE, &[algorithm, &write::element(der::BIT_STRING, &[&[0], key])]).into()
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
