//! What a command line names: options, or the lines of a file.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use portcullis_policy::Leaf;

use crate::ca;
use crate::config::Config;
use crate::leaf;
use crate::revocation::Serial;
use crate::revocation::Sha256Hex;
use crate::revocation::Target;
use crate::revocation::TargetError;
use crate::state_dir::ca_directory;

/// Certificates, keys and identities. Every option may be given more than once.
#[derive(Debug, clap::Args)]
pub(super) struct Targets {
    /// Serial number in hexadecimal, of a certificate by the authority of `--issuer`.
    #[arg(long, value_name = "HEX")]
    serial: Vec<String>,
    #[command(flatten)]
    pub(super) issuer: Issuer,
    /// File with a certificate in PEM: revoked by its SHA-256.
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// SHA-256 of a certificate's DER, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    sha256: Vec<String>,
    /// SHA-256 of a public key's DER, in hexadecimal: every certificate that has it.
    #[arg(long, value_name = "HEX")]
    spki_sha256: Vec<String>,
    /// Identity as records show it, `spiffe://…` or `dns:…`: every certificate that has it.
    #[arg(long, value_name = "ID")]
    identity: Vec<String>,
    /// File of many, one a line: `serial HEX`, `sha256 HEX`, `spki-sha256 HEX` or `identity ID`; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// An authority.
#[derive(Debug, clap::Args)]
pub(super) struct Issuer {
    /// File with the authority's certificate in PEM; the built-in CA if it is not given.
    #[arg(long, value_name = "FILE")]
    issuer: Option<PathBuf>,
}

/// Why a command line names nothing that can be revoked.
#[derive(Debug, thiserror::Error)]
enum TargetsError {
    /// Not one certificate.
    #[error("`{}` does not hold a certificate in PEM", .0.display())]
    Certificate(PathBuf),
    /// A line of a file.
    #[error("`{}` line {line}", file.display())]
    Line { file: PathBuf, line: usize, source: LineError },
    /// A file that cannot be read.
    #[error("cannot read `{}`", file.display())]
    Read { file: PathBuf, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("not `serial HEX`, `sha256 HEX`, `spki-sha256 HEX` or `identity ID`")]
    Shape,
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Issuer {
    /// SHA-256 of the authority's name; of the built-in CA, those of its root and of the authorities below it.
    pub(super) fn names(&self, config: &Config) -> Result<Vec<Sha256Hex>, Box<dyn Error + Send + Sync>> {
        let (pem, file) = match &self.issuer {
            Some(file) => (read(file)?, file.clone()),
            None => {
                let directory = ca_directory(&config.state_dir);
                (ca::root_pem(&directory)? + &ca::below_pem(&directory)?, directory.join(ca::ROOT_FILE))
            }
        };
        let all = if self.issuer.is_some() { 1 } else { usize::MAX };
        let chain = leaf::chain(&pem).unwrap_or_default();
        let mut names: Vec<Sha256Hex> = Vec::new();
        for name in chain.iter().take(all).filter_map(|der| ca::issuer_name(der)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() { Err(TargetsError::Certificate(file).into()) } else { Ok(names) }
    }
}

impl Targets {
    /// Everything that is named.
    pub(super) fn read(&self, config: &Config) -> Result<Vec<Target>, Box<dyn Error + Send + Sync>> {
        let mut targets = Vec::new();
        // Looked up only for who needs it: for the rest there may be no root yet.
        let mut known = None;
        let mut issuers = || -> Result<Vec<Sha256Hex>, Box<dyn Error + Send + Sync>> {
            match &known {
                Some(names) => Ok(Clone::clone(names)),
                None => Ok(known.insert(self.issuer.names(config)?).clone()),
            }
        };
        for serial in &self.serial {
            let serial = Serial::parse(serial)?;
            targets.extend(issuers()?.into_iter().map(|issuer| Target::Serial { serial: serial.clone(), issuer }));
        }
        for file in &self.certificate {
            let chain = leaf::chain(&read(file)?).unwrap_or_default();
            // As the filter reads it: what it does not take for a certificate it refuses anyway.
            let leaf = chain.first().and_then(|der| Leaf::from_der(der).ok());
            let leaf = leaf.ok_or_else(|| TargetsError::Certificate(file.clone()))?;
            targets.push(Target::Sha256(Sha256Hex(*leaf.sha256())));
        }
        for hash in &self.sha256 {
            targets.push(Target::Sha256(Sha256Hex::parse(hash)?));
        }
        for hash in &self.spki_sha256 {
            targets.push(Target::SpkiSha256(Sha256Hex::parse(hash)?));
        }
        for identity in &self.identity {
            targets.push(Target::identity(identity)?);
        }
        if let Some(file) = &self.from {
            let text = if file.as_os_str() == "-" { stdin()? } else { read(file)? };
            for (line, text) in (1..).zip(text.lines().map(str::trim)) {
                if text.is_empty() || text.starts_with('#') {
                    continue;
                }
                let bad = |source| TargetsError::Line { file: file.clone(), line, source };
                let target = match text.split_once(' ') {
                    Some(("serial", hex)) => {
                        let serial = Serial::parse(hex.trim()).map_err(|error| bad(error.into()))?;
                        targets.extend(
                            issuers()?.into_iter().map(|issuer| Target::Serial { serial: serial.clone(), issuer }),
                        );
                        continue;
                    }
                    Some((kind, value)) => {
                        self::line(kind, value.trim()).unwrap_or(Err(LineError::Shape)).map_err(bad)?
                    }
                    None => return Err(bad(LineError::Shape).into()),
                };
                targets.push(target);
            }
        }
        Ok(targets)
    }
}

fn line(kind: &str, value: &str) -> Option<Result<Target, LineError>> {
    let target = match kind {
        "sha256" => Sha256Hex::parse(value).map(Target::Sha256),
        "spki-sha256" => Sha256Hex::parse(value).map(Target::SpkiSha256),
        "identity" => Target::identity(value),
        _ => return None,
    };
    Some(target.map_err(LineError::from))
}

fn read(file: &Path) -> Result<String, TargetsError> {
    fs::read_to_string(file).map_err(|source| TargetsError::Read { file: file.to_owned(), source })
}

fn stdin() -> Result<String, TargetsError> {
    io::read_to_string(io::stdin()).map_err(|source| TargetsError::Read { file: "-".into(), source })
}
