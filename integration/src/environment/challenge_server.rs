//! The DNS that Pebble asks: every name is this machine, and TXT records are what a test, or its hook, says.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use super::EnvironmentError;
use super::Process;
use super::free_port;
use super::programs;

/// A running `pebble-challtestsrv`.
#[derive(Debug)]
pub struct ChallengeServer {
    _process: Process,
    dns: SocketAddr,
    management: SocketAddr,
}

impl ChallengeServer {
    /// Starts it; its log goes into `directory`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub(super) fn start(directory: &Path) -> Result<Self, EnvironmentError> {
        let (dns, management) = (free_port()?, free_port()?);
        let mut command = Command::new(programs::challenge_server()?);
        command.args(["-dnsserver", &dns.to_string(), "-management", &management.to_string()]);
        // The answers to the other challenges are the agent's. Pebble would try the IPv6 address first.
        for unused in ["-http01", "-https01", "-tlsalpn01", "-doh", "-defaultIPv6"] {
            command.args([unused, ""]);
        }
        let process = Process::start("pebble-challtestsrv", &mut command, directory.join("challtestsrv.log"))?;
        Ok(Self { _process: process, dns, management })
    }

    /// Where it answers questions.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Where it is told what to answer, a URL without a slash at its end: `/set-txt`, `/clear-txt`.
    pub fn management(&self) -> String {
        format!("http://{}", self.management)
    }

    /// Answers that there is no such address from now on.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn forget_address(&self, name: &str) -> Result<(), EnvironmentError> {
        self.post("set-servfail", &json!({ "host": format!("{name}.") })).await.map(drop)
    }

    /// Takes back that there is no such address.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn remember_address(&self, name: &str) -> Result<(), EnvironmentError> {
        self.post("clear-servfail", &json!({ "host": format!("{name}.") })).await.map(drop)
    }

    /// Answers with this TXT record from now on.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn set_text(&self, name: &str, value: &str) -> Result<(), EnvironmentError> {
        self.post("set-txt", &json!({ "host": format!("{name}."), "value": value })).await.map(drop)
    }

    /// Answers with this address from now on.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn set_address(&self, name: &str, address: IpAddr) -> Result<(), EnvironmentError> {
        self.post("add-a", &json!({ "host": format!("{name}."), "addresses": [address] })).await.map(drop)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<String, EnvironmentError> {
        let client = super::pebble::client(&[])?;
        super::pebble::ask(client.post(format!("{}/{path}", self.management())).body(body.to_string())).await
    }
}
