//! The arithmetic in Rust: the same everywhere, and slow in a Wasm module.
//!
//! By the crates themselves and not by one that has a table of all that can be done with them: what signs, and what reads
//! private keys, would be linked into the module with it.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::BigUint;
use rsa::Pkcs1v15Sign;
use rsa::Pss;
use rsa::RsaPublicKey;
use sha2::Digest as _;
use sha2::Sha256;
use sha2::Sha384;
use sha2::Sha512;

use super::Hash;
use super::Scheme;
use super::Verifier;
use super::VerifyingKey;
use super::key::Material;

/// Verifies with the crates of RustCrypto and with `ed25519-dalek`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureRust;

impl Verifier for PureRust {
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (key.scheme(), key.material()) {
            (Scheme::P256(hash), Material::Point(point)) => p256(point, &digest(hash, message), signature),
            (Scheme::P384(hash), Material::Point(point)) => p384(point, &digest(hash, message), signature),
            (Scheme::Rsa(hash), Material::Numbers { modulus, exponent }) => rsa(modulus, exponent).and_then(|key| {
                let scheme = match hash {
                    Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
                    Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
                    Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
                };
                key.verify(scheme, &digest(hash, message), signature).ok()
            }),
            (Scheme::RsaPss256, Material::Numbers { modulus, exponent }) => rsa(modulus, exponent)
                .and_then(|key| key.verify(Pss::new::<Sha256>(), &digest(Hash::Sha256, message), signature).ok()),
            (Scheme::Ed25519, Material::Ed25519(public)) => ed25519(public, message, signature),
            // A key is made with the material of its scheme.
            _ => None,
        };
        verified.is_some()
    }
}

fn p256(point: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    key.verify_prehash(digest, &p256::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

fn p384(point: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    key.verify_prehash(digest, &p384::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<RsaPublicKey> {
    RsaPublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent)).ok()
}

fn ed25519(public: &[u8; 32], message: &[u8], signature: &[u8]) -> Option<()> {
    use ed25519_dalek::Verifier as _;

    let key = ed25519_dalek::VerifyingKey::from_bytes(public).ok()?;
    key.verify(message, &ed25519_dalek::Signature::from_slice(signature).ok()?).ok()
}

fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
    }
}
