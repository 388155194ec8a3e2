//! Keys (RFC 7517, RFC 7518 §6) and what they sign with: one algorithm each (RFC 8725 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::Map;
use serde_json::Value;

use super::TokenError;
use super::json;
use super::jws::Jws;

/// Most keys of one set that one token is tried against.
const MAX_CANDIDATES: usize = 8;

/// Largest key set that is read, in bytes.
const MAX_KEY_SET: usize = 1024 * 1024;

/// Smallest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). Asymmetric ones only: a gate holds no secret of an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Es256, Self::Es384, Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::EdDsa];

    /// Reads the `alg` value; case counts (RFC 7515 §4.1.1).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// The `alg` value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }

    const fn is_rsa(self) -> bool {
        matches!(self, Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256)
    }

    const fn backend(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A public key with the one algorithm it is for.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    signature_length: usize,
    material: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// `kid`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The algorithm that this key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn verifies(&self, token: &Jws<'_>) -> bool {
        token.signature().len() == self.signature_length
            && jsonwebtoken::crypto::verify(
                &URL_SAFE_NO_PAD.encode(token.signature()),
                token.signed(),
                &self.material,
                self.algorithm.backend(),
            )
            .unwrap_or(false)
    }
}

/// The keys of one issuer (RFC 7517 §5).
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    ignored: usize,
}

/// Why a document is not a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not a JSON object, or one that holds a name twice.
    #[error("not a JSON object, or one that holds a name twice")]
    NotAnObject,
    /// There is no array `keys` of objects.
    #[error("no array `keys` of objects")]
    NoKeys,
    /// Longer than what is read.
    #[error("longer than {MAX_KEY_SET} bytes")]
    TooLarge,
}

impl KeySet {
    /// Reads a JWK Set. A key that is not for signatures, not of a supported kind, malformed, or whose algorithm is not
    /// among `allowed` is left out and counted (RFC 7517 §5).
    ///
    /// A key says its algorithm in `alg`; without one the curve does, and an RSA key is for the only RSA algorithm in
    /// `allowed`, or for RS256 where several are.
    ///
    /// # Errors
    ///
    /// [`KeySetError`], if the document as a whole is not a key set.
    pub fn from_json(text: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        if text.len() > MAX_KEY_SET {
            return Err(KeySetError::TooLarge);
        }
        let document = json::object(text).ok_or(KeySetError::NotAnObject)?;
        let Some(Value::Array(entries)) = document.get("keys") else {
            return Err(KeySetError::NoKeys);
        };
        let mut set = Self::default();
        for entry in entries {
            let Value::Object(entry) = entry else {
                return Err(KeySetError::NoKeys);
            };
            match read_key(entry, allowed) {
                Some(key) => set.keys.push(key),
                None => set.ignored += 1,
            }
        }
        Ok(set)
    }

    /// The usable keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// How many entries were left out.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// Verifies the signature and says whose it is. The payload may be believed afterwards, not before.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyUnknown`], [`TokenError::AlgorithmMismatch`] or [`TokenError::SignatureInvalid`].
    pub fn verify(&self, token: &Jws<'_>) -> Result<&Key, TokenError> {
        let fits = |key: &&Key| token.kid().is_none() || key.id().is_none() || key.id() == token.kid();
        if !self.keys.iter().any(|key| fits(&key)) {
            return Err(TokenError::KeyUnknown);
        }
        let mut candidates = self
            .keys
            .iter()
            .filter(fits)
            .filter(|key| key.algorithm == token.algorithm())
            .take(MAX_CANDIDATES)
            .peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::AlgorithmMismatch);
        }
        candidates.find(|key| key.verifies(token)).ok_or(TokenError::SignatureInvalid)
    }
}

fn read_key(entry: &Map<String, Value>, allowed: &[Algorithm]) -> Option<Key> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let absent_or = |name: &str, holds: &dyn Fn(&Value) -> bool| entry.get(name).is_none_or(holds);
    let for_signatures = absent_or("use", &|usage| usage == "sig")
        && absent_or("key_ops", &|operations| {
            operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
        })
        && absent_or("kid", &Value::is_string)
        && absent_or("alg", &Value::is_string);
    if !for_signatures {
        return None;
    }
    let declared = match text("alg") {
        Some(name) => Some(Algorithm::parse(name)?),
        None => None,
    };
    let (algorithm, signature_length, material) = match (text("kty")?, text("crv")) {
        ("EC", Some("P-256")) => (Algorithm::Es256, 64, point(text("x")?, text("y")?, 32)?),
        ("EC", Some("P-384")) => (Algorithm::Es384, 96, point(text("x")?, text("y")?, 48)?),
        ("OKP", Some("Ed25519")) => {
            (bytes(text("x")?)?.len() == 32).then_some(())?;
            (Algorithm::EdDsa, 64, DecodingKey::from_ed_components(text("x")?).ok()?)
        }
        ("RSA", _) => {
            let (modulus, exponent) = (unsigned(text("n")?)?, unsigned(text("e")?)?);
            let odd = exponent.last().is_some_and(|last| last & 1 == 1) && exponent != [1];
            (odd && bits(&modulus) >= MIN_RSA_BITS).then_some(())?;
            let mut rsa = allowed.iter().copied().filter(|algorithm| algorithm.is_rsa());
            let algorithm = match (declared, rsa.next(), rsa.next()) {
                (Some(declared), ..) => declared.is_rsa().then_some(declared)?,
                (None, Some(only), None) => only,
                (None, ..) => Algorithm::Rs256,
            };
            (algorithm, modulus.len(), DecodingKey::from_rsa_raw_components(&modulus, &exponent))
        }
        _ => return None,
    };
    let usable = declared.is_none_or(|declared| declared == algorithm) && allowed.contains(&algorithm);
    usable.then(|| Key { id: text("kid").map(str::to_owned), algorithm, signature_length, material })
}

/// A curve point; both coordinates have the full size of the field (RFC 7518 §6.2.1.2).
fn point(x: &str, y: &str, size: usize) -> Option<DecodingKey> {
    (bytes(x)?.len() == size && bytes(y)?.len() == size).then_some(())?;
    DecodingKey::from_ec_components(x, y).ok()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A big-endian number without leading zeros; some issuers write one, against RFC 7518 §6.3.1.1.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let number: Vec<u8> = bytes(text)?.into_iter().skip_while(|&byte| byte == 0).collect();
    (!number.is_empty()).then_some(number)
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
