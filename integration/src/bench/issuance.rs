//! What it costs to obtain many certificates from an ACME server, beside the ACME clients that people run: certbot, lego and
//! Caddy. The same Pebble, started anew for each, names proven by `http-01`, one certificate a name, one name after the other
//! where the client is a command.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::waitid;
use serde_json::json;

use super::BenchError;
use crate::certificates;
use crate::environment;
use crate::environment::Agent;
use crate::environment::EnvironmentError;
use crate::environment::Pebble;
use crate::environment::PebbleSettings;
use crate::environment::Process;
use crate::environment::free_port;
use crate::environment::programs;

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// Between two looks at what the server issued, or at a process.
const LOOK: Duration = Duration::from_millis(20);
/// Ticks of `/proc/PID/stat` in a second, on every Linux that there is.
const TICKS: f64 = 100.0;

/// What obtains certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AcmeClient {
    /// The agent.
    Portcullis,
    /// lego, a command for each name.
    Lego,
    /// Caddy.
    Caddy,
    /// certbot, a command for each name.
    Certbot,
}

impl AcmeClient {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Portcullis, Self::Lego, Self::Caddy, Self::Certbot];

    fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "Portcullis",
            Self::Lego => "lego, once a name",
            Self::Caddy => "Caddy",
            Self::Certbot => "certbot, once a name",
        }
    }
}

/// What it took.
struct Cost {
    wall: Duration,
    /// Processor time of the client, in seconds.
    cpu: f64,
    /// Most memory of one of its processes, in bytes.
    peak: u64,
}

/// Obtains `count` certificates with each of these clients, and writes a table of its own.
pub(super) async fn measure(
    count: usize,
    clients: &[AcmeClient],
    directory: &Path,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), BenchError> {
    writeln!(out, "| {count} certificates from Pebble | s | × the first | CPU, s | peak memory, MiB |")?;
    writeln!(out, "|---|--:|--:|--:|--:|")?;
    let mut first = None;
    for &client in clients {
        let root = directory.join(format!("{client:?}"));
        fs::create_dir(&root)?;
        let pebble = Pebble::start(&PebbleSettings::default()).await?;
        environment::write(&root.join("ca.pem"), pebble.ca_pem())?;
        let cost = match client {
            AcmeClient::Portcullis => portcullis(&pebble, &root, count).await?,
            AcmeClient::Caddy => caddy(&pebble, &root, count).await?,
            AcmeClient::Lego | AcmeClient::Certbot => one_by_one(client, &pebble, &root, count).await?,
        };
        let seconds = cost.wall.as_secs_f64();
        let ratio = seconds / *first.get_or_insert(seconds);
        writeln!(progress, "{} is done", client.name())?;
        writeln!(out, "| {} | {seconds:.1} | {ratio:.1} | {:.1} | {} |", client.name(), cost.cpu, cost.peak >> 20)?;
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("shop-{number}.shops.acme.example")
}

async fn portcullis(pebble: &Pebble, root: &Path, count: usize) -> Result<Cost, BenchError> {
    let mut names = String::new();
    for number in 0..count {
        // A `String` takes everything.
        let _ = writeln!(names, "{}", name(number));
    }
    environment::write(&root.join("names.txt"), &names)?;
    let roots = certificates::pem(&pebble.root(0).await?);
    environment::write(&root.join("roots.pem"), &roots)?;
    let config = root.join("portcullis.yaml");
    environment::write(
        &config,
        &format!(
            "version: 1\nstate_dir: state\nca: {{ trust_domain: acme.example }}\n\
             listen: {{ xds: run/xds.sock, control: run/control.sock, metrics: \"{metrics}\" }}\n\
             issuers:\n  - name: pebble\n    roots: roots.pem\n    acme:\n      directory: \"{url}\"\n      server_ca: ca.pem\n      \
             certificates_a_week: 100000\n      challenge: {{ http01: \"{http}\" }}\n\
             certificates:\n  - {{ each: names.txt, issuer: pebble }}\n",
            metrics = free_port()?,
            url = pebble.directory(),
            http = pebble.http(),
        ),
    )?;
    let mut agent = Agent::new(programs::agent()?, config, root.join("agent.log"));
    let began = Instant::now();
    agent.start().await?;
    all_issued(pebble, count, &root.join("agent.log")).await?;
    let process = agent.process().ok_or_else(|| BenchError::Driver("the agent does not run".to_owned()))?;
    let cost = Cost {
        wall: began.elapsed(),
        cpu: process.cpu_clock().now().as_secs_f64(),
        peak: peak(process.id()).unwrap_or_default(),
    };
    agent.stop().await?;
    Ok(cost)
}

async fn caddy(pebble: &Pebble, root: &Path, count: usize) -> Result<Cost, BenchError> {
    let names: Vec<String> = (0..count).map(name).collect();
    let config = json!({
        "admin": { "disabled": true },
        "apps": {
            "tls": {
                "certificates": { "automate": names },
                "automation": { "policies": [{ "issuers": [{
                    "module": "acme",
                    "ca": pebble.directory(),
                    "trusted_roots_pem_files": [root.join("ca.pem")],
                    "challenges": {
                        "http": { "alternate_port": pebble.http().port() },
                        "tls-alpn": { "disabled": true },
                    },
                }] }] },
            },
        },
    });
    let file = root.join("caddy.json");
    environment::write(&file, &config.to_string())?;
    let mut command = Command::new(programs::caddy()?);
    command
        .arg("run")
        .arg("--config")
        .arg(&file)
        .env("HOME", root)
        .env("XDG_DATA_HOME", root)
        .env("XDG_CONFIG_HOME", root);
    let began = Instant::now();
    let process = Process::start("caddy", &mut command, root.join("caddy.log"))?;
    all_issued(pebble, count, &root.join("caddy.log")).await?;
    Ok(Cost {
        wall: began.elapsed(),
        cpu: process.cpu_clock().now().as_secs_f64(),
        peak: peak(process.id()).unwrap_or_default(),
    })
}

/// With a client that is a command: one name after the other.
async fn one_by_one(client: AcmeClient, pebble: &Pebble, root: &Path, count: usize) -> Result<Cost, BenchError> {
    let began = Instant::now();
    let mut cost = Cost { wall: Duration::ZERO, cpu: 0.0, peak: 0 };
    let (ca, port) = (root.join("ca.pem"), pebble.http().port().to_string());
    for number in 0..count {
        let mut command = if client == AcmeClient::Lego {
            let mut command = Command::new(programs::lego()?);
            command.env("LEGO_CA_CERTIFICATES", &ca).arg("--path").arg(root);
            command.args(["--server", &pebble.directory(), "--email", "ops@acme.example", "--accept-tos"]);
            command.args(["--key-type", "ec256", "--http", "--http.port", &format!("127.0.0.1:{port}")]);
            command.args(["--domains", &name(number), "run"]);
            command
        } else {
            let mut command = Command::new(programs::certbot()?);
            command.env("REQUESTS_CA_BUNDLE", &ca).args(["certonly", "--non-interactive", "--agree-tos"]);
            for (option, folder) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
                command.arg(option).arg(root.join(folder));
            }
            command.args(["--register-unsafely-without-email", "--server", &pebble.directory(), "--standalone"]);
            command.args(["--http-01-address", "127.0.0.1", "--http-01-port", &port, "--key-type", "ecdsa"]);
            command.args(["-d", &name(number)]);
            command
        };
        let log = root.join("client.log");
        let output = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let spawn = |source| EnvironmentError::Spawn { program: client.name(), source };
        let child = command.spawn().map_err(spawn)?;
        let (good, cpu, peak) = to_its_end(child).await?;
        if !good {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(BenchError::Driver(format!("{} failed: {said}", client.name())));
        }
        cost.cpu += cpu;
        cost.peak = cost.peak.max(peak);
    }
    cost.wall = began.elapsed();
    Ok(cost)
}

/// Waits for a process: whether it ended well, its processor time, that of its children included, and its most memory.
async fn to_its_end(mut child: Child) -> io::Result<(bool, f64, u64)> {
    let id = child.id();
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let mut most = 0;
    loop {
        most = most.max(peak(id).unwrap_or_default());
        // It stays in the process table, with its times, until it is waited for below.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(pid), options)?.is_some() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // After the name, which may hold anything: times of its own and of its children are fields 14 to 17 of the whole.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks: f64 = fields.iter().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok((child.wait()?.success(), ticks / TICKS, most))
}

async fn all_issued(pebble: &Pebble, count: usize, log: &Path) -> Result<(), BenchError> {
    let end = Instant::now() + PATIENCE;
    while pebble.issued() < count {
        if Instant::now() > end {
            let said = fs::read_to_string(log).unwrap_or_default();
            let issued = pebble.issued();
            return Err(BenchError::Driver(format!("{issued} of {count} certificates in {PATIENCE:?}: {said}")));
        }
        tokio::time::sleep(LOOK * 5).await;
    }
    Ok(())
}

/// Most memory that a process had in use, in bytes.
fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
