//! Real parts, put together for one story: the agent, Envoy with the shipped configuration, a service behind it, and
//! clients; in a directory and on ports of their own, gone without a trace when the story ends.
//!
//! Absent: knowledge of what a story expects. Everything that waits has a deadline, and every error carries the last
//! words of the program that it is about.

mod agent;
mod application;
mod barrier;
mod challenge_server;
pub mod client;
mod credentials;
mod document_server;
pub mod endless;
mod envoy;
mod error;
mod haproxy;
mod key_server;
pub mod knot;
mod load;
mod master;
mod nginx;
pub mod oauth_server;
mod open;
mod openbao;
mod pebble;
mod ports;
mod postgres;
mod process;
pub mod programs;
pub mod raw;
mod redis;
mod sidecar;
pub mod standalone;
mod stepped_clock;
mod upstream;
pub mod wait;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

pub use agent::Agent;
pub use application::Application;
pub use application::Work;
pub use barrier::Barrier;
pub use challenge_server::ChallengeServer;
pub use client::Answer;
pub use client::Ask;
pub use client::Client;
pub use client::ClientError;
pub use client::Connection;
pub use client::Protocol;
pub use credentials::Credentials;
pub use credentials::chain as certificates_of;
pub use document_server::DocumentServer;
pub use envoy::Envoy;
pub use envoy::EnvoyCommand;
pub use envoy::validate;
pub use error::EnvironmentError;
pub use error::chain;
pub use haproxy::Haproxy;
pub use key_server::KeyServer;
pub use knot::Knot;
pub use load::Load;
pub use load::Plan;
pub use load::Tally;
pub use nginx::Nginx;
pub use oauth_server::OauthServer;
pub use open::Open;
pub use openbao::OpenBao;
pub use pebble::Pebble;
pub use pebble::PebbleSettings;
pub use ports::free as free_port;
pub use postgres::Postgres;
pub use postgres::Session;
pub use process::CpuClock;
pub use process::Process;
pub use programs::Programs;
pub use redis::Conversation;
pub use redis::Keeps;
pub use redis::Redis;
pub use sidecar::Sidecar;
pub use stepped_clock::SteppedClock;
pub use upstream::ELSEWHERE;
pub use upstream::Seen;
pub use upstream::Upstream;

/// Time until everything that the agent is to deliver is delivered and proven.
const READY: Duration = Duration::from_secs(60);

/// What differs from what is shipped.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lifetime of the certificates instead of the shipped one, `60s` or more.
    pub lifetime: Option<&'static str>,
    /// Where clients come in, if that has to be known before; anywhere else, if none.
    pub gate: Option<SocketAddr>,
    /// The policy instead of the shipped one.
    pub policy: Option<String>,
    /// Lines of `envoy.yaml` as somebody else might have written them: shipped text, replacement.
    pub envoy: Vec<(&'static str, &'static str)>,
    /// A file of `envoy-config` that goes beside `envoy.yaml`: shipped text, replacement.
    pub beside: Option<(&'static str, Vec<(&'static str, String)>)>,
    /// Lines of `portcullis.yaml`, in the same way.
    pub agent_config: Vec<(&'static str, String)>,
    /// Environment variables of the agent.
    pub agent: Vec<(&'static str, String)>,
    /// Another Envoy can take over.
    pub hot_restart: bool,
    /// Agent and Envoy have a wall clock of their own.
    pub clock: Option<SteppedClock>,
}

/// Agent, Envoy, service. Dropped, everything ends and the directory is removed.
#[derive(Debug)]
pub struct Environment {
    /// The agent.
    pub agent: Agent,
    /// Envoy.
    pub envoy: Envoy,
    /// The service behind it.
    pub upstream: Upstream,
    /// Where clients come in.
    pub gate: SocketAddr,
    /// Where the agent's metrics are.
    pub metrics: SocketAddr,
    ca_pem: String,
    // Last, so that it goes after those who write to it.
    directory: TempDir,
}

impl Environment {
    /// Starts everything and waits until the agent says that all of it is proven.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with the last words of who is to blame.
    pub async fn start(settings: &Settings) -> Result<Self, EnvironmentError> {
        let programs = Programs::find()?;
        let directory = tempfile::Builder::new().prefix("portcullis-").tempdir().map_err(|source| {
            EnvironmentError::File { doing: "create a directory in", path: std::env::temp_dir(), source }
        })?;
        let root = directory.path();
        let [service, admin, metrics] = [free_port()?, free_port()?, free_port()?];
        let gate = settings.gate.map_or_else(free_port, Ok)?;
        for folder in ["run", "state", "etc"] {
            let path = root.join(folder);
            fs::create_dir(&path).map_err(|source| EnvironmentError::File { doing: "create", path, source })?;
        }

        // The files that are shipped, with our places in place of theirs.
        let shipped = programs::checkout().join("envoy-config");
        let text = |path: &Path| path.display().to_string();
        let mut agent_text = vec![
            ("/var/lib/portcullis".to_owned(), text(&root.join("state"))),
            ("/run/portcullis".to_owned(), text(&root.join("run"))),
            ("/etc/portcullis".to_owned(), text(&root.join("etc"))),
            ("/usr/lib/portcullis/portcullis.wasm".to_owned(), text(&programs.filter)),
            ("127.0.0.1:10443".to_owned(), gate.to_string()),
            ("127.0.0.1:10444".to_owned(), service.to_string()),
            ("127.0.0.1:9901".to_owned(), admin.to_string()),
            ("127.0.0.1:9464".to_owned(), metrics.to_string()),
        ];
        if let Some(lifetime) = settings.lifetime {
            agent_text.push(("lifetime: 24h".to_owned(), format!("lifetime: {lifetime}")));
        }
        agent_text.extend(settings.agent_config.iter().map(|(from, to)| ((*from).to_owned(), to.clone())));
        let mut envoy_text = vec![
            ("/run/portcullis".to_owned(), text(&root.join("run"))),
            ("port_value: 10443".to_owned(), format!("port_value: {}", gate.port())),
            ("port_value: 10444".to_owned(), format!("port_value: {}", service.port())),
            ("port_value: 9901".to_owned(), format!("port_value: {}", admin.port())),
        ];
        envoy_text.extend(settings.envoy.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())));
        let agent_config = root.join("portcullis.yaml");
        let envoy_config = root.join("envoy.yaml");
        copy(&shipped.join("portcullis.yaml"), &agent_config, &agent_text)?;
        copy(&shipped.join("envoy.yaml"), &envoy_config, &envoy_text)?;
        let mut beside = None;
        if let Some((file, replacements)) = &settings.beside {
            let path = root.join(file);
            let ours: Vec<_> = replacements.iter().map(|(from, to)| ((*from).to_owned(), to.clone())).collect();
            copy(&shipped.join(file), &path, &ours)?;
            beside = Some(path);
        }
        let policy = root.join("policy.yaml");
        match &settings.policy {
            Some(policy_text) => write(&policy, policy_text)?,
            None => copy(&shipped.join("policy.yaml"), &policy, &[])?,
        }

        let upstream = Upstream::start(service, root.join("etc/upstream")).await?;
        let mut agent = Agent::new(programs.agent, agent_config, root.join("agent.log"));
        let clock = settings.clock.as_ref().map(SteppedClock::variables).unwrap_or_default();
        let clock: Vec<_> = clock.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut variables: Vec<_> = settings.agent.iter().map(|(name, value)| (*name, value.as_str())).collect();
        variables.extend(&clock);
        agent.start_with(&variables).await?;
        let command = EnvoyCommand {
            program: programs.envoy,
            config: envoy_config,
            beside,
            admin,
            log: root.join("envoy.log"),
            concurrency: 2,
            core: None,
            base_id: settings.hot_restart.then(|| root.join("base-id")),
        };
        let mut envoy = Envoy::start_with(&command, &clock)?;
        envoy.ready().await?;
        // Any certificate of the built-in CA comes with the CA. Nobody is to wait for its end.
        let ca_pem = agent.issue("spiffe://acme.example/lab", "1s").await?.ca_pem;
        let environment = Self { agent, envoy, upstream, gate, metrics, ca_pem, directory };
        environment.ready().await?;
        Ok(environment)
    }

    /// Waits until the agent says that everything stored is served and the policy is in force.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::TimedOut`] with the agent's reasons.
    pub async fn ready(&self) -> Result<(), EnvironmentError> {
        wait::until("the agent to find everything served", READY, async || match self.agent.status().await {
            Ok(status) if status.ready => Ok(()),
            Ok(status) => Err(status.reasons.join("; ")),
            Err(error) => Err(chain(&error)),
        })
        .await
    }

    /// A client with a certificate of the built-in CA for this SPIFFE ID.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn client(&self, spiffe: &str, protocol: Protocol) -> Result<Client, EnvironmentError> {
        let own = self.agent.issue(spiffe, "1h").await?;
        self.client_with(Some(&own), protocol)
    }

    /// A client with this certificate, or with none.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub fn client_with(&self, own: Option<&Credentials>, protocol: Protocol) -> Result<Client, EnvironmentError> {
        Client::new(self.gate, &self.ca_pem, own, protocol)
    }

    /// The same to another port of the proxy, for what is not HTTP.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub fn client_to(&self, address: SocketAddr, own: Option<&Credentials>) -> Result<Client, EnvironmentError> {
        Client::new(address, &self.ca_pem, own, Protocol::Http1).map(Client::without_alpn)
    }

    /// The policy file that the agent watches.
    pub fn policy(&self) -> PathBuf {
        self.directory.path().join("policy.yaml")
    }

    /// Replaces the policy file, as an editor does: a new file and one rename.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::File`].
    pub fn save_policy(&self, text: &str) -> Result<(), EnvironmentError> {
        let path = self.policy();
        let draft = path.with_extension("yaml.new");
        write(&draft, text)?;
        fs::rename(&draft, &path).map_err(|source| EnvironmentError::File { doing: "replace", path, source })
    }

    /// Everything of this environment that is on disk.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The ends of all logs, for a report of what went wrong.
    pub fn last_words(&self) -> String {
        let agent = self.agent.process().map(Process::last_words).unwrap_or_default();
        format!("--- agent\n{agent}\n--- envoy\n{}", self.envoy.process().last_words())
    }
}

/// The text of a file that is shipped.
///
/// # Errors
///
/// [`EnvironmentError::File`].
pub fn shipped(name: &str) -> Result<String, EnvironmentError> {
    let path = programs::checkout().join("envoy-config").join(name);
    fs::read_to_string(&path).map_err(|source| EnvironmentError::File { doing: "read", path, source })
}

/// Copies a file with other texts in place of some that it has.
///
/// # Errors
///
/// [`EnvironmentError::File`], [`EnvironmentError::LiteralMissing`].
pub fn copy(from: &Path, to: &Path, replacements: &[(String, String)]) -> Result<(), EnvironmentError> {
    let mut text = fs::read_to_string(from).map_err(|source| EnvironmentError::File {
        doing: "read",
        path: from.to_owned(),
        source,
    })?;
    for (literal, ours) in replacements {
        if !text.contains(literal.as_str()) {
            return Err(EnvironmentError::LiteralMissing { file: from.to_owned(), literal: literal.clone() });
        }
        text = text.replace(literal.as_str(), ours);
    }
    write(to, &text)
}

/// Writes a file.
///
/// # Errors
///
/// [`EnvironmentError::File`].
pub fn write(path: &Path, text: &str) -> Result<(), EnvironmentError> {
    fs::write(path, text).map_err(|source| EnvironmentError::File { doing: "write", path: path.to_owned(), source })
}
