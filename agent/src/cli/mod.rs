//! The command line: one file a subcommand.
//!
//! Standard output is data, everything else goes to standard error. Exit status 0: done; 1: failed; 2: wrong usage;
//! 75: the agent ended to be begun again.

mod audit;
mod ca;
mod client;
mod config;
mod credential;
mod history;
mod init;
mod issue;
mod log;
mod output;
mod policy;
mod progress;
mod renew;
mod revocation;
mod rollback;
mod run;
mod simulate;
mod status;
mod token;
mod verify;
mod wait;

use std::error::Error;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use clap::Subcommand;
use rustls::crypto::ring;
use tracing_subscriber::EnvFilter;

use crate::errors::chain;

/// The gate and the gatekeeper for a proxy that speaks mTLS.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = "portcullis.yaml", env = "PORTCULLIS_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify the audit log.
    Audit(audit::Args),
    /// Show the built-in CA, and have one root follow another.
    Ca(ca::Args),
    /// Describe the agent's configuration.
    Config(config::Args),
    /// Rotate credentials, and read those that the agent hands out.
    Credential(credential::Args),
    /// Show what became of a certificate so far, from the audit log.
    History(history::Args),
    /// Write a configuration and a policy to begin with.
    Init(init::Args),
    /// Believe nothing that an authority issued before an instant.
    Distrust(revocation::DistrustArgs),
    /// Issue a certificate for somebody else, once, from the running agent's CA.
    Issue(issue::Args),
    /// Check, test and question a policy, offline.
    Policy(policy::Args),
    /// Renew a certificate now and wait until the new one is proven served.
    Renew(renew::Args),
    /// Show what is revoked, and why.
    Revocations(revocation::ListArgs),
    /// Revoke certificates, keys or identities, now.
    Revoke(revocation::RevokeArgs),
    /// Put the certificate before the current one in its place again, and wait until it is proven served.
    Rollback(rollback::Args),
    /// Run the agent in the foreground.
    Run(run::Args),
    /// Run a certificate's calendar ahead, with its issuer down for a while, and show the margin.
    Simulate(simulate::Args),
    /// Show what the running agent holds, serves and plans.
    Status(status::Args),
    /// Verify bearer tokens, offline.
    Token(token::Args),
    /// Believe again what was revoked.
    Unrevoke(revocation::UnrevokeArgs),
    /// Shake hands with the listeners now; fail if one serves anything but the stored certificate.
    Verify(verify::Args),
    /// Wait for the agent, for scripts that go on when it is done.
    Wait(wait::Args),
}

/// How a subcommand ends.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// The whole program.
pub fn main() -> ExitCode {
    // Whatever makes a TLS configuration later finds its cryptography here. It fails only where there is one already.
    let _ = ring::default_provider().install_default();
    let cli = Cli::parse();
    log_to_stderr();
    let outcome = match cli.command {
        Command::Audit(args) => args.run(&cli.global),
        Command::Ca(args) => args.run(&cli.global),
        Command::Config(args) => args.run(&cli.global),
        Command::Credential(args) => args.run(&cli.global),
        Command::History(args) => args.run(&cli.global),
        Command::Init(args) => args.run(&cli.global),
        Command::Distrust(args) => args.run(&cli.global),
        Command::Issue(args) => args.run(&cli.global),
        Command::Policy(args) => args.run(&cli.global),
        Command::Renew(args) => args.run(&cli.global),
        Command::Revocations(args) => args.run(&cli.global),
        Command::Revoke(args) => args.run(&cli.global),
        Command::Rollback(args) => args.run(&cli.global),
        Command::Run(args) => args.run(&cli.global),
        Command::Simulate(args) => args.run(&cli.global),
        Command::Status(args) => args.run(&cli.global),
        Command::Token(args) => args.run(&cli.global),
        Command::Unrevoke(args) => args.run(&cli.global),
        Command::Verify(args) => args.run(&cli.global),
        Command::Wait(args) => args.run(&cli.global),
    };
    outcome.unwrap_or_else(|error| {
        // Standard error may be closed; there is nobody left to tell.
        let _ = writeln!(io::stderr(), "portcullis: {}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// Waits for the agent's answer, on this thread.
///
/// # Errors
///
/// The runtime's.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// Writes data to standard output.
///
/// # Errors
///
/// The pipe's.
pub(crate) fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| EnvFilter::new("info,h2=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Mutex::new(log::Unhurried::new(io::stderr())))
        .with_ansi(io::stderr().is_terminal())
        // It would say on standard error that it cannot write there, and panic when that fails.
        .log_internal_errors(false);
    // A second logger, as in tests that call the library, keeps the first.
    let _ = log.try_init();
}
