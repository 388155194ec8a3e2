//! The agent as a process: takes what it needs or says in one line what is missing, starts the parts, ends them in order.
//!
//! Absent: what the parts do.

mod last_resort;
mod outcomes;
mod reload;
mod sockets;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Resource;
use rustix::process::Rlimit;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit;
use crate::audit::AuditError;
use crate::audit::Event;
use crate::audit::Kind;
use crate::board::Board;
use crate::ca;
use crate::ca::Origin;
use crate::config::Config;
use crate::control;
use crate::credential;
use crate::credential::Credentials;
use crate::credential::Rings;
use crate::credential::Seal;
use crate::credential::seal::SealError;
use crate::credential::seal::own_key;
use crate::envoy_admin::EnvoyAdmin;
use crate::errors::chain;
use crate::gate::Gate;
use crate::health;
use crate::health::Heartbeat;
use crate::issuer::Issuers;
use crate::issuer::IssuersError;
use crate::jwks;
use crate::jwks::Jwks;
use crate::keys;
use crate::leaf;
use crate::metrics::Metrics;
use crate::policy_file::PolicyFile;
use crate::policy_file::PolicyFileError;
use crate::proof::Prover;
use crate::proof::ProverError;
use crate::remedy::Remedies;
use crate::revocation;
use crate::revocation::BookError;
use crate::revocation::Ledger;
use crate::revocation::Revoker;
use crate::room;
use crate::rotation;
use crate::rotation::Clock;
use crate::rotation::Context;
use crate::rotation::Rotation;
use crate::rotation::StepError;
use crate::service_manager::ServiceManager;
use crate::state_dir::DirectoryError;
use crate::state_dir::StateDir;
use crate::state_dir::ca_directory;
use crate::store::LocalStore;
use crate::store::Store;
use crate::store::StoreError;
use crate::succession;
use crate::succession::Succession;
use crate::trust::Trust;
use crate::xds;
use crate::xds::PublishError;
use crate::xds::Publisher;
use crate::yaml::Located;

pub use sockets::SocketError;

use reload::Reload;
use sockets::Socket;

/// How long the parts may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// The revocation lists of bundles are looked at this often.
const LISTS: Duration = Duration::from_secs(60);
/// What could not be written to the audit log is tried again after this time.
const AUDIT_RETRY: Duration = Duration::from_secs(5);
/// How many files it may have open, where the machine allows as many.
const OPEN_FILES: u64 = 65_536;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The audit log.
    #[error("the audit log cannot be used")]
    Audit(#[source] AuditError),
    /// The CA.
    #[error(transparent)]
    Ca(#[from] succession::OpenError),
    /// The state directory.
    #[error("the state directory cannot be used")]
    Directory(#[source] DirectoryError),
    /// An issuer.
    #[error(transparent)]
    Issuer(#[from] IssuersError),
    /// The loopback port.
    #[error("cannot listen on `{address}` (`listen.metrics`); is another process there?")]
    Metrics {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The policy.
    #[error("the policy cannot be used, and none was in force before")]
    Policy(#[source] PolicyFileError),
    /// The prover.
    #[error("listeners cannot be looked at")]
    Prover(#[source] ProverError),
    /// The configuration and what the agent made before do not go together: where, and what would be right.
    #[error(transparent)]
    Refused(#[from] Located),
    /// What is revoked. Without it, the revoked would be let in again.
    #[error("what is revoked is not known")]
    Revocation(#[source] BookError),
    /// The certificates.
    #[error("the certificates cannot be looked after")]
    Rotation(#[source] StepError),
    /// The key that credentials are sealed with.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Signals.
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
    /// A Unix socket.
    #[error("a socket cannot be used")]
    Socket(#[source] SocketError),
    /// It ended to be begun again.
    #[error("`{issuer}` issues nothing any more, whatever was made anew: the agent ends, to be begun again")]
    Stuck {
        /// Who used to issue.
        issuer: String,
    },
    /// The store.
    #[error("the store cannot be used")]
    Store(#[source] StoreError),
    /// The module.
    #[error("`filter.wasm` cannot be used; `./just build` makes it")]
    Wasm(#[source] PublishError),
}

/// SIGXFSZ.
const XFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();

/// Looks at what a start would look at, and changes nothing.
///
/// # Errors
///
/// [`DaemonError`].
pub fn check(config: &Config) -> Result<(), DaemonError> {
    config.warn();
    check_wasm(config)?;
    check_trust_domain(config)?;
    // What a policy names of the agent's own key sets is there from the first start on.
    let is_first = config.key_set_files().any(|file| !file.exists());
    if let Some(path) = config.policy.as_ref().filter(|_| config.filter.is_some() && !is_first) {
        crate::policy_file::compile(path).map_err(DaemonError::Policy)?;
    }
    Ok(())
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
///
/// [`DaemonError`], before anything is served; [`DaemonError::Stuck`], when it is to be begun again.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let manager = ServiceManager::from_environment();
    raise_file_limit();
    let state = StateDir::open(&config.state_dir).map_err(DaemonError::Directory)?;
    config.warn();
    check_wasm(&config)?;
    check_trust_domain(&config)?;
    let metrics_listener = TcpListener::bind(config.listen.metrics)
        .await
        .map_err(|source| DaemonError::Metrics { address: config.listen.metrics, source })?;
    let (xds_listener, xds_socket) = Socket::bind(&config.listen.xds).map_err(DaemonError::Socket)?;
    let (control_listener, control_socket) = Socket::bind(&config.listen.control).map_err(DaemonError::Socket)?;

    // The audit log outlives a store that is lost.
    let is_first = !state.store().exists() && !state.audit().exists();
    let opened = LocalStore::open(&state.store()).map_err(DaemonError::Store)?;
    let mut log = audit::Log::open(&state.audit()).map_err(DaemonError::Audit)?;
    let store: Arc<dyn Store> = Arc::new(opened.store);
    if let Some(aside) = opened.moved_aside {
        log.renumber();
        let what = format!(
            "the store was unreadable and was moved to `{}`; everything is issued anew; what operators revoked is in a file beside it",
            aside.display()
        );
        tracing::error!("{what}");
        store.note(&Event::new(Kind::Alarm, "store").because(what).note()).map_err(DaemonError::Store)?;
    }
    let ca_files = state.ca().map_err(DaemonError::Directory)?;
    let ledger = Arc::new(Ledger::open(Arc::clone(&store)).map_err(DaemonError::Store)?);
    let memory = memory(&config, store.as_ref(), &ledger)?;
    let opened = succession::Opened::open(&ca_files, &config.ca, Arc::clone(&store), memory, leaf::now())?;
    let authorities = opened.authorities.clone();
    if opened.origin == Origin::Created {
        let serial = authorities.issuing().leaf().serial.clone();
        let event = Event::new(Kind::CaCreated, &config.ca.trust_domain).change(None, Some(&serial));
        store.note(&event.note()).map_err(DaemonError::Store)?;
    }
    store.note(&Event::new(Kind::AgentStarted, "agent").note()).map_err(DaemonError::Store)?;
    log.flush(store.as_ref()).map_err(DaemonError::Audit)?;

    let (board, metrics, heartbeat, publisher) = (Board::new(), Metrics::new(), Heartbeat::new(), Publisher::new());
    if !is_first {
        publisher.expect_back();
    }
    let noted = Arc::new(Notify::new());
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    // Before anything is pushed, so that no answer is missed.
    let (for_loop, for_outcomes) = (publisher.outcomes(), publisher.outcomes());

    let trust = Trust::new(publisher.clone(), authorities.clone(), &config.revocation);
    trust.bundles(&config.bundles);
    let followers = jwks::Context {
        store: Arc::clone(&store),
        noted: Arc::clone(&noted),
        board: board.clone(),
        metrics: metrics.clone(),
        fetcher: jwks::fetcher(),
        draw: keys::draw,
    };
    let gate = Gate::open(publisher.clone(), board.clone(), Arc::clone(&store)).map_err(DaemonError::Store)?;
    let revocation = revocation::Context {
        store: Arc::clone(&store),
        copy: state.revocations(),
        noted: Arc::clone(&noted),
        ledger: Arc::clone(&ledger),
        gate: gate.clone(),
        trust: trust.clone(),
        board: board.clone(),
        metrics: metrics.clone(),
        fetcher: revocation::fetcher(),
        draw: keys::draw,
    };
    // Before the policy, so that the first that is pushed lets in nobody who was revoked.
    let revoker = Revoker::open(revocation, &config.revocation).map_err(DaemonError::Revocation)?;
    revoker.follow(&config.revocation.lists, &tasks, &shutdown);
    let config = Arc::new(config);
    let issuers = Issuers::new(authorities.clone(), Arc::clone(&store));
    issuers.configure(&config.issuers).map_err(DaemonError::Issuer)?;
    let (roots, asked_of_roots) = succession::Handle::new(Arc::clone(&opened.journal));
    let prover = Prover::new(vec![authorities.issuing().der().clone()], None).map_err(DaemonError::Prover)?;
    let context = Arc::new(Context {
        store: Arc::clone(&store),
        noted: Arc::clone(&noted),
        authorities,
        roots,
        issuers,
        tally: rotation::Tally::default(),
        ledger,
        trust_domain: config.ca.trust_domain.clone(),
        publisher: publisher.clone(),
        trust: trust.clone(),
        prover,
        admin: config.envoy_admin.map(EnvoyAdmin::new),
        board: board.clone(),
        metrics: metrics.clone(),
        heartbeat: heartbeat.clone(),
        clock: Clock::default(),
        room: room::at,
        revoked: Arc::new({
            let revoker = revoker.clone();
            move || revoker.in_force()
        }),
        remedies: Remedies::new(Arc::clone(&store), Arc::clone(&noted), &config.remedies),
    });
    let seal = Seal::open(config.seal_key.as_deref(), &own_key(&config.state_dir)).map_err(DaemonError::Seal)?;
    let keepers =
        credential::Context { agent: Arc::clone(&context), seal, gate: gate.clone(), rings: Rings::default() };
    let credentials = Credentials::begin(Arc::new(keepers), &config, tasks.clone(), shutdown.child_token()).await;
    // Before the policy, which may name the key sets that are written here.
    credentials.key_sets(&config).await;
    let policy_file = PolicyFile::open(&config, &gate, Jwks::new(followers.clone())).map_err(DaemonError::Policy)?;
    let rotation = Rotation::open(Arc::clone(&context), Arc::clone(&config)).await.map_err(DaemonError::Rotation)?;
    // Without somebody who listens, a write beyond the limit of a file's size is the agent's end and not an error.
    let _too_large = signal(SignalKind::from_raw(XFSZ)).map_err(DaemonError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;

    let (commands, inbox) = mpsc::channel(16);
    let (configs, reloaded) = mpsc::channel(1);
    let (filter, filter_seen) = watch::channel(config.filter.clone());
    let end = || shutdown.clone().cancelled_owned();
    let status = board.watch();
    tasks.spawn(report("xDS server", xds::serve(publisher.clone(), xds_listener, end())));
    tasks.spawn(report(
        "control socket",
        control::serve(control_listener, commands, status.clone(), (revoker, credentials.handle()), end()),
    ));
    let signs_of_life = manager.clone().follow(status.clone(), heartbeat.clone(), shutdown.clone());
    tasks.spawn(report("health endpoints", health::serve(metrics_listener, status, metrics.clone(), heartbeat, end())));
    tasks.spawn(rotation.run(inbox, for_loop, reloaded, shutdown.clone()));
    let (taken, in_force) = watch::channel(Arc::clone(&config));
    let succession =
        Succession::new(opened, Arc::clone(&context), (trust.clone(), gate.clone()), in_force, asked_of_roots);
    tasks.spawn(succession.run(shutdown.clone()));
    let answers = outcomes::follow(
        Arc::clone(&context),
        gate.clone(),
        trust.clone(),
        filter_seen,
        for_outcomes,
        shutdown.clone(),
    );
    tasks.spawn(answers);
    tasks.spawn(renew_lists(trust.clone(), shutdown.clone()));
    let watched = (Arc::clone(&context), board.watch());
    let mut reload = Reload {
        config: Arc::clone(&config),
        context,
        configs,
        taken,
        trust,
        filter,
        tasks: tasks.clone(),
        policy: None,
        credentials,
        followers,
        gate,
        shutdown,
    };
    reload.follow_policy(policy_file).await;
    // Ends after everything that writes events.
    let told = CancellationToken::new();
    let writer = tokio::spawn(write_audit_log(log, Arc::clone(&store), noted, metrics, told.clone()));
    tracing::info!(
        config = %config.file.display(), certificates = config.certificates.len(), metrics = %config.listen.metrics,
        "the agent runs"
    );
    manager.ready(&board.watch().borrow());
    tasks.spawn(signs_of_life);

    let stuck = async {
        // Nobody else would begin it again.
        if !manager.is_there() {
            return std::future::pending().await;
        }
        let (context, status) = watched;
        last_resort::wait(&context, status).await
    };
    let mut stuck = pin!(stuck);
    let ending = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            issuer = &mut stuck => break Err(DaemonError::Stuck { issuer }),
            _ = hangup.recv() => {
                manager.reloading();
                reload.reload().await;
                manager.ready(&board.watch().borrow());
            }
        }
    };
    if let Err(error) = &ending {
        let event = Event::new(Kind::Alarm, "agent").because(error.to_string());
        if let Err(error) = store.note(&event.note()) {
            tracing::error!(error = chain(&error), "an event is lost to the audit log");
        }
    }
    manager.stopping();
    tracing::info!("the agent ends");
    reload.shutdown.cancel();
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("a part of the agent did not end within {GRACE:?}");
    }
    told.cancel();
    let _ = tokio::time::timeout(GRACE, writer).await;
    drop((xds_socket, control_socket, state));
    ending
}

/// Each directory of files takes two descriptors, and the limit that most start with is for programs of another time. Not without end:
/// hooks inherit it, and some programs close each descriptor that they might have.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), ..limit };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "the limit of open files stays as it is");
    }
}

fn check_wasm(config: &Config) -> Result<(), DaemonError> {
    config.filter.as_ref().map_or(Ok(()), |filter| xds::check_module(&filter.wasm).map_err(DaemonError::Wasm))
}

/// The root is made once, for one trust domain: under another, nothing that it signed and nobody who trusts it would do.
fn check_trust_domain(config: &Config) -> Result<(), DaemonError> {
    let directory = ca_directory(&config.state_dir);
    // A root that cannot be read is the start's to complain about.
    let Some(found) = ca::trust_domain(&directory).filter(|found| *found != config.ca.trust_domain) else {
        return Ok(());
    };
    let message = format!(
        "the root in `{}` was made for `{found}`: keep that, or move the directory away to begin with a new root",
        directory.display()
    );
    Err(config.source.error_at("ca.trust_domain", &message).into())
}

/// What an agent that wrote nothing down of it knows of those whom it issued certificates: all of them, as long as the store is
/// the one of then.
fn memory(config: &Config, store: &dyn Store, ledger: &Ledger) -> Result<succession::Memory, DaemonError> {
    let until = ledger.valid(leaf::now()).iter().map(|leaf| leaf.not_after()).max();
    if until.is_some() {
        return Ok(succession::Memory::Until(until));
    }
    for certificate in &config.certificates {
        if rotation::standing(store, &certificate.name).map_err(DaemonError::Store)?.is_some() {
            return Ok(succession::Memory::Until(None));
        }
    }
    Ok(succession::Memory::Lost)
}

/// A server that ends on its own leaves the rest of the agent working: what proxies hold stays good.
async fn report<E: std::error::Error>(part: &str, serve: impl Future<Output = Result<(), E>>) {
    if let Err(error) = serve.await {
        tracing::error!(part, error = chain(&error), "a part of the agent ended");
    }
}

/// Keeps the revocation lists of bundles good.
async fn renew_lists(trust: Trust, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LISTS) => {}
        }
        let trust = trust.clone();
        // A signature under many entries takes a while.
        if let Err(error) = tokio::task::spawn_blocking(move || trust.tick()).await {
            tracing::error!(%error, "renewing revocation lists ended badly");
        }
    }
}

/// Carries notes of the store into the audit log, whenever there are some.
async fn write_audit_log(
    mut log: audit::Log,
    store: Arc<dyn Store>,
    noted: Arc<Notify>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let mut ending = false;
    while !ending {
        tokio::select! {
            () = noted.notified() => {}
            () = tokio::time::sleep(AUDIT_RETRY) => {}
            () = shutdown.cancelled() => ending = true,
        }
        let notes = Arc::clone(&store);
        let flushed = tokio::task::spawn_blocking(move || {
            let outcome = log.flush(notes.as_ref());
            (log, outcome)
        });
        let Ok((back, outcome)) = flushed.await else { return };
        log = back;
        metrics.audit(outcome.is_ok());
        if let Err(error) = outcome {
            tracing::error!(error = chain(&error), "events wait in the store");
        }
    }
}
