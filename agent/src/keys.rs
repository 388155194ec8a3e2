//! Private keys: made, held and written here and nowhere else.
//!
//! A key is never in an error, a log or a `Debug`; its memory is overwritten when it is dropped. Copies that leave this
//! type go to the store, to the xDS socket and to files of mode 0600 (or 0640), each through a function of this module.

use std::fmt;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::KeyPair;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use zeroize::Zeroizing;

use crate::durable;
use crate::leaf;

/// A private key, PKCS#8 in PEM. Serialising it is for the store alone.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<String>);

/// Why a key cannot be made or used. Says nothing of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The cryptographic library could not make one.
    #[error("cannot make a P-256 key")]
    Generate(#[source] rcgen::Error),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// Not a PKCS#8 key that can sign.
    #[error("not a private key in PKCS#8 PEM")]
    Unreadable,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|pem| Self(Zeroizing::new(pem)))
    }
}

impl PrivateKey {
    /// A new P-256 key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generate`].
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate().map_err(KeyError::Generate)?;
        Ok(Self(Zeroizing::new(pair.serialize_pem())))
    }

    /// Takes PEM that was written by this module.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unreadable`].
    pub fn from_pem(pem: Zeroizing<String>) -> Result<Self, KeyError> {
        let key = Self(pem);
        key.pair()?;
        Ok(key)
    }

    /// Takes the first key of somebody else's PEM, of whatever kind (PKCS#8, PKCS#1, SEC1). Only [`Self::der`] is sure to take it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unreadable`].
    pub(crate) fn of_somebody(pem: &Zeroizing<String>) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Unreadable)?;
        let label = match &der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        Ok(Self(Zeroizing::new(leaf::pem(label, der.secret_der()))))
    }

    /// For signing.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unreadable`].
    pub fn pair(&self) -> Result<KeyPair, KeyError> {
        KeyPair::from_pem(&self.0).map_err(|_| KeyError::Unreadable)
    }

    /// For rustls.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unreadable`].
    pub fn der(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        PrivateKeyDer::from_pem_slice(self.0.as_bytes()).map_err(|_| KeyError::Unreadable)
    }

    /// For the proxy, over its socket.
    pub fn pem(&self) -> Zeroizing<String> {
        self.0.clone()
    }

    /// Writes the key to a file that must not exist yet, with its mode from the first byte on, and syncs it.
    ///
    /// # Errors
    ///
    /// The file's.
    pub fn write_new(&self, path: &Path, mode: u32) -> io::Result<()> {
        write_new(path, self.0.as_bytes(), mode)
    }
}

/// Writes a file that must not exist yet, with its mode whatever the umask says, and syncs it. Does not follow a link.
///
/// # Errors
///
/// The file's.
pub(crate) fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    Ok(durable::sync(&file)?)
}

/// Makes renames and new names in a directory survive a power cut.
///
/// # Errors
///
/// The directory's.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    Ok(durable::sync(File::open(path)?)?)
}

/// Random bytes from the system.
///
/// # Errors
///
/// [`KeyError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// A draw for a schedule.
///
/// # Errors
///
/// [`KeyError::Random`].
pub fn draw() -> Result<u32, KeyError> {
    random().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = PrivateKey::generate().expect("a key");
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
        let error = PrivateKey::from_pem(Zeroizing::new("BEGIN s3cret".to_owned())).expect_err("not a key");
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn a_key_file_is_never_wider_than_its_mode_and_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        let key = PrivateKey::generate().expect("a key");
        key.write_new(&path, 0o600).expect("written");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o7777, 0o600);
        let error = key.write_new(&path, 0o600).expect_err("exists");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).expect("a link");
        assert!(key.write_new(&link, 0o600).is_err(), "a planted link is not followed");
    }
}
