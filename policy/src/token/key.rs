//! Keys (RFC 7517, RFC 7518 §6) and what they sign with: one algorithm each (RFC 8725 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

use super::TokenError;
use super::json;
use super::jws::Jws;
use crate::signature::Algorithm;
use crate::signature::Verifier;
use crate::signature::VerifyingKey;

/// Most keys of one set that one token is tried against.
const MAX_CANDIDATES: usize = 8;

/// Largest key set that is read, in bytes.
const MAX_KEY_SET: usize = 1024 * 1024;

/// A public key with the one algorithm it is for.
#[derive(Clone, Debug)]
pub struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    public: VerifyingKey,
    jwk: Map<String, Value>,
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

    /// The key as a JWK: its public members, and the algorithm that it is for.
    pub(crate) fn jwk(&self) -> &Map<String, Value> {
        &self.jwk
    }

    /// The key itself.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
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
        Self::from_entries(entries, allowed)
    }

    /// The same from the elements of `keys`, no name in which occurs twice.
    pub(crate) fn from_entries(entries: &[Value], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
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
    pub fn verify(&self, token: &Jws<'_>, verifier: &mut dyn Verifier) -> Result<&Key, TokenError> {
        self.candidates(token)?.verify(verifier)
    }

    /// The keys that may have signed, found without arithmetic.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyUnknown`] or [`TokenError::AlgorithmMismatch`].
    pub(super) fn candidates<'s, 't>(&'s self, token: &'t Jws<'t>) -> Result<Candidates<'s, 't>, TokenError> {
        let fits = |key: &&Key| token.kid().is_none() || key.id().is_none() || key.id() == token.kid();
        if !self.keys.iter().any(|key| fits(&key)) {
            return Err(TokenError::KeyUnknown);
        }
        let of_algorithm = |key: &&Key| key.algorithm == token.algorithm();
        let keys: Vec<&Key> = self.keys.iter().filter(fits).filter(of_algorithm).take(MAX_CANDIDATES).collect();
        if keys.is_empty() { Err(TokenError::AlgorithmMismatch) } else { Ok(Candidates { token, keys }) }
    }
}

/// A token and the keys that may have signed it.
pub(super) struct Candidates<'s, 't> {
    token: &'t Jws<'t>,
    keys: Vec<&'s Key>,
}

impl<'s> Candidates<'s, '_> {
    /// Which of the keys signed the token.
    pub(super) fn verify(self, verifier: &mut dyn Verifier) -> Result<&'s Key, TokenError> {
        let Self { token, keys } = self;
        let signed = |key: &&Key| key.public.verify(token.signed(), token.signature(), verifier);
        keys.into_iter().find(signed).ok_or(TokenError::SignatureInvalid)
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
    let (algorithm, public) = match (text("kty")?, text("crv")) {
        ("EC", Some(curve)) => {
            let algorithm = match curve {
                "P-256" => Algorithm::Es256,
                "P-384" => Algorithm::Es384,
                _ => return None,
            };
            (algorithm, VerifyingKey::ec(algorithm, &bytes(text("x")?)?, &bytes(text("y")?)?)?)
        }
        ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, VerifyingKey::ed25519(&bytes(text("x")?)?)?),
        ("RSA", _) => {
            let mut rsa = allowed.iter().copied().filter(|algorithm| algorithm.is_rsa());
            let algorithm = match (declared, rsa.next(), rsa.next()) {
                (Some(declared), ..) => declared,
                (None, Some(only), None) => only,
                (None, ..) => Algorithm::Rs256,
            };
            (algorithm, VerifyingKey::rsa(algorithm, &unsigned(text("n")?)?, &unsigned(text("e")?)?)?)
        }
        _ => return None,
    };
    let usable = declared.is_none_or(|declared| declared == algorithm) && allowed.contains(&algorithm);
    usable.then_some(())?;
    let members = ["kid", "kty", "crv", "x", "y", "n", "e"].into_iter();
    let mut jwk: Map<String, Value> =
        members.filter_map(|name| Some((name.to_owned(), entry.get(name)?.clone()))).collect();
    jwk.insert("alg".to_owned(), algorithm.name().into());
    Some(Key { id: text("kid").map(str::to_owned), algorithm, public, jwk })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A big-endian number without leading zeros; some issuers write one, against RFC 7518 §6.3.1.1.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let number: Vec<u8> = bytes(text)?.into_iter().skip_while(|&byte| byte == 0).collect();
    (!number.is_empty()).then_some(number)
}
