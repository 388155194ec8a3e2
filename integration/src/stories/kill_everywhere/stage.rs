//! One Pebble, one Envoy, and many agents, each with a listener, an address and a directory of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use portcullis::leaf;
use portcullis::status::CertificateStatus;
use portcullis::status::Status;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::environment;
use crate::environment::Agent;
use crate::environment::Credentials;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::EnvoyCommand;
use crate::environment::Pebble;
use crate::environment::PebbleSettings;
use crate::environment::Programs;
use crate::environment::free_port;
use crate::environment::wait;

/// For a death, and for a return, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `abort` ends a process with.
const ABORTED: i32 = 6;

/// Changes the DNS that Pebble asks, and remembers what it was called with.
const HOOK: &str = r#"
import json, sys, urllib.request

management, log, action, name, value = sys.argv[1:]
path, body = ("set-txt", {"host": name + ".", "value": value}) if action == "present" else ("clear-txt", {"host": name + "."})
with open(log, "a") as file:
    print(action, name, value, file=file)
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(management + "/" + path, json.dumps(body).encode())
"#;

/// How names are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Dns,
    Http,
}

/// One agent, and where it dies.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) number: usize,
    pub(super) failpoint: String,
    pub(super) proof: Proof,
}

/// What there was at the end.
#[derive(Debug)]
pub(super) struct Ended {
    signal: Option<i32>,
    served: bool,
    serial: String,
    in_files: Option<String>,
    issued: usize,
    traces: Vec<String>,
    audit: String,
}

/// What all of them share.
#[derive(Debug)]
pub(super) struct Stage {
    pebble: Pebble,
    _envoy: Envoy,
    agent: PathBuf,
    listeners: Vec<SocketAddr>,
    // Last, so that it goes after those who write to it.
    directory: TempDir,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "dns-01",
            Self::Http => "http-01",
        })
    }
}

impl Scene {
    pub(super) fn new((number, (failpoint, proof)): (usize, (String, Proof))) -> Self {
        Self { number, failpoint, proof }
    }

    fn name(&self) -> String {
        format!("k{}.acme.example", self.number)
    }

    /// Where the CA finds the name: the port is the same for all.
    fn address(&self) -> IpAddr {
        let last = u8::try_from(self.number).map_or(255, |number| number.saturating_add(1));
        Ipv4Addr::new(127, 0, 1, last).into()
    }
}

impl Ended {
    /// Died there, and came back to what it should.
    pub(super) fn is_good(&self) -> bool {
        let whole = self.in_files.as_ref() == Some(&self.serial);
        let clean = self.traces.is_empty() && self.audit.contains("whole");
        self.signal == Some(ABORTED) && self.served && whole && self.issued == 1 && clean
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, served, serial, in_files, issued, traces, audit } = self;
        if self.is_good() {
            return write!(f, "serial {}", serial.get(..8).unwrap_or(serial));
        }
        let (files, audit) = (in_files.as_deref().unwrap_or("no whole pair"), audit.trim());
        write!(f, "signal {signal:?}, served {served}, serial {serial}, files {files}, ")?;
        write!(f, "{issued} certificates in the audit log ({audit}), left behind: {traces:?}")
    }
}

impl Stage {
    pub(super) async fn start(scenes: &[Scene]) -> Result<Self, EnvironmentError> {
        let programs = Programs::find()?;
        let directory = tempfile::Builder::new().prefix("kill-").tempdir().map_err(|source| {
            EnvironmentError::File { doing: "create a directory in", path: std::env::temp_dir(), source }
        })?;
        let pebble = Pebble::start(&PebbleSettings::default()).await?;
        environment::write(&directory.path().join("roots.pem"), &leaf::pem("CERTIFICATE", &pebble.root(0).await?))?;
        environment::write(&directory.path().join("server-ca.pem"), pebble.ca_pem())?;
        environment::write(&directory.path().join("hook.py"), HOOK)?;
        let mut listeners = Vec::new();
        for scene in scenes {
            listeners.push(free_port()?);
            pebble.dns().set_address(&scene.name(), scene.address()).await?;
        }
        let admin = free_port()?;
        let config = directory.path().join("envoy.json");
        environment::write(&config, &envoy_config(&directory, admin, &listeners).to_string())?;
        let command = EnvoyCommand {
            program: programs.envoy,
            config,
            beside: None,
            admin,
            log: directory.path().join("envoy.log"),
            concurrency: 1,
            core: None,
            base_id: None,
        };
        let mut envoy = Envoy::start(&command)?;
        envoy.ready().await?;
        Ok(Self { pebble, _envoy: envoy, agent: programs.agent, listeners, directory })
    }

    /// Orders, accounts and certificates that the CA has.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.pebble.orders(), self.pebble.issued(), self.pebble.accounts())
    }

    /// Starts an agent that dies, and another one of the same directory that lives.
    pub(super) async fn play(&self, scene: &Scene) -> Result<Ended, EnvironmentError> {
        let folder = self.directory.path().join(scene.name());
        let tls = folder.join("tls");
        fs::create_dir_all(&tls).map_err(|source| EnvironmentError::File { doing: "create", path: tls, source })?;
        environment::write(&folder.join("portcullis.yaml"), &self.config(scene))?;
        let mut agent = Agent::new(self.agent.clone(), folder.join("portcullis.yaml"), folder.join("agent.log"));
        let died = agent.start_to_die(&[("PORTCULLIS_FAILPOINT", &scene.failpoint)], PATIENCE).await?;

        agent.start().await?;
        let status = wait::until("it to be served", PATIENCE, async || {
            let status = agent.status().await.map_err(|error| environment::chain(&error))?;
            let certificate = of(&status);
            match certificate.filter(|certificate| status.ready && certificate.rotations == 1) {
                Some(certificate) if certificate.state == "retired" => Ok(certificate.clone()),
                // An order that the CA gave up with nobody there is not made again at once. What is stored is delivered again
                // without a word, and a renewal would be another certificate.
                _ if certificate.is_some_and(|one| one.failures > 0 && one.stored.is_none()) => {
                    agent.renew("web").await.map_err(|error| environment::chain(&error))?;
                    Err("asked for again".to_owned())
                }
                _ => Err(format!("{certificate:?}; {}", status.reasons.join("; "))),
            }
        })
        .await?;
        let audit = agent.run(&["audit", "verify"]).await.unwrap_or_else(|error| error.to_string());
        agent.stop().await?;
        let log = fs::read_to_string(folder.join("state/audit.jsonl")).unwrap_or_default();
        Ok(Ended {
            signal: std::os::unix::process::ExitStatusExt::signal(&died),
            served: !certificate_is_elsewhere(&status),
            serial: status.stored.map(|stored| stored.serial).unwrap_or_default(),
            in_files: self.pair(scene),
            issued: log.matches("\"certificate_issued\"").count(),
            traces: self.traces(scene),
            audit,
        })
    }

    /// The serial of the pair in the files, if it is one.
    fn pair(&self, scene: &Scene) -> Option<String> {
        let tls = self.directory.path().join(scene.name()).join("tls");
        let generation = tls.join(fs::read_link(tls.join("..data")).ok()?);
        let read = |name: &str| fs::read_to_string(generation.join(name)).ok();
        let pair =
            Credentials { chain_pem: read("fullchain.pem")?, key_pem: read("privkey.pem")?, ca_pem: read("ca.crt")? };
        // Refused, if the key is another one's.
        pair.server().ok()?;
        leaf::Leaf::from_der(leaf::chain(&pair.chain_pem).ok()?.first()?).ok().map(|leaf| leaf.serial)
    }

    /// What is left of the proof.
    fn traces(&self, scene: &Scene) -> Vec<String> {
        match scene.proof {
            Proof::Http => {
                let address = SocketAddr::new(scene.address(), self.pebble.http().port());
                TcpListener::bind(address).err().map(|error| format!("`{address}`: {error}")).into_iter().collect()
            }
            Proof::Dns => {
                let log = fs::read_to_string(self.directory.path().join(scene.name()).join("hook.log"));
                let mut last = BTreeMap::new();
                for line in log.unwrap_or_default().lines() {
                    if let Some((action, record)) = line.split_once(' ') {
                        last.insert(record.to_owned(), action.to_owned());
                    }
                }
                if last.is_empty() {
                    return vec!["no hook was run".to_owned()];
                }
                last.into_iter().filter(|(_, action)| action != "cleanup").map(|(record, _)| record).collect()
            }
        }
    }

    fn config(&self, scene: &Scene) -> String {
        let shared = |name: &str| self.directory.path().join(name).display().to_string();
        let challenge = match scene.proof {
            Proof::Http => format!("http01: \"{}\"", SocketAddr::new(scene.address(), self.pebble.http().port())),
            Proof::Dns => {
                let log = self.directory.path().join(scene.name()).join("hook.log");
                let management = self.pebble.dns().management();
                format!("dns01: [/usr/bin/env, python3, {}, \"{management}\", {}]", shared("hook.py"), log.display())
            }
        };
        format!(
            "version: 1\nstate_dir: state\nverify_every: 5s\n\
             listen: {{ xds: xds.sock, control: control.sock, metrics: \"127.0.0.1:0\" }}\n\
             ca: {{ trust_domain: acme.example }}\n\
             issuers:\n  - name: ca\n    roots: {roots}\n    acme:\n      directory: {directory}\n      \
             server_ca: {server_ca}\n      profile: shortlived\n      challenge: {{ {challenge} }}\n\
             certificates:\n  - name: web\n    issuer: ca\n    dns: [{name}]\n    files: {{ directory: tls }}\n    \
             served_at: [{{ address: \"{listener}\", sni: {name} }}]\n",
            roots = shared("roots.pem"),
            directory = self.pebble.directory(),
            server_ca = shared("server-ca.pem"),
            name = scene.name(),
            listener = self.listeners[scene.number],
        )
    }
}

fn of(status: &Status) -> Option<&CertificateStatus> {
    status.certificates.first()
}

fn certificate_is_elsewhere(status: &CertificateStatus) -> bool {
    status.served.is_empty() || !status.served.iter().all(|served| served.current)
}

/// A listener and a cluster for each agent.
fn envoy_config(directory: &TempDir, admin: SocketAddr, listeners: &[SocketAddr]) -> Value {
    let address =
        |at: SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let agent = |number: usize| format!("agent-{number}");
    let socket = |number: usize| directory.path().join(format!("k{number}.acme.example")).join("xds.sock");
    let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    } });
    let cluster = |number: usize| {
        json!({
            "name": agent(number),
            "type": "STATIC",
            "typed_extension_protocol_options": http2,
            "load_assignment": { "cluster_name": agent(number), "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": { "pipe": { "path": socket(number) } } } }
            ] }] },
        })
    };
    let listener = |(number, at): (usize, &SocketAddr)| {
        let retry = json!({ "retry_back_off": { "base_interval": "0.1s", "max_interval": "0.5s" } });
        let secret = json!({ "name": "web", "sds_config": {
            "resource_api_version": "V3",
            // Envoy is to be ready before the agents are.
            "initial_fetch_timeout": "0.1s",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": agent(number), "retry_policy": retry } }],
            },
        } });
        json!({
            "name": agent(number),
            "address": address(*at),
            "filter_chains": [{
                "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": { "tls_certificate_sds_secret_configs": [secret] },
                } },
                "filters": [{ "name": "envoy.filters.network.direct_response", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
                    "response": { "inline_string": "served" },
                } }],
            }],
        })
    };
    json!({
        "node": { "id": "gateway", "cluster": "gateway" },
        "admin": { "address": address(admin) },
        "static_resources": {
            "listeners": listeners.iter().enumerate().map(listener).collect::<Vec<_>>(),
            "clusters": (0..listeners.len()).map(cluster).collect::<Vec<_>>(),
        },
    })
}
