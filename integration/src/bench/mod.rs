//! What the gate costs, measured beside its peers: `lab bench`.
//!
//! One Envoy a peer, all running at once with one worker on one core; the load comes from the other core. Each round
//! measures every peer once, so that whatever else the machine does hits all alike; figures are medians of the rounds,
//! and ratios are taken within a round and given with their spread. Absent: judgement. No figure fails the run.

mod agent;
mod config;
mod drive;
mod figures;
mod issuance;
mod numbers;
mod streams;
mod table;
mod tokens;
mod variant;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;

use crate::certificates::Authority;
use crate::environment;
use crate::environment::Credentials;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::EnvoyCommand;
use crate::environment::client::HOST_NAME;
use crate::environment::programs;

pub use issuance::AcmeClient;
use tokens::Issuers;
use variant::Variant;

/// Envoy's core, and the load's.
const CORES: [u32; 2] = [0, 1];

/// What the measurement of open streams is called.
const STREAMS: &str = "streams";
/// What the measurement of ACME clients is called.
const ISSUANCE: &str = "issuance";
/// What the measurement of the agent itself is called.
const AGENT: &str = "agent";

/// Requests before the first measurement, for caches and compilers.
const WARM_UP: u64 = 1_000;

/// How much to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Measurements of each peer.
    pub rounds: usize,
    /// Requests of one measurement.
    pub requests: u64,
    /// Peers of one of these names or kinds, and no figures beside the table; all, if empty. `streams`, `agent` and `issuance`
    /// are no peers: they measure what open streams cost, the agent with very many certificates, and ACME clients, and are not
    /// among all.
    pub only: Vec<String>,
    /// Certificates that each ACME client obtains.
    pub certificates: usize,
    /// Which ACME clients.
    pub clients: Vec<AcmeClient>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// An Envoy could not be set up.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The load could not be sent.
    #[error("cannot measure: {0}")]
    Driver(String),
    /// Nothing has one of the names asked for.
    #[error("nothing to measure: no peer is called so; there are {known}")]
    NothingToMeasure {
        /// The names there are.
        known: String,
    },
    /// The table cannot be written.
    #[error("cannot write the table")]
    Write(#[from] std::io::Error),
}

/// One peer with its Envoy.
struct Peer {
    variant: Variant,
    envoy: Envoy,
    address: SocketAddr,
    started: Duration,
    /// Processor time of that.
    busy: Duration,
    rounds: Vec<Round>,
}

/// One measurement of one peer.
#[derive(Clone, Debug)]
struct Round {
    /// Processor time of Envoy for each request, in microseconds.
    cpu: f64,
    /// Requests in a second.
    rate: f64,
    p50: Duration,
    p99: Duration,
}

/// Measures, says on `progress` what it does, and writes the table to `out`.
///
/// # Errors
///
/// [`BenchError`].
pub async fn run(settings: &Settings, out: &mut dyn Write, progress: &mut dyn Write) -> Result<(), BenchError> {
    let chosen: Vec<Variant> = variant::ALL
        .iter()
        .copied()
        .filter(|variant| settings.only.is_empty() || settings.only.iter().any(|name| variant.is_called(name)))
        .collect();
    let measures_streams = settings.only.iter().any(|name| name == STREAMS);
    let measures_issuance = settings.only.iter().any(|name| name == ISSUANCE);
    let measures_agent = settings.only.iter().any(|name| name == AGENT);
    if chosen.is_empty() && !measures_streams && !measures_agent && !measures_issuance {
        let names =
            variant::ALL.iter().map(|variant| variant.name()).chain([STREAMS, AGENT, ISSUANCE].map(str::to_owned));
        let known = names.collect::<Vec<_>>().join(", ");
        return Err(BenchError::NothingToMeasure { known });
    }
    let directory = tempfile::tempdir()?;
    let client = certificates(&directory)?;
    if measures_streams {
        streams::measure(directory.path(), &client, out, progress).await?;
    }
    if measures_issuance {
        issuance::measure(settings.certificates, &settings.clients, directory.path(), out, progress).await?;
    }
    if measures_agent {
        agent::measure(directory.path(), out, progress).await?;
    }
    if chosen.is_empty() {
        return Ok(());
    }
    let mut issuers = Issuers::new(jiff::Timestamp::now().as_second());
    let mut peers = Vec::new();
    for variant in chosen {
        let peer = start(variant, &issuers, &directory).await?;
        writeln!(progress, "started {variant} in {:.1} s", peer.started.as_secs_f32())?;
        peers.push(peer);
    }
    for peer in &mut peers {
        measure(peer, &client, &mut issuers, WARM_UP)?;
    }
    for round in 1..=settings.rounds {
        issuers.next_round();
        for peer in &mut peers {
            let figures = measure(peer, &client, &mut issuers, settings.requests)?;
            peer.rounds.push(figures);
        }
        writeln!(progress, "round {round} of {}", settings.rounds)?;
    }
    table::write(&peers, settings, out)?;
    if !settings.only.is_empty() {
        return Ok(());
    }
    figures::write(&peers, out)?;
    // The peers' Envoys are done: what is measured next has the machine to itself.
    drop(peers);
    figures::rotations(out).await
}

fn certificates(directory: &TempDir) -> Result<Credentials, EnvironmentError> {
    let authority = Authority::new("bench");
    let server = authority.leaf().dns(HOST_NAME).usages(&[rcgen::ExtendedKeyUsagePurpose::ServerAuth]).issue();
    let client = authority.leaf().uri(variant::CLIENT).issue();
    let path = directory.path();
    environment::write(&path.join("tls.crt"), &server.pem())?;
    environment::write(&path.join("tls.key"), server.key_pem())?;
    environment::write(&path.join("ca.crt"), &authority.pem())?;
    Ok(Credentials { chain_pem: client.pem(), key_pem: client.key_pem().to_owned(), ca_pem: authority.pem() })
}

async fn start(variant: Variant, issuers: &Issuers, directory: &TempDir) -> Result<Peer, BenchError> {
    let [address, admin] = [environment::free_port()?, environment::free_port()?];
    let config = directory.path().join(format!("{}.json", variant.name()));
    let access_log = directory.path().join(format!("{}.access.log", variant.name()));
    let access_log = variant.is_recorded().then_some(access_log.as_path());
    let bootstrap = config::bootstrap(directory.path(), address, admin, variant.filter(issuers)?, access_log);
    environment::write(&config, &bootstrap.to_string())?;
    let began = Instant::now();
    let mut envoy = Envoy::start(&EnvoyCommand {
        program: programs::envoy()?,
        config,
        beside: None,
        admin,
        log: directory.path().join(format!("{}.log", variant.name())),
        concurrency: 1,
        core: Some(CORES[0]),
        base_id: None,
    })?;
    envoy.ready().await?;
    let busy = envoy.process().cpu_clock().now();
    Ok(Peer { variant, envoy, address, started: began.elapsed(), busy, rounds: Vec::new() })
}

fn measure(peer: &mut Peer, client: &Credentials, issuers: &mut Issuers, count: u64) -> Result<Round, BenchError> {
    let requests = peer.variant.requests(issuers, count);
    let count = requests.count() as f64;
    let process = peer.envoy.process();
    let plan = drive::Drive {
        address: peer.address,
        own: client.clone(),
        requests,
        status: peer.variant.status(),
        core: CORES[1],
    };
    // Read by the load's thread, at the first request and at the last answer.
    let clock = process.cpu_clock();
    let at_start = Arc::new(Mutex::new(Duration::ZERO));
    let at_end = Arc::new(Mutex::new(Duration::ZERO));
    let note = |place: &Arc<Mutex<Duration>>| {
        let place = Arc::clone(place);
        move || *place.lock().unwrap_or_else(PoisonError::into_inner) = clock.now()
    };
    let whose = |error| match error {
        BenchError::Driver(error) => BenchError::Driver(format!("{}: {error}", peer.variant)),
        error => error,
    };
    let driven = drive::drive(plan, note(&at_start), note(&at_end)).map_err(whose)?;
    let read = |place: &Mutex<Duration>| *place.lock().unwrap_or_else(PoisonError::into_inner);
    let used = read(&at_end).saturating_sub(read(&at_start));
    Ok(Round {
        cpu: used.as_secs_f64() * 1e6 / count,
        rate: count / driven.elapsed.as_secs_f64(),
        p50: driven.quantile(0.50),
        p99: driven.quantile(0.99),
    })
}
