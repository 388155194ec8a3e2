//! The arithmetic in Rust: the same everywhere, and slow in a Wasm module.

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use sha2::Digest as _;
use sha2::Sha256;
use sha2::Sha384;
use sha2::Sha512;

use super::Algorithm;
use super::Hash;
use super::Scheme;
use super::Verifier;
use super::VerifyingKey;

/// Verifies with the pure-Rust backend of `jsonwebtoken`, and with the crates below it what JWS has no name for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureRust;

impl Verifier for PureRust {
    fn verify(&mut self, key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
        match (key.scheme().jws(), key.scheme()) {
            (Some(algorithm), _) => {
                // From the backend's table and not through `crypto::verify`: that would link in what signs, two tenths of a
                // megabyte in the module.
                let verifier = (DEFAULT_PROVIDER.verifier_factory)(&backend(algorithm), key.material());
                verifier.is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok())
            }
            (None, Scheme::P256(hash)) => p256(key, &digest(hash, message), signature).is_some(),
            (None, Scheme::P384(hash)) => p384(key, &digest(hash, message), signature).is_some(),
            (None, Scheme::Rsa(_) | Scheme::RsaPss256 | Scheme::Ed25519) => false,
        }
    }
}

/// Whether this is the encoding (SEC 1 §2.3.3) of a point on the curve of a scheme.
pub(super) fn is_on_curve(scheme: Scheme, encoded: &[u8]) -> bool {
    match scheme {
        Scheme::P256(_) => p256::ecdsa::VerifyingKey::from_sec1_bytes(encoded).is_ok(),
        Scheme::P384(_) => p384::ecdsa::VerifyingKey::from_sec1_bytes(encoded).is_ok(),
        Scheme::Rsa(_) | Scheme::RsaPss256 | Scheme::Ed25519 => false,
    }
}

fn p256(key: &VerifyingKey, digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key.material().try_get_as_bytes().ok()?).ok()?;
    key.verify_prehash(digest, &p256::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

fn p384(key: &VerifyingKey, digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key.material().try_get_as_bytes().ok()?).ok()?;
    key.verify_prehash(digest, &p384::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
    }
}

const fn backend(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}
