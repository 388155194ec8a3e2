//! `portcullis issue`.

use std::fs;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Global;
use super::Outcome;
use super::block_on;
use super::print;
use super::wait::duration;
use crate::command::IssueRequest;
use crate::command::Usage;
use crate::config::Config;
use crate::config::parse_duration;
use crate::control_client::ControlClient;
use crate::keys;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::leaf::Leaf;
use crate::leaf::LeafError;

/// Issue a certificate for somebody else, once: the agent neither keeps nor renews it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// SPIFFE ID.
    #[arg(long)]
    spiffe: Option<String>,
    /// DNS name; may be given more than once.
    #[arg(long)]
    dns: Vec<String>,
    /// IP address; may be given more than once.
    #[arg(long)]
    ip: Vec<IpAddr>,
    /// For TLS clients.
    #[arg(long, required_unless_present = "server")]
    client: bool,
    /// For TLS servers.
    #[arg(long)]
    server: bool,
    /// How long it lives, as in `30s`, `1h`, `7d`.
    #[arg(long, default_value = "1h", value_parser = seconds)]
    lifetime: u64,
    /// Directory for `fullchain.pem`, `privkey.pem` (0600) and `ca.crt`; nothing there is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// Why there is nowhere to put the certificate.
#[derive(Debug, thiserror::Error)]
enum OutError {
    /// A file of that name is there.
    #[error("`{}` is there already: name another directory with `--out`", path.display())]
    Occupied { path: PathBuf },
    /// It cannot be written.
    #[error("cannot write `{}`", path.display())]
    Failed { path: PathBuf, source: io::Error },
}

fn seconds(text: &str) -> Result<u64, String> {
    let seconds = parse_duration(text).filter(|seconds| *seconds > 0);
    seconds.map(i64::unsigned_abs).ok_or_else(|| "not a duration, as in `30s`, `5m`, `24h`, `7d`".to_owned())
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let config = Config::load(&global.config)?;
        let usage = [(self.client, Usage::Client), (self.server, Usage::Server)];
        let request = IssueRequest {
            spiffe: self.spiffe,
            dns: self.dns,
            ip: self.ip,
            usage: usage.into_iter().filter_map(|(asked, usage)| asked.then_some(usage)).collect(),
            lifetime_seconds: self.lifetime,
        };
        // Looked at before anything is signed: a certificate without its key is of no use to anybody.
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OutError::Failed { path, source }
        };
        fs::create_dir_all(&self.out).map_err(failed(&self.out))?;
        let [chain, ca, private] = ["fullchain.pem", "ca.crt", "privkey.pem"].map(|name| self.out.join(name));
        if let Some(path) = [&chain, &ca, &private].into_iter().find(|path| path.symlink_metadata().is_ok()) {
            return Err(OutError::Occupied { path: path.clone() }.into());
        }
        let client = ControlClient::new(config.listen.control).within(self.timeout);
        let issued = block_on(client.issue(&request))??;
        let key = PrivateKey::from_pem(Zeroizing::new(issued.key_pem))?;
        keys::write_new(&chain, issued.chain_pem.as_bytes(), 0o644).map_err(failed(&chain))?;
        keys::write_new(&ca, issued.ca_pem.as_bytes(), 0o644).map_err(failed(&ca))?;
        key.write_new(&private, 0o600).map_err(failed(&private))?;
        print(&format!("{}\n", self.out.join("fullchain.pem").display()))?;
        let leaf = Leaf::from_der(leaf::chain(&issued.chain_pem)?.first().ok_or(LeafError)?)?;
        if leaf.validity.lifetime().unsigned_abs() < self.lifetime {
            let end = leaf::timestamp(leaf.validity.not_after);
            writeln!(io::stderr(), "it ends sooner than asked for, with the CA that signed it: at {end}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
