//! `portcullis ca make-root|request|sign|install`: a root whose key the agent does not have.

use std::error::Error;
use std::fs;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use zeroize::Zeroizing;

use super::super::Global;
use super::super::Outcome;
use super::super::print;
use super::super::wait::duration;
use super::tell;
use crate::ca::Constraints;
use crate::ca::Network;
use crate::ca::offline;
use crate::ca::offline::Root;
use crate::command::RootsAsk;
use crate::config;
use crate::config::Config;
use crate::keys;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::state_dir::DirectoryError;
use crate::state_dir::StateDir;
use crate::state_dir::ca_directory;
use crate::state_dir::place;

#[derive(Debug, clap::Args)]
pub(super) struct MakeRoot {
    /// The SPIFFE trust domain of everything that is to be signed below it.
    #[arg(long)]
    trust_domain: String,
    /// How long it lives.
    #[arg(long, value_parser = duration, default_value = "3650d")]
    lifetime: Duration,
    /// A domain that names may be of; any, if none is given. Repeatable.
    #[arg(long)]
    dns: Vec<String>,
    /// A network that addresses may be of, as in `10.0.0.0/8`; any, if none is given. Repeatable.
    #[arg(long, value_parser = network)]
    ip: Vec<Network>,
    /// The directory that gets `root.pem` and `root.key`.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Request {
    /// The file that gets it; standard output, if none is named.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Sign {
    /// The root's key, PKCS#8 in PEM.
    #[arg(long)]
    root_key: PathBuf,
    /// The root, PEM.
    #[arg(long)]
    root_cert: PathBuf,
    /// How long the intermediate lives; no longer than the root.
    #[arg(long, value_parser = duration, default_value = "90d")]
    lifetime: Duration,
    /// The file that gets the chain; standard output, if none is named.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What `portcullis ca request` printed.
    request: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Install {
    /// What `portcullis ca sign` printed; `-` for standard input.
    chain: PathBuf,
}

/// A file that a command is about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text).ok_or_else(|| "not a network, as in `10.0.0.0/8`, without bits behind its prefix".to_owned())
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl MakeRoot {
    pub(super) fn run(self) -> Outcome {
        let config = config::Ca {
            trust_domain: self.trust_domain,
            root_lifetime: seconds(self.lifetime),
            constraints: Constraints { dns: self.dns, ip: self.ip },
            ..config::Ca::default()
        };
        config.check_root()?;
        print(&offline::make_root(&self.out, &config, leaf::now())?)?;
        let _ = writeln!(io::stderr(), "made `root.key` and `root.pem` in `{}`", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl Request {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let config = Config::load(&global.config)?;
        let request = match held(&config)? {
            Some(state) => offline::request(&state.ca()?, &config.ca.trust_domain)?,
            None => {
                tell(global, RootsAsk::Request)?;
                read(&offline::request_file(&ca_directory(&config.state_dir)))?
            }
        };
        write(self.out.as_deref(), &request)
    }
}

impl Sign {
    pub(super) fn run(self) -> Outcome {
        let key = PrivateKey::from_pem(Zeroizing::new(read(&self.root_key)?))?;
        let root = Root::new((&read(&self.root_cert)?, &self.root_cert), (&key, &self.root_key))?;
        let signed = root.sign(&read(&self.request)?, seconds(self.lifetime), leaf::now())?;
        let domain = signed.trust_domain.as_deref().unwrap_or("no trust domain");
        let until = leaf::timestamp(signed.leaf.validity.not_after);
        let _ = writeln!(io::stderr(), "signed {} for {domain}, until {until}", signed.leaf.serial);
        write(self.out.as_deref(), &signed.chain_pem)
    }
}

impl Install {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let config = Config::load(&global.config)?;
        let chain = if self.chain.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            text
        } else {
            read(&self.chain)?
        };
        match held(&config)? {
            Some(state) => {
                let leaf = offline::install(&state.ca()?, &config.ca, &chain, leaf::now())?;
                let _ = writeln!(io::stderr(), "installed {}; the agent signs with it when it runs", leaf.serial);
            }
            None => tell(global, RootsAsk::Install(chain))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The state directory, if no agent runs in it.
fn held(config: &Config) -> Result<Option<StateDir>, DirectoryError> {
    match StateDir::open(&config.state_dir) {
        Ok(state) => Ok(Some(state)),
        Err(DirectoryError::Locked { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError { action: "read", path: path.to_owned(), source })
}

fn write(out: Option<&Path>, text: &str) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    match out {
        None => print(text)?,
        Some(path) => place(path, |path| keys::write_new(path, text.as_bytes(), 0o644))
            .map_err(|source| FileError { action: "write", path: path.to_owned(), source })?,
    }
    Ok(ExitCode::SUCCESS)
}
