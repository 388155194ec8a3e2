//! A certificate or another credential as files, replaced as a whole by one rename.
//!
//! Each of them is a *generation*: a directory `..gen-SERIAL` that is written, given its modes and synced before
//! anything points to it. `..data` is a link to the current generation, and the names that readers open are links through
//! it; renaming a new `..data` over the old one is the only moment at which anything changes. Envoy watches such a
//! directory (`watched_directory`), and so do the consumers of Kubernetes' secrets.
//!
//! Everything goes through one descriptor of the directory and no link in it is followed, so that nobody can have a key
//! written elsewhere. Only one agent writes: the directory is locked.

use std::io;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::config;
use crate::durable;
use crate::keys;
use crate::keys::PrivateKey;
use crate::rotation::failpoint;
use crate::state_dir::holder;
use crate::state_dir::try_lock;

mod access;
mod error;
mod mend;
mod place;

pub use error::GenerationError;

use access::Access;

/// The names that readers open: those of certbot and those of Kubernetes.
const NAMES: [&str; 7] = ["fullchain.pem", "cert.pem", "chain.pem", "privkey.pem", "tls.crt", "tls.key", "ca.crt"];
/// Chain and key in one, if it is asked for: HAProxy reads it.
const COMBINED: &str = "combined.pem";
const DATA: &str = "..data";
const GENERATION: &str = "..gen-";
/// Prefix of what is renamed into place; whatever is left with it is from a crash.
const TEMPORARY: &str = "..new-";

/// What a generation holds.
pub trait Contents {
    /// Names the generation: a serial number, an identifier.
    fn serial(&self) -> &str;

    /// What the file of that name holds, and who may read it.
    fn file(&self, name: &str) -> (Zeroizing<String>, Secrecy);
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Everybody who may enter the directory.
    Public,
    /// Whom the declared mode lets.
    Secret,
}

/// A certificate as files.
#[derive(Debug)]
pub struct FileSet<'a> {
    /// Names the generation; a serial number.
    pub serial: &'a str,
    /// Leaf and intermediates, PEM.
    pub chain_pem: &'a str,
    /// The key.
    pub key: &'a PrivateKey,
    /// The root, PEM.
    pub ca_pem: &'a str,
}

/// A directory of generations, locked.
#[derive(Debug)]
pub struct Generations {
    path: PathBuf,
    directory: OwnedFd,
    access: Access,
    /// The names that readers open.
    names: Vec<String>,
    keep: usize,
    /// Of the current generation, when it was last found as it should be.
    verified: Mutex<Option<mend::Stamp>>,
    _lock: OwnedFd,
}

impl Contents for FileSet<'_> {
    fn serial(&self) -> &str {
        self.serial
    }

    fn file(&self, name: &str) -> (Zeroizing<String>, Secrecy) {
        let (leaf, rest) = self.chain_pem.split_at(end_of_first(self.chain_pem));
        // `chain.pem` is what follows the leaf; under a root that signs leaves itself, the root.
        let above = if rest.trim().is_empty() { self.ca_pem } else { rest.trim_start() };
        let public = |text: &str| (Zeroizing::new(text.to_owned()), Secrecy::Public);
        match name {
            "privkey.pem" | "tls.key" => (self.key.pem(), Secrecy::Secret),
            COMBINED => {
                let both = format!("{}\n{}", self.chain_pem.trim_end(), self.key.pem().as_str());
                (Zeroizing::new(both), Secrecy::Secret)
            }
            "cert.pem" => public(leaf),
            "chain.pem" => public(above),
            "ca.crt" => public(self.ca_pem),
            _ => public(self.chain_pem),
        }
    }
}

impl Generations {
    /// For a certificate: makes the directory if it is not there, locks it, and removes what a crash left.
    ///
    /// # Errors
    ///
    /// [`GenerationError`].
    pub fn open(files: &config::Files) -> Result<Self, GenerationError> {
        let names = NAMES.into_iter().chain(files.combined.then_some(COMBINED)).map(str::to_owned);
        Self::open_with(files, names.collect())
    }

    /// For something else, of which readers open files of these names.
    ///
    /// # Errors
    ///
    /// [`GenerationError`].
    pub fn open_with(files: &config::Files, names: Vec<String>) -> Result<Self, GenerationError> {
        let path = files.directory.clone();
        let fail = |action, source: Errno| GenerationError::Io { action, path: path.clone(), source: source.into() };
        let user = rustix::process::geteuid();
        let owner = files.owner.map_or(user, Uid::from_raw);
        let key = Mode::from_raw_mode(files.mode);
        std::fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("/")))
            .map_err(|source| GenerationError::Io { action: "make the parent of", path: path.clone(), source })?;
        let is_new = match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(fail("make", error)),
        };
        let (directory, stat) = place::open(&path)?;
        let access = Access { owner, group: Gid::from_raw(files.group.unwrap_or(stat.st_gid)), key };
        let lock = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&directory, "..lock", lock, Mode::RUSR | Mode::WUSR)
            .map_err(|error| fail("open the lock of", error))?;
        let locked =
            try_lock(&lock).map_err(|source| GenerationError::Io { action: "lock", path: path.clone(), source })?;
        if !locked {
            return Err(GenerationError::Locked { path, pid: holder(&std::fs::File::from(lock)) });
        }
        let generations =
            Self { path, directory, access, names, keep: files.keep, verified: Mutex::default(), _lock: lock };
        generations.remove_leftovers()?;
        if files.owner.is_some() || files.group.is_some() {
            generations.preflight()?;
        }
        // One that was there keeps what else its owner lets in.
        let had = if is_new { Mode::empty() } else { Mode::from_raw_mode(stat.st_mode & 0o755) };
        if is_new || files.owner.is_some() || files.group.is_some() {
            let open = || {
                rustix::fs::fchown(&generations.directory, None, Some(access.group))?;
                rustix::fs::fchmod(&generations.directory, had | access.directory())
            };
            open().map_err(|error| generations.fail("set the mode of", ".", error))?;
        }
        Ok(generations)
    }

    /// Writes a generation beside the current one. Nothing that readers see changes. Safe to do twice.
    ///
    /// # Errors
    ///
    /// [`GenerationError`].
    pub fn stage(&self, set: &impl Contents) -> Result<(), GenerationError> {
        let name = generation(set.serial());
        if self.current()?.as_deref() == Some(&name) {
            return Ok(());
        }
        // What is there under this name was never current, or is being written again after a crash.
        self.remove_directory(&name)?;
        rustix::fs::mkdirat(&self.directory, &name, Mode::RWXU).map_err(|error| self.fail("make", &name, error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())
            .map_err(|error| self.fail("open", &name, error))?;
        for (file, text, mode) in self.contents(set) {
            self.write(&inside, file, &text, mode).map_err(|source| GenerationError::Io {
                action: "write",
                path: self.path.join(&name).join(file),
                source,
            })?;
        }
        let finish = || {
            self.access.give_directory(&inside)?;
            durable::sync(&inside)?;
            durable::sync(&self.directory)
        };
        finish().map_err(|error| self.fail("finish", &name, error))
    }

    /// Makes a staged generation the current one. Safe to do twice.
    ///
    /// # Errors
    ///
    /// [`GenerationError`].
    pub fn install(&self, serial: &str) -> Result<(), GenerationError> {
        let name = generation(serial);
        if self.current()?.as_deref() != Some(&name) {
            self.replace_link(&name, DATA)?;
        }
        failpoint::hit("rename");
        // After the data, so that no name ever leads nowhere.
        self.link_names()?;
        durable::sync(&self.directory).map_err(|error| self.fail("sync", ".", error))
    }

    /// Has every name that readers open lead through `..data`. Names those that did not.
    fn link_names(&self) -> Result<Vec<&str>, GenerationError> {
        let mut changed = Vec::new();
        for file in self.names.iter().map(String::as_str) {
            let target = format!("{DATA}/{file}");
            match rustix::fs::readlinkat(&self.directory, file, Vec::new()) {
                Ok(found) if found.as_bytes() == target.as_bytes() => continue,
                Ok(_) | Err(Errno::NOENT) => self.replace_link(&target, file)?,
                Err(Errno::INVAL) => return Err(GenerationError::InTheWay { path: self.path.join(file) }),
                Err(error) => return Err(self.fail("read", file, error)),
            }
            changed.push(file);
        }
        self.unlink_unnamed()?;
        Ok(changed)
    }

    /// What is not asked for any more would lead to a file that the next generation does not have.
    fn unlink_unnamed(&self) -> Result<(), GenerationError> {
        for (name, kind) in self.entries()? {
            if kind != FileType::Symlink || self.names.contains(&name) {
                continue;
            }
            let ours = format!("{DATA}/{name}");
            match rustix::fs::readlinkat(&self.directory, &name, Vec::new()) {
                Ok(found) if found.as_bytes() == ours.as_bytes() => {
                    rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())
                        .map_err(|error| self.fail("remove", &name, error))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What each file of a generation holds, and its mode.
    fn contents<'a>(&'a self, set: &impl Contents) -> Vec<(&'a str, Zeroizing<String>, Mode)> {
        let contents = self.names.iter().map(|name| {
            let (text, secrecy) = set.file(name);
            let mode = if secrecy == Secrecy::Secret { self.access.key } else { self.access.public() };
            (name.as_str(), text, mode)
        });
        contents.collect()
    }

    /// Removes all generations but the newest that are to be kept; never the current one.
    ///
    /// # Errors
    ///
    /// [`GenerationError`].
    pub fn prune(&self) -> Result<(), GenerationError> {
        let current = self.current()?;
        let mut old = Vec::new();
        for (name, _) in self.entries()? {
            if name.starts_with(GENERATION) && Some(&name) != current.as_ref() {
                let stat = rustix::fs::statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| self.fail("look at", &name, error))?;
                old.push(((stat.st_mtime, stat.st_mtime_nsec), name));
            }
        }
        old.sort();
        let surplus = old.len().saturating_sub(self.keep.saturating_sub(1));
        for (_, name) in old.into_iter().take(surplus) {
            self.remove_directory(&name)?;
        }
        Ok(())
    }

    /// Whether readers see this generation now.
    ///
    /// # Errors
    ///
    /// [`GenerationError::Io`].
    pub fn is_current(&self, serial: &str) -> Result<bool, GenerationError> {
        Ok(self.current()?.as_deref() == Some(&generation(serial)))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn current(&self) -> Result<Option<String>, GenerationError> {
        match rustix::fs::readlinkat(&self.directory, DATA, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => Err(GenerationError::InTheWay { path: self.path.join(DATA) }),
            Err(error) => Err(self.fail("read", DATA, error)),
        }
    }

    fn write(&self, inside: &OwnedFd, name: &str, text: &str, mode: Mode) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(rustix::fs::openat(inside, name, flags, Mode::RUSR | Mode::WUSR)?);
        self.access.give(&file, mode)?;
        file.write_all(text.as_bytes())?;
        durable::sync(&file)?;
        let kept = file.metadata()?.mode() & 0o7777;
        if kept == mode.as_raw_mode() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the file system made mode {kept:04o} of {:04o}", mode.as_raw_mode())))
        }
    }

    fn replace_link(&self, target: &str, name: &str) -> Result<(), GenerationError> {
        let unique: [u8; 8] = keys::random().map_err(|_| self.fail("name", name, Errno::IO))?;
        let temporary = format!("{TEMPORARY}{}", crate::leaf::hex(&unique));
        let swap = || {
            rustix::fs::symlinkat(target, &self.directory, &temporary)?;
            durable::rename(&self.directory, &temporary, name)?;
            durable::sync(&self.directory)
        };
        swap().map_err(|error| self.fail("replace", name, error))
    }

    /// What a crash left: links that were not renamed. Generations that were not finished are written anew when their
    /// step is taken again, or pruned.
    fn remove_leftovers(&self) -> Result<(), GenerationError> {
        for (name, _) in self.entries()? {
            if name.starts_with(TEMPORARY) {
                rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())
                    .map_err(|error| self.fail("remove", &name, error))?;
            }
        }
        Ok(())
    }

    fn remove_directory(&self, name: &str) -> Result<(), GenerationError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(inside) => inside,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.fail("open", name, error)),
        };
        for (file, _) in entries(&inside).map_err(|error| self.fail("read", name, error))? {
            rustix::fs::unlinkat(&inside, &file, AtFlags::empty())
                .map_err(|error| self.fail("remove", &format!("{name}/{file}"), error))?;
        }
        rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR)
            .map_err(|error| self.fail("remove", name, error))
    }

    fn entries(&self) -> Result<Vec<(String, FileType)>, GenerationError> {
        entries(&self.directory).map_err(|error| self.fail("read", ".", error))
    }

    fn fail(&self, action: &'static str, name: &str, source: Errno) -> GenerationError {
        GenerationError::Io { action, path: self.path.join(name), source: source.into() }
    }
}

fn generation(serial: &str) -> String {
    format!("{GENERATION}{serial}")
}

/// Where the first certificate of a PEM text ends.
fn end_of_first(pem: &str) -> usize {
    const END: &str = "-----END CERTIFICATE-----";

    let end = pem.find(END).map_or(pem.len(), |at| at + END.len());
    end + pem[end..].len() - pem[end..].trim_start_matches(['\r', '\n']).len()
}

fn entries(directory: &OwnedFd) -> Result<Vec<(String, FileType)>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            all.push((name, entry.file_type()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
