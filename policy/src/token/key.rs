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
pub(crate) const MAX_CANDIDATES: usize = 8;

/// Largest key set that is read, in bytes.
const MAX_KEY_SET: usize = 1024 * 1024;

/// A public key with the one algorithm it is for.
#[derive(Clone, Debug)]
pub struct Key {
    /// Among the entries of its set.
    position: usize,
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

    /// Its place among the entries of its set.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// The key itself.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }
}

/// The keys of one issuer (RFC 7517 §5).
#[derive(Clone, Debug)]
pub struct KeySet {
    allowed: Box<[Algorithm]>,
    keys: Vec<Key>,
    left_out: Vec<(usize, KeyProblem)>,
    private: Vec<usize>,
}

/// Why an entry of a set is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyProblem {
    /// `alg` is not for keys of this kind, or on this curve.
    #[error("its `alg` is not for keys of its kind")]
    AlgorithmMismatch,
    /// What the key is for is not among what is allowed.
    #[error("its algorithm is not among those that are allowed")]
    AlgorithmNotAllowed,
    /// `alg` is one that tokens are not verified with.
    #[error("its `alg` is none that tokens are verified with")]
    AlgorithmUnknown,
    /// Not a kind, or not a curve, that tokens are verified with.
    #[error("its `kty` or `crv` is none that tokens are verified with")]
    KindUnknown,
    /// A member is missing, or is not what it should be.
    #[error("one of its members is missing or malformed")]
    Malformed,
    /// `use` or `key_ops` keep it for something else.
    #[error("its `use` or `key_ops` is for something else than verifying signatures")]
    NotForSignatures,
    /// The coordinates are not those of a point on the curve.
    #[error("its `x` and `y` are no point on its curve")]
    NotOnCurve,
    /// The numbers are not those of an RSA key of a size that is taken.
    #[error("its `n` and `e` are not those of an RSA key that is safe and of a size that is taken")]
    RsaRefused,
}

/// Members of a JWK that make it a private key, or a secret one (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

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
    /// Reads a JWK Set, for tokens of the algorithms `allowed` and no others. A key that is not for signatures, not of a
    /// supported kind, malformed, or whose algorithm is not among `allowed` is left out and counted (RFC 7517 §5).
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
        let mut set = Self { allowed: allowed.into(), keys: Vec::new(), left_out: Vec::new(), private: Vec::new() };
        for (position, entry) in entries.iter().enumerate() {
            let Value::Object(entry) = entry else {
                return Err(KeySetError::NoKeys);
            };
            match read_key(position, entry, allowed) {
                Ok(key) => set.keys.push(key),
                Err(problem) => set.left_out.push((position, problem)),
            }
            if PRIVATE.iter().any(|name| entry.contains_key(*name)) {
                set.private.push(position);
            }
        }
        Ok(set)
    }

    /// The only algorithms that are taken.
    pub(crate) fn allowed(&self) -> &[Algorithm] {
        &self.allowed
    }

    /// The usable keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// How many entries were left out.
    pub fn ignored(&self) -> usize {
        self.left_out.len()
    }

    /// The places of the entries that were left out, and why.
    pub(crate) fn left_out(&self) -> &[(usize, KeyProblem)] {
        &self.left_out
    }

    /// The places of the entries that hold more than a public key. What is more is not kept.
    pub(crate) fn private(&self) -> &[usize] {
        &self.private
    }

    /// The usable keys that no token is tried against: too many before them fit whatever fits them.
    pub(crate) fn never_tried(&self) -> impl Iterator<Item = &Key> {
        let hidden = |(number, key): &(usize, &Key)| {
            let fits = |other: &&Key| other.algorithm == key.algorithm && (other.id.is_none() || other.id == key.id);
            self.keys.iter().take(*number).filter(fits).count() >= MAX_CANDIDATES
        };
        self.keys.iter().enumerate().filter(hidden).map(|(_, key)| key)
    }

    /// Verifies the signature and says whose it is. The payload may be believed afterwards, not before.
    ///
    /// # Errors
    ///
    /// [`TokenError::AlgorithmNotAllowed`], [`TokenError::KeyUnknown`], [`TokenError::AlgorithmMismatch`] or
    /// [`TokenError::SignatureInvalid`].
    pub fn verify(&self, token: &Jws<'_>, verifier: &mut dyn Verifier) -> Result<&Key, TokenError> {
        self.candidates(token)?.verify(verifier)
    }

    /// The keys that may have signed, found without arithmetic.
    ///
    /// # Errors
    ///
    /// [`TokenError::AlgorithmNotAllowed`], [`TokenError::KeyUnknown`] or [`TokenError::AlgorithmMismatch`].
    pub(super) fn candidates<'s, 't>(&'s self, token: &'t Jws<'t>) -> Result<Candidates<'s, 't>, TokenError> {
        if !self.allowed.contains(&token.algorithm()) {
            return Err(TokenError::AlgorithmNotAllowed);
        }
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

fn read_key(position: usize, entry: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Key, KeyProblem> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let needed = |name: &str| text(name).ok_or(KeyProblem::Malformed);
    let absent_or = |name: &str, holds: &dyn Fn(&Value) -> bool| entry.get(name).is_none_or(holds);
    let for_signatures = absent_or("use", &|usage| usage == "sig")
        && absent_or("key_ops", &|operations| {
            operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
        });
    if !for_signatures {
        return Err(KeyProblem::NotForSignatures);
    }
    if !absent_or("kid", &Value::is_string) || !absent_or("alg", &Value::is_string) {
        return Err(KeyProblem::Malformed);
    }
    let declared = text("alg").map(|name| Algorithm::parse(name).ok_or(KeyProblem::AlgorithmUnknown)).transpose()?;
    let (algorithm, public) = match (needed("kty")?, text("crv")) {
        ("EC", Some(curve)) => {
            let algorithm = match curve {
                "P-256" => Algorithm::Es256,
                "P-384" => Algorithm::Es384,
                _ => return Err(KeyProblem::KindUnknown),
            };
            let point = VerifyingKey::ec(algorithm, &bytes(needed("x")?)?, &bytes(needed("y")?)?);
            (algorithm, point.ok_or(KeyProblem::NotOnCurve)?)
        }
        ("OKP", Some("Ed25519")) => {
            let public = VerifyingKey::ed25519(&bytes(needed("x")?)?);
            (Algorithm::EdDsa, public.ok_or(KeyProblem::Malformed)?)
        }
        ("RSA", _) => {
            let mut rsa = allowed.iter().copied().filter(|algorithm| algorithm.is_rsa());
            let algorithm = match (declared, rsa.next(), rsa.next()) {
                (Some(declared), ..) => declared,
                (None, Some(only), None) => only,
                (None, ..) => Algorithm::Rs256,
            };
            if !algorithm.is_rsa() {
                return Err(KeyProblem::AlgorithmMismatch);
            }
            let numbers = VerifyingKey::rsa(algorithm, &unsigned(needed("n")?)?, &unsigned(needed("e")?)?);
            (algorithm, numbers.ok_or(KeyProblem::RsaRefused)?)
        }
        _ => return Err(KeyProblem::KindUnknown),
    };
    if declared.is_some_and(|declared| declared != algorithm) {
        return Err(KeyProblem::AlgorithmMismatch);
    }
    if !allowed.contains(&algorithm) {
        return Err(KeyProblem::AlgorithmNotAllowed);
    }
    let members = ["kid", "kty", "crv", "x", "y", "n", "e"].into_iter();
    let mut jwk: Map<String, Value> =
        members.filter_map(|name| Some((name.to_owned(), entry.get(name)?.clone()))).collect();
    jwk.insert("alg".to_owned(), algorithm.name().into());
    Ok(Key { position, id: text("kid").map(str::to_owned), algorithm, public, jwk })
}

fn bytes(text: &str) -> Result<Vec<u8>, KeyProblem> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyProblem::Malformed)
}

/// A big-endian number without leading zeros; some issuers write one, against RFC 7518 §6.3.1.1.
fn unsigned(text: &str) -> Result<Vec<u8>, KeyProblem> {
    let number: Vec<u8> = bytes(text)?.into_iter().skip_while(|&byte| byte == 0).collect();
    if number.is_empty() { Err(KeyProblem::Malformed) } else { Ok(number) }
}
