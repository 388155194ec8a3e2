//! Where roots are kept: the first one in the CA's directory itself, each that followed it in a folder with its number. One that
//! is there is trusted; which one signs is in the store ([`super::journal`]).

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::CaError;
use super::ROOT_FILE;
use super::ROOT_KEY_FILE;
use crate::keys::sync_directory;
use crate::leaf;

/// The number of the first root.
pub(crate) const FIRST: u32 = 1;

/// Where the root of this number is.
pub(crate) fn folder(directory: &Path, number: u32) -> PathBuf {
    if number == FIRST { directory.to_owned() } else { directory.join(number.to_string()) }
}

/// The numbers of the roots that are there, oldest first. A key without its root does not count.
///
/// # Errors
///
/// [`CaError::File`].
pub(crate) fn numbers(directory: &Path) -> Result<Vec<u32>, CaError> {
    let failed = |source| CaError::File { action: "read", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name == ROOT_FILE {
            numbers.push(FIRST);
        }
        let number = name.to_str().and_then(|name| name.parse().ok()).filter(|number| *number > FIRST);
        numbers.extend(number.filter(|number| folder(directory, *number).join(ROOT_FILE).exists()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Destroys a root: first its certificate, so that what a crash leaves is a key that counts for nothing. Safe to do again.
///
/// # Errors
///
/// [`CaError::File`].
pub(crate) fn remove(directory: &Path, number: u32) -> Result<(), CaError> {
    let folder = folder(directory, number);
    for name in [ROOT_FILE, ROOT_KEY_FILE] {
        let path = folder.join(name);
        let removed = fs::remove_file(&path).or_else(absent).and_then(|()| sync_directory(&folder).or_else(absent));
        removed.map_err(|source| CaError::File { action: "remove", path, source })?;
    }
    if number != FIRST {
        let removed = fs::remove_dir_all(&folder).or_else(absent);
        removed.map_err(|source| CaError::File { action: "remove", path: folder, source })?;
    }
    Ok(())
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The roots in a CA's directory, PEM, oldest first, for those who only want to show them.
///
/// # Errors
///
/// [`CaError::File`].
pub fn root_pem(directory: &Path) -> Result<String, CaError> {
    let mut numbers = numbers(directory)?;
    if numbers.is_empty() {
        // Says what is missing.
        numbers.push(FIRST);
    }
    let read = |number| {
        let path = folder(directory, number).join(ROOT_FILE);
        fs::read_to_string(&path).map_err(|source| CaError::File { action: "read", path, source })
    };
    numbers.into_iter().map(read).collect()
}

/// The authorities below the roots in a CA's directory that are kept, PEM.
///
/// # Errors
///
/// [`CaError::File`].
pub fn below_pem(directory: &Path) -> Result<String, CaError> {
    let folders = numbers(directory)?.into_iter().map(|number| folder(directory, number));
    folders.map(|folder| super::intermediate::pem(&folder)).collect()
}

/// The trust domain that the roots in a CA's directory were made for; none if there is no root that says so.
pub fn trust_domain(directory: &Path) -> Option<String> {
    let chain = leaf::chain(&root_pem(directory).ok()?).ok()?;
    trust_domain_of(chain.first()?)
}

/// The trust domain that a root was made for; none if it does not say so.
pub(super) fn trust_domain_of(root: &[u8]) -> Option<String> {
    use x509_parser::prelude::FromDer as _;

    let (_, root) = x509_parser::prelude::X509Certificate::from_der(root).ok()?;
    let names = root.subject_alternative_name().ok()??.value;
    names.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(str::to_owned),
        _ => None,
    })
}
