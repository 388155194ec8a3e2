//! The gate of stories that need another CA than the agent's: the shipped Envoy without the agent, a service behind it,
//! and clients.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::certificates::Leaf;
use crate::environment;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::EnvoyCommand;
use crate::environment::Programs;
use crate::environment::Protocol;
use crate::environment::Upstream;
use crate::environment::client::HOST_NAME;
use crate::environment::standalone;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Longer than the filter waits between two ticks.
const TICK: Duration = Duration::from_millis(250);
/// How many are waited for at most, where requests go on.
const TICKS: u32 = 20;

/// A gate behind a proxy hands over what that one wrote of its clients.
pub(super) const BEHIND_AN_EDGE: (&str, &str) =
    ("forward_client_cert_details: SANITIZE", "forward_client_cert_details: FORWARD_ONLY");
/// A gate that leaves it to the policy whether a client needs a certificate.
pub(super) const CERTIFICATE_OPTIONAL: (&str, &str) =
    ("require_client_certificate: true", "require_client_certificate: false");

/// What differs from what is shipped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Difference<'a> {
    /// Lines of `envoy.yaml` as somebody else might have written them: shipped text, replacement.
    pub(super) envoy: &'a [(&'a str, &'a str)],
    /// CAs whose clients are let in, PEM, instead of the gate's own.
    pub(super) clients: Option<&'a str>,
    /// A host call that the filter may not make.
    pub(super) withheld: Option<&'a str>,
}

/// Envoy with the filter, one worker. Dropped, everything ends and the directory is removed.
pub(super) struct Gate {
    pub(super) envoy: Envoy,
    pub(super) upstream: Upstream,
    /// Where clients come in.
    pub(super) address: SocketAddr,
    /// The CA of gate and service.
    pub(super) own: Authority,
    pub(super) programs: Programs,
    // Last, so that it goes after those who write to it.
    directory: TempDir,
}

impl Gate {
    /// Starts it with a policy (JSON) and waits until it is ready.
    pub(super) async fn start(policy: &str, difference: &Difference<'_>) -> Result<Self, StoryError> {
        let programs = Programs::find()?;
        let directory = tempfile::tempdir().map_err(|source| EnvironmentError::File {
            doing: "create a directory in",
            path: std::env::temp_dir(),
            source,
        })?;
        let root = directory.path();
        let own = Authority::new("the gate's own");
        certificates(root, &own, difference.clients.unwrap_or(&own.pem()))?;
        let [address, service, admin] =
            [environment::free_port()?, environment::free_port()?, environment::free_port()?];
        let file = || PathBuf::from("envoy.yaml");
        let mut text = environment::shipped("envoy.yaml")?;
        for (place, ours) in [(10443, address), (10444, service), (9901, admin)] {
            text = text.replace(&format!("port_value: {place}"), &format!("port_value: {}", ours.port()));
        }
        for (literal, ours) in difference.envoy {
            if !text.contains(literal) {
                Err(EnvironmentError::LiteralMissing { file: file(), literal: (*literal).to_owned() })?;
            }
            text = text.replace(literal, ours);
        }
        let mut filter = standalone::filter(policy)?;
        if let Some(name) = difference.withheld {
            let place = "/typed_config/config/vm_config/capability_restriction_config/allowed_capabilities";
            let allowed = filter.pointer_mut(place).and_then(Value::as_object_mut);
            let withheld = allowed.and_then(|allowed| allowed.remove(name));
            withheld.ok_or_else(|| EnvironmentError::LiteralMissing { file: file(), literal: name.to_owned() })?;
        }
        let config = standalone::without_agent(&text, root, filter)?;
        let upstream = Upstream::start(service, root.join("upstream")).await?;
        let envoy = start_envoy(&programs, root, "gate", &config, admin).await?;
        Ok(Self { envoy, upstream, address, own, programs, directory })
    }

    /// Starts another Envoy, on files of its own name in the gate's directory.
    pub(super) async fn start_envoy(&self, name: &str, config: &Value, admin: SocketAddr) -> Result<Envoy, StoryError> {
        start_envoy(&self.programs, self.directory.path(), name, config, admin).await
    }

    /// A place in the gate's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client with this certificate, or with none.
    pub(super) fn client(&self, leaf: Option<&Leaf>, protocol: Protocol) -> Result<Client, EnvironmentError> {
        self.client_at(self.address, leaf, protocol)
    }

    /// The same, of a proxy that has a certificate of the gate's CA.
    pub(super) fn client_at(
        &self,
        address: SocketAddr,
        leaf: Option<&Leaf>,
        protocol: Protocol,
    ) -> Result<Client, EnvironmentError> {
        let credentials = leaf.map(|leaf| Credentials {
            chain_pem: leaf.pem(),
            key_pem: leaf.key_pem().to_owned(),
            ca_pem: self.own.pem(),
        });
        Client::new(address, &self.own.pem(), credentials.as_ref(), protocol)
    }

    /// The filter's counters that are not 0, by their names without `portcullis.`.
    pub(super) async fn counters(&self) -> Result<BTreeMap<String, u64>, StoryError> {
        counters(&self.envoy).await
    }
}

/// The same of any Envoy. When requests come fast, each VM tells its counts a tick later: they are read until a tick has changed
/// nothing.
pub(super) async fn counters(envoy: &Envoy) -> Result<BTreeMap<String, u64>, StoryError> {
    let mut before = counters_now(envoy).await?;
    for _ in 0..TICKS {
        tokio::time::sleep(TICK).await;
        let now = counters_now(envoy).await?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(before)
}

async fn counters_now(envoy: &Envoy) -> Result<BTreeMap<String, u64>, StoryError> {
    let prefix = "wasmcustom.portcullis.";
    let stats = envoy.stats(prefix).await?;
    let ours = stats.into_iter().filter(|(_, count)| *count > 0);
    Ok(ours.filter_map(|(name, count)| Some((name.strip_prefix(prefix)?.to_owned(), count))).collect())
}

/// Envoy's log once there are so many decision records in it: while decisions come fast the filter gathers them until its tick.
pub(super) async fn written(envoy: &Envoy, count: usize) -> Result<String, StoryError> {
    let some = wait::until("the records", TICK * TICKS, async || {
        let found = records(&envoy.process().log()).0.len();
        if found < count { Err(format!("{found} of {count}")) } else { Ok(()) }
    });
    some.await?;
    // One too many may come with the next tick.
    tokio::time::sleep(TICK).await;
    Ok(envoy.process().log())
}

/// The decision records in Envoy's log, and the lines that are none.
pub(super) fn records(log: &str) -> (Vec<Value>, Vec<&str>) {
    let mut records = Vec::new();
    let mut others = Vec::new();
    for line in log.lines() {
        // Envoy puts its own prefix before what a filter says.
        let record = line.find("{\"type\":\"decision\"").and_then(|at| serde_json::from_str(line.get(at..)?).ok());
        match record {
            Some(record) => records.push(record),
            None => others.push(line),
        }
    }
    (records, others)
}

/// Envoy counts what happened to its Wasm machines, and logs a trap.
pub(super) async fn no_trap(envoy: &Envoy, report: &mut Report) -> Result<(), StoryError> {
    let stats = envoy.stats("wasm").await?;
    let trapped: Vec<String> = stats
        .iter()
        .filter(|(name, count)| **count > 0 && (name.contains("reload") || name.contains("fail")))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    report.holds("no Wasm machine trapped or was replaced", trapped.is_empty(), trapped.join(", "))?;
    let log = envoy.process().log();
    let words = ["Function: proxy_", "wasm trap", "panicked at", "Plugin ", "RuntimeError"];
    let said = log.lines().find(|line| words.iter().any(|word| line.contains(word)) && line.contains("failed"));
    report.holds("and Envoy's log tells of none", said.is_none(), said.unwrap_or_default())
}

/// Starts an Envoy on files of its own name, and waits until it is ready.
pub(super) async fn start_envoy(
    programs: &Programs,
    root: &Path,
    name: &str,
    config: &Value,
    admin: SocketAddr,
) -> Result<Envoy, StoryError> {
    let file = root.join(format!("{name}.json"));
    environment::write(&file, &config.to_string())?;
    let mut envoy = Envoy::start(&EnvoyCommand {
        program: programs.envoy.clone(),
        config: file,
        beside: None,
        admin,
        log: root.join(format!("{name}.log")),
        concurrency: 1,
        core: None,
        base_id: None,
    })?;
    envoy.ready().await?;
    Ok(envoy)
}

/// Files for every secret that the shipped configuration names.
pub(super) fn certificates(root: &Path, own: &Authority, clients: &str) -> Result<(), EnvironmentError> {
    let write = |folder: &str, file: &str, text: &str| {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(|source| EnvironmentError::File { doing: "create", path, source })?;
        environment::write(&root.join(folder).join(file), text)
    };
    let server = |name: &str| own.leaf().dns(name).usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
    let pairs = [
        ("gateway", server(HOST_NAME)),
        ("upstream", server("upstream.acme.example")),
        ("upstream-client", own.leaf().uri("spiffe://acme.example/gateway").issue()),
    ];
    for (name, leaf) in pairs {
        write(name, "tls.crt", &leaf.pem())?;
        write(name, "tls.key", leaf.key_pem())?;
        write(name, "ca.crt", &own.pem())?;
    }
    write("clients", "ca.crt", clients)?;
    write("upstreams", "ca.crt", &own.pem())
}
