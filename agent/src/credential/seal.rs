//! Credentials at rest: sealed with a key that is not in the store.
//!
//! AES-256-GCM (NIST SP 800-38D) with a nonce drawn for each sealing; the name that a value is kept under is authenticated with
//! it, so that one record cannot be put in the place of another. The key is a file of its own: beside the store by default, or
//! where the service manager puts it (`LoadCredentialEncrypted=`), and then a copy of the store alone shows nothing.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use ring::aead::AES_256_GCM;
use ring::aead::Aad;
use ring::aead::LessSafeKey;
use ring::aead::NONCE_LEN;
use ring::aead::Nonce;
use ring::aead::UnboundKey;
use sha2::Digest as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keys;
use crate::keys::KeyError;
use crate::leaf::hex;
use crate::secret::Secret;
use crate::state_dir;

/// How a sealed value begins; another way of sealing begins in another way.
const FORMAT: &[u8] = b"aes256gcm1:";
/// Bytes of a key.
const KEY: usize = 32;

/// The key.
pub struct Seal {
    key: LessSafeKey,
    owner: String,
}

/// Why nothing can be sealed, or what was sealed not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key's file.
    #[error("cannot use `{}`, the key that credentials are sealed with", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is no key.
    #[error("`{}` is not 64 hexadecimal digits; `openssl rand -hex 32` makes a key", .0.display())]
    NotAKey(PathBuf),
    /// No random numbers.
    #[error("nothing can be sealed")]
    Random(#[source] KeyError),
    /// It was sealed with another key, or changed since, or stood under another name.
    #[error("the record of `{name}` was not sealed with this key, or was changed since")]
    NotOurs {
        /// What it is of.
        name: String,
    },
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Seal {
    /// Reads the key. One of the agent's own is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn open(given: Option<&Path>, own: &Path) -> Result<Self, SealError> {
        let path = given.unwrap_or(own);
        let failed = |source| SealError::File { path: path.to_owned(), source };
        if given.is_none() && !own.exists() {
            let key: Zeroizing<[u8; KEY]> = Zeroizing::new(keys::random().map_err(SealError::Random)?);
            let text = Zeroizing::new(format!("{}\n", Zeroizing::new(hex(key.as_slice())).as_str()));
            state_dir::place(own, |file| keys::write_new(file, text.as_bytes(), 0o600)).map_err(failed)?;
        }
        let text = Secret::read(path).map_err(failed)?;
        let key = Zeroizing::new(unhex(text.expose()).ok_or_else(|| SealError::NotAKey(path.to_owned()))?);
        Self::new(&key).ok_or_else(|| SealError::NotAKey(path.to_owned()))
    }

    fn new(key: &[u8]) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(b"portcullis owner\0");
        hash.update(key);
        let owner = hex(hash.finalize().get(..8)?);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Self { key, owner })
    }

    /// This agent, as targets tell it from another one: the same as long as the key is.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Seals a value for this name.
    ///
    /// # Errors
    ///
    /// [`SealError::Random`].
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = keys::random().map_err(SealError::Random)?;
        let mut sealed = Vec::with_capacity(FORMAT.len() + NONCE_LEN + value.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(FORMAT);
        sealed.extend_from_slice(&nonce);
        let mut text = Zeroizing::new(value.to_vec());
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut text)
            .map_err(|_| SealError::Random(KeyError::Random))?;
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for this name.
    ///
    /// # Errors
    ///
    /// [`SealError::NotOurs`].
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let not_ours = || SealError::NotOurs { name: name.to_owned() };
        let rest = sealed.strip_prefix(FORMAT).ok_or_else(not_ours)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(not_ours)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| not_ours())?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened =
            self.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text).map_err(|_| not_ours())?.len();
        text.truncate(opened);
        Ok(text)
    }
}

/// The key's file in a state directory, where the configuration names none.
pub fn own_key(state_dir: &Path) -> PathBuf {
    state_dir.join("seal.key")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if text.len() != 2 * KEY {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_key_and_name_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = (own_key(directory.path()), directory.path().join("other"));
        let seal = Seal::open(None, &one).expect("made");
        assert_eq!(fs::metadata(&one).expect("there").permissions().mode() & 0o7777, 0o600);
        let sealed = seal.seal("orders", b"s3cret").expect("sealed");
        assert!(!sealed.windows(6).any(|part| part == b"s3cret"));
        assert_ne!(sealed, seal.seal("orders", b"s3cret").expect("sealed"), "a nonce of its own");

        let again = Seal::open(None, &one).expect("read");
        assert_eq!(again.owner(), seal.owner());
        assert_eq!(again.unseal("orders", &sealed).expect("opened").as_slice(), b"s3cret");
        assert!(again.unseal("stock", &sealed).is_err(), "another name");
        let mut changed = sealed.clone();
        *changed.last_mut().expect("bytes") ^= 1;
        assert!(again.unseal("orders", &changed).is_err(), "a bit");
        for length in 0..sealed.len() {
            assert!(again.unseal("orders", &sealed[..length]).is_err(), "cut off at {length}");
        }
        let stranger = Seal::open(None, &other).expect("made");
        assert_ne!(stranger.owner(), seal.owner());
        assert!(stranger.unseal("orders", &sealed).is_err(), "another key");
    }

    #[test]
    fn a_key_that_was_named_is_not_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, given) = (own_key(directory.path()), directory.path().join("given"));
        assert!(matches!(Seal::open(Some(&given), &own), Err(SealError::File { .. })));
        for (name, text) in [("short", "abc"), ("no digits", &"x".repeat(64)), ("long", &"a".repeat(66))] {
            fs::write(&given, text).expect("written");
            let error = Seal::open(Some(&given), &own).expect_err(name);
            assert!(matches!(error, SealError::NotAKey(_)), "{name}");
            assert!(!error.to_string().contains(text), "{name}");
        }
        fs::write(&given, "0f".repeat(32)).expect("written");
        Seal::open(Some(&given), &own).expect("a key");
        assert!(!own.exists());
    }
}
