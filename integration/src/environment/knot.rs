//! The real Knot DNS as a child process: it has two zones, and takes signed changes to them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UdpSocket;

use super::EnvironmentError;
use super::Process;
use super::free_port;
use super::programs;
use super::wait;
use super::write;

/// Until it answers.
const START: Duration = Duration::from_secs(30);
/// The key that it knows: name and secret.
pub const KEY: (&str, &str) = ("agent", "c2VjcmV0IG9mIHRoZSBhZ2VudCBhbmQgdGhlIHNlcnZlcg==");

/// A running `knotd`.
#[derive(Debug)]
pub struct Knot {
    process: Process,
    address: SocketAddr,
    // Last, so that it goes after who writes to it.
    _directory: TempDir,
}

impl Knot {
    /// Starts it with the zones `acme.example`, which names a second server that does not answer, and `validation.example`. What
    /// proves `alias.acme.example` lies elsewhere in the first zone, what proves `far.acme.example` in the second, and
    /// `_acme-challenge.stale.acme.example` has a record of long ago.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start() -> Result<Self, EnvironmentError> {
        let file =
            |source| EnvironmentError::File { doing: "create a directory in", path: std::env::temp_dir(), source };
        let directory = tempfile::tempdir().map_err(file)?;
        let address = free_port()?;
        let head = |zone: &str| {
            format!("$ORIGIN {zone}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A 127.0.0.1\n")
        };
        let place = directory.path();
        // It makes none itself, and takes no changes without.
        std::fs::create_dir(place.join("db")).map_err(file)?;
        // Nobody answers at the second server's address, and one name has what an order of long ago left.
        let more = "@ NS dead\ndead A 127.0.0.2\n_acme-challenge.stale TXT \"of long ago\"\n\
                    _acme-challenge.alias CNAME alias.dynamic\n_acme-challenge.far CNAME far.validation.example.\n";
        write(&place.join("acme.example.zone"), &(head("acme.example") + more))?;
        write(&place.join("validation.example.zone"), &head("validation.example"))?;
        let config = place.join("knot.conf");
        write(&config, &configuration(place, address))?;
        let mut command = Command::new(programs::knot()?);
        command.arg("--config").arg(&config);
        let process = Process::start("knotd", &mut command, place.join("knot.log"))?;
        let mut knot = Self { process, address, _directory: directory };
        let mut ended = None;
        let waited = wait::until("knotd to answer", START, async || {
            if let Err(error) = knot.process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            match texts(address, "_acme-challenge.alias.acme.example").await {
                Ok(0) => Err("it has no zones yet".to_owned()),
                answer => answer.map(drop),
            }
        })
        .await;
        ended.map_or(waited, Err)?;
        Ok(knot)
    }

    /// Where it answers and takes changes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that it said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many records it answers with that are asked for as TXT.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Unreadable`].
    pub async fn texts(&self, name: &str) -> Result<u16, EnvironmentError> {
        let unreadable = |text| EnvironmentError::Unreadable { what: "an answer of knotd".to_owned(), text };
        texts(self.address, name).await.map_err(unreadable)
    }
}

fn configuration(place: &Path, address: SocketAddr) -> String {
    let place = place.display();
    let (name, secret) = KEY;
    let zone =
        |zone: &str| format!("  - domain: {zone}\n    storage: {place}\n    file: {zone}.zone\n    acl: updates\n");
    format!(
        "server:\n    rundir: {place}\n    listen: {ip}@{port}\nlog:\n  - target: stderr\n    any: info\n\
         database:\n    storage: {place}/db\nkey:\n  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\n\
         acl:\n  - id: updates\n    key: {name}\n    action: update\nzone:\n{acme}{validation}",
        ip = address.ip(),
        port = address.port(),
        acme = zone("acme.example"),
        validation = zone("validation.example"),
    )
}

/// The number of answers to a question for TXT (RFC 1035 §4.1).
async fn texts(server: SocketAddr, name: &str) -> Result<u16, String> {
    let mut question = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).map_err(|error| error.to_string())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 16, 0, 1]);
    let failed = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(&question).await.map_err(failed)?;
    let mut answer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut answer)).await;
    match received.map_err(|_| "nothing came".to_owned())?.map_err(failed)? {
        12.. => Ok(u16::from_be_bytes([answer[6], answer[7]])),
        _ => Err("too short".to_owned()),
    }
}
