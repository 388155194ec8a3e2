//! The real Redis as a child process.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpStream;

use super::EnvironmentError;
use super::Process;
use super::free_port;
use super::programs;
use super::wait;

/// Until it takes connections.
const START: Duration = Duration::from_secs(30);
/// Until a question is answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer ones are somebody's mistake.
const LONGEST: usize = 1 << 20;

/// Where a server keeps its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// In a file of their own (`aclfile`).
    AclFile,
    /// In its configuration.
    ConfigFile,
    /// Nowhere.
    Nothing,
}

/// A running Redis. Its administrator is `keeper`, whose password is `keeper of the tests`; `default` may do everything too, on
/// this machine, without one.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    address: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    // Last, so that it goes after who writes to it.
    directory: TempDir,
}

/// A connection that is asked line by line, as with `nc`.
#[derive(Debug)]
pub struct Conversation {
    stream: BufReader<TcpStream>,
}

impl Redis {
    /// The administrator's password.
    pub const PASSWORD: &str = "keeper-of-the-tests";

    /// Starts one.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start(keeps: Keeps) -> Result<Self, EnvironmentError> {
        Self::start_with(keeps, |_| Vec::new()).await
    }

    /// Starts one with more on its command line, which may name files of its directory.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start_with(keeps: Keeps, more: impl FnOnce(&Path) -> Vec<String>) -> Result<Self, EnvironmentError> {
        let program = programs::redis()?;
        let failed =
            |source| EnvironmentError::File { doing: "create a directory in", path: std::env::temp_dir(), source };
        let directory = tempfile::tempdir().map_err(failed)?;
        let address = free_port()?;
        let place = directory.path();
        let keeper = format!("user keeper on >{} ~* &* +@all\n", Self::PASSWORD);
        let mut arguments: Vec<String> = Vec::new();
        match keeps {
            Keeps::AclFile => {
                super::write(&place.join("users.acl"), &format!("user default on nopass ~* &* +@all\n{keeper}"))?;
                arguments.extend(["--aclfile".to_owned(), place.join("users.acl").display().to_string()]);
            }
            Keeps::ConfigFile => {
                super::write(&place.join("redis.conf"), &keeper)?;
                arguments.push(place.join("redis.conf").display().to_string());
            }
            Keeps::Nothing => {}
        }
        let port = address.port().to_string();
        let socket = place.join("redis.sock").display().to_string();
        let here = place.display().to_string();
        for [name, value] in [
            ["--port", port.as_str()],
            ["--bind", "127.0.0.1"],
            ["--save", ""],
            ["--dir", &here],
            ["--unixsocket", &socket],
        ] {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
        arguments.extend(more(place));
        let process = serve(&program, &arguments, place)?;
        let mut redis = Self { process, address, program, arguments, directory };
        redis.ready().await?;
        if keeps == Keeps::Nothing {
            redis.ask(&format!("ACL SETUSER keeper on >{} ~* &* +@all", Self::PASSWORD)).await?;
        }
        Ok(redis)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// A directory of its own for files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Asks it as `default`; the answer's first line, without `+`, `:` or the length of a longer one.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Refused`], with its words.
    pub async fn ask(&self, command: &str) -> Result<String, EnvironmentError> {
        self.converse().await?.ask(command).await
    }

    /// Begins a conversation as `default`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`].
    pub async fn converse(&self) -> Result<Conversation, EnvironmentError> {
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(|source| EnvironmentError::Socket { doing: "connect to redis", source })?;
        Ok(Conversation { stream: BufReader::new(stream) })
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Spawn`].
    pub fn kill(&mut self) -> Result<(), EnvironmentError> {
        let failed = |source| EnvironmentError::Spawn { program: "redis", source };
        self.process.kill().map(drop).map_err(failed)
    }

    /// Starts it again after it was ended, at the same place.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start_again(&mut self) -> Result<(), EnvironmentError> {
        self.process = serve(&self.program, &self.arguments, self.directory.path())?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<(), EnvironmentError> {
        let mut ended = None;
        let waited = wait::until("redis to answer", START, async || {
            if let Err(error) = self.process.check_running() {
                ended = Some(error);
                return Ok(());
            }
            // A server that speaks TLS only listens on no other port.
            let is_tls = self.arguments.iter().any(|argument| argument == "--tls-port");
            if is_tls {
                return TcpStream::connect(self.address).await.map(drop).map_err(|error| error.to_string());
            }
            self.ask("PING").await.map(drop).map_err(|error| super::chain(&error))
        });
        let waited = waited.await;
        ended.map_or(waited, Err)
    }
}

impl Conversation {
    /// Asks, and reads one answer: its line, or its text if it is longer. Of a list there is the first line only.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Refused`], with its words; [`EnvironmentError::Socket`].
    pub async fn ask(&mut self, command: &str) -> Result<String, EnvironmentError> {
        self.say(command).await?;
        let line = self.line().await?;
        let refused = |words: &str| EnvironmentError::Refused {
            what: format!("redis refused `{command}`"),
            words: words.to_owned(),
        };
        match line.split_at_checked(1) {
            Some(("-", words)) => Err(refused(words)),
            Some(("$", length)) => {
                let Ok(length) = length.parse::<usize>() else { return Ok(String::new()) };
                let mut text = vec![0; length.min(LONGEST) + 2];
                self.stream.read_exact(&mut text).await.map_err(broken)?;
                Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
            }
            Some((_, answer)) => Ok(answer.to_owned()),
            None => Err(refused("nothing")),
        }
    }

    /// Says something, and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`].
    pub async fn say(&mut self, command: &str) -> Result<(), EnvironmentError> {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).await.map_err(broken)
    }

    /// The next line.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`], [`EnvironmentError::TimedOut`].
    pub async fn line(&mut self) -> Result<String, EnvironmentError> {
        let mut line = String::new();
        match tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await {
            Ok(read) => read.map_err(broken).map(|_| line.trim_end().to_owned()),
            Err(_) => Err(EnvironmentError::TimedOut {
                what: "a line of redis".to_owned(),
                within: PATIENCE,
                last: "nothing".to_owned(),
            }),
        }
    }
}

fn broken(source: std::io::Error) -> EnvironmentError {
    EnvironmentError::Socket { doing: "talk to redis", source }
}

fn serve(program: &Path, arguments: &[String], directory: &Path) -> Result<Process, EnvironmentError> {
    let mut serve = Command::new(program);
    serve.args(arguments);
    Process::start("redis", &mut serve, directory.join("redis.log"))
}
