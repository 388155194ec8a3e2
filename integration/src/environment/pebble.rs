//! The real Pebble as a child process: an ACME server (RFC 8555) with a CA of its own, which really comes to validate.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use reqwest::Certificate;
use reqwest::Client;
use reqwest::RequestBuilder;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::ChallengeServer;
use super::EnvironmentError;
use super::Process;
use super::free_port;
use super::programs;
use super::wait;
use crate::certificates::Authority;

/// Until it answers.
const START: Duration = Duration::from_secs(30);
/// For one answer of its management.
const ANSWER: Duration = Duration::from_secs(10);

/// What differs from a CA that means well.
#[derive(Clone, Debug, Default)]
pub struct PebbleSettings {
    /// How many good nonces of a hundred it refuses all the same.
    pub bad_nonces: u8,
    /// Key identifier and key (base64url) of the external account that an account has to be bound to.
    pub external_account: Option<(&'static str, &'static str)>,
    /// Names that it does not issue for.
    pub blocked: Vec<&'static str>,
    /// Roots beside the first one, each with a chain to it.
    pub alternate_roots: u8,
    /// The DNS that it asks, instead of its own.
    pub dns: Option<SocketAddr>,
    /// Where it comes to for `http-01`, a place of its own if nothing is said.
    pub http: Option<SocketAddr>,
    /// Seconds that it asks to stay away while something is being done.
    pub retry_after: Option<u32>,
    /// Seconds that certificates of the profile `shortlived` live, six days if nothing is said.
    pub lifetime: Option<u32>,
}

/// A running Pebble with its DNS. Both end when it is dropped.
#[derive(Debug)]
pub struct Pebble {
    process: Process,
    dns: ChallengeServer,
    address: SocketAddr,
    management: SocketAddr,
    http: SocketAddr,
    tls: SocketAddr,
    ca_pem: String,
    // Last, so that it goes after who writes to it.
    _directory: TempDir,
}

impl Pebble {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start(settings: &PebbleSettings) -> Result<Self, EnvironmentError> {
        // What its clients shake hands with; set already where another story was told before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file =
            |source| EnvironmentError::File { doing: "create a directory in", path: std::env::temp_dir(), source };
        let directory = tempfile::tempdir().map_err(file)?;
        let (address, management) = (free_port()?, free_port()?);
        // Where it comes to validate; the agent listens there.
        let (http, tls) = (settings.http.map_or_else(free_port, Ok)?, free_port()?);

        let authority = Authority::new("Pebble's own TLS");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let leaf =
            authority.leaf().ip(loopback).dns("localhost").usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
        write(&certificate, &leaf.pem())?;
        write(&key, leaf.key_pem())?;
        let mut config = json!({
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": settings.external_account.is_some(),
            "domainBlocklist": settings.blocked,
            "keyAlgorithm": "ecdsa",
            "profiles": {
                "default": { "description": "90 days", "validityPeriod": 7_776_000 },
                "shortlived": { "description": "short", "validityPeriod": settings.lifetime.unwrap_or(518_400) },
            },
        });
        if let Some((id, key)) = settings.external_account {
            config["externalAccountMACKeys"] = json!({ id: key });
        }
        if let Some(seconds) = settings.retry_after {
            config["retryAfter"] = json!({ "authz": seconds, "order": seconds });
        }
        let config_file = directory.path().join("pebble.json");
        write(&config_file, &json!({ "pebble": config }).to_string())?;

        let dns = ChallengeServer::start(directory.path())?;
        let mut command = Command::new(programs::pebble()?);
        command
            .arg("-config")
            .arg(&config_file)
            .args(["-dnsserver", &settings.dns.unwrap_or_else(|| dns.dns()).to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1");
        command.env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", settings.bad_nonces.to_string());
        command.env("PEBBLE_ALTERNATE_ROOTS", settings.alternate_roots.to_string());
        let process = Process::start("pebble", &mut command, directory.path().join("pebble.log"))?;
        let ca_pem = authority.pem();
        let mut pebble = Self { process, dns, address, management, http, tls, ca_pem, _directory: directory };
        pebble.ready().await?;
        Ok(pebble)
    }

    /// What all of its URLs begin with.
    pub fn origin(&self) -> String {
        format!("https://{}", self.address)
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("{}/dir", self.origin())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CA of its own TLS, PEM. Not one of those that it issues with.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where it comes to for `http-01`.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it comes to for `tls-alpn-01`.
    pub fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// The DNS that it asks.
    pub fn dns(&self) -> &ChallengeServer {
        &self.dns
    }

    /// Everything that it said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many accounts it has.
    pub fn accounts(&self) -> usize {
        self.process.log().matches("accounts in memory").count()
    }

    /// How many orders it made.
    pub fn orders(&self) -> usize {
        self.process.log().matches("Added order").count()
    }

    /// How many certificates it issued.
    pub fn issued(&self) -> usize {
        self.process.log().matches("Issued certificate serial").count()
    }

    /// One of the roots that it issues under; the first is the one of the chains that it offers first.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn root(&self, number: u8) -> Result<CertificateDer<'static>, EnvironmentError> {
        let url = format!("https://{}/roots/{number}", self.management);
        let pem = ask(client(&[&self.ca_pem])?.get(url)).await?;
        CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| EnvironmentError::Unreadable { what: "a root of Pebble".to_owned(), text: pem })
    }

    /// Answers with this text when it is asked for the renewal of this certificate (RFC 9773), whatever the text is.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn set_renewal_info(&self, leaf_pem: &str, text: &str) -> Result<(), EnvironmentError> {
        let url = format!("https://{}/set-renewal-info/", self.management);
        let body: Value = json!({ "Certificate": leaf_pem, "ARIResponse": text });
        ask(client(&[&self.ca_pem])?.post(url).body(body.to_string())).await.map(drop)
    }

    async fn ready(&mut self) -> Result<(), EnvironmentError> {
        let client = client(&[&self.ca_pem])?;
        let mut ended = None;
        let waited = wait::until("pebble to answer", START, async || {
            if let Err(error) = self.process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            ask(client.get(self.directory())).await.map(drop)
        });
        let waited = waited.await;
        ended.map_or(waited, Err)
    }
}

/// Somebody who trusts these roots, PEM, and nobody else.
pub(super) fn client(roots: &[&str]) -> Result<Client, EnvironmentError> {
    let roots: Result<Vec<_>, _> = roots.iter().map(|pem| Certificate::from_pem(pem.as_bytes())).collect();
    let client = roots.and_then(|roots| {
        Client::builder().user_agent("portcullis-tests").no_proxy().timeout(ANSWER).tls_certs_only(roots).build()
    });
    client.map_err(unreadable)
}

/// Asks, and takes nothing but a success.
pub(super) async fn ask(request: RequestBuilder) -> Result<String, EnvironmentError> {
    let response = request.send().await.map_err(unreadable)?;
    let status = response.status();
    let text = response.text().await.map_err(unreadable)?;
    if status.is_success() {
        Ok(text)
    } else {
        Err(EnvironmentError::Unreadable { what: "an answer of Pebble".to_owned(), text: format!("{status}: {text}") })
    }
}

fn unreadable(error: reqwest::Error) -> EnvironmentError {
    EnvironmentError::Unreadable { what: "an answer of Pebble".to_owned(), text: super::chain(&error) }
}

fn write(path: &Path, text: &str) -> Result<(), EnvironmentError> {
    fs::write(path, text).map_err(|source| EnvironmentError::File { doing: "write", path: path.to_owned(), source })
}
