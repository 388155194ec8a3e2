//! The built agent in a directory of its own, killed when the test ends.

pub(crate) mod corner;
pub(crate) mod outsider;
pub(crate) mod proxy;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use portcullis::command::Insistence;
use portcullis::control_client::ControlClient;
use portcullis::control_client::ControlError;
use portcullis::status::Status;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine; nothing waits for it if it does not have to.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a configuration.
pub(crate) struct Desk {
    directory: TempDir,
    /// Another user to run the agent as.
    pub(crate) user: Option<u32>,
    /// What stands before the program on the command line.
    before: Vec<String>,
    /// Where the programs' root is found.
    root: PathBuf,
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
}

impl Desk {
    /// The configuration gets the agent's state, its sockets and a free port; `rest` is what a test adds.
    pub(crate) fn new(rest: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let desk = Self { directory, user: None, before: Vec::new(), root: PathBuf::from("/") };
        desk.configure(rest);
        desk
    }

    pub(crate) fn configure(&self, rest: &str) {
        let head = "version: 1\nstate_dir: state\n\
            listen: { xds: run/xds.sock, control: run/control.sock, metrics: 127.0.0.1:0 }\n\
            ca: { trust_domain: acme.example }\n";
        self.write("portcullis.yaml", &format!("{head}{rest}"));
    }

    /// From now on programs are started by these words, and have this root.
    pub(crate) fn enter(&mut self, before: &[&str], root: &Path) {
        self.before = before.iter().map(|word| (*word).to_owned()).collect();
        self.root = root.to_owned();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let below = self.directory.path().strip_prefix("/").expect("a path from the root");
        self.root.join(below).join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        if let Some(user) = self.user {
            // The built program may lie where only its owner may go.
            let copy = self.path("portcullis-copy");
            if !copy.exists() {
                fs::copy(env!("CARGO_BIN_EXE_portcullis"), &copy).expect("copied");
            }
            command = Command::new(copy);
            command.uid(user).gid(user);
        }
        if let [first, rest @ ..] = self.before.as_slice() {
            let program = std::mem::replace(&mut command, Command::new(first));
            command.args(rest).arg(program.get_program());
        }
        command.current_dir(self.directory.path()).args(arguments).env_remove("PORTCULLIS_CONFIG");
        command
    }

    /// Has a shell do something where the programs are started.
    pub(crate) fn shell(&self, script: &str) {
        let words: Vec<&str> = self.before.iter().map(String::as_str).chain(["sh", "-c", script]).collect();
        let status = Command::new(words[0]).args(&words[1..]).current_dir(self.directory.path()).status();
        assert!(status.expect("a shell").success(), "{script}");
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program was built")
    }

    pub(crate) fn start(&self) -> Agent {
        self.start_with(None)
    }

    /// An agent that dies at a failpoint.
    pub(crate) fn start_with(&self, failpoint: Option<&str>) -> Agent {
        let failpoint = failpoint.map(|failpoint| ("PORTCULLIS_FAILPOINT", failpoint));
        self.start_as(failpoint.as_slice())
    }

    /// An agent with more environment variables.
    pub(crate) fn start_as(&self, variables: &[(&str, &str)]) -> Agent {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).expect("a log");
        self.spawn(variables, file.into())
    }

    /// An agent with another log.
    pub(crate) fn start_telling(&self, log: Stdio) -> Agent {
        self.spawn(&[], log)
    }

    fn spawn(&self, variables: &[(&str, &str)], log: Stdio) -> Agent {
        let mut command = self.command(&["run"]);
        command.envs(variables.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("started");
        Agent { child, log: self.path("agent.log") }
    }

    fn client(&self) -> ControlClient {
        ControlClient::new(self.path("run/control.sock"))
    }

    pub(crate) fn status(&self) -> Result<Status, ControlError> {
        block_on(self.client().status())
    }

    pub(crate) fn renew(&self, name: &str) -> Result<portcullis::command::Renewed, ControlError> {
        block_on(self.client().renew(name.to_owned(), Insistence::default()))
    }

    pub(crate) fn verify(&self) -> Result<Status, ControlError> {
        block_on(self.client().verify(None))
    }

    /// Waits until the status is as wanted, and returns it.
    pub(crate) fn until(&self, agent: &mut Agent, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let last = RefCell::new(None);
        let log = agent.log.clone();
        let ask = || {
            agent.must_run();
            let status = self.status().ok();
            last.replace(status.clone());
            status.filter(&wanted)
        };
        poll(ask, || {
            let log = fs::read_to_string(log).unwrap_or_default();
            format!("{what}; last status {:#?}; log:\n{log}", last.borrow())
        })
    }

    /// The lines of the audit log.
    pub(crate) fn audit(&self) -> Vec<BTreeMap<String, Value>> {
        let text = fs::read_to_string(self.path("state/audit.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many lines tell of this.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.audit().iter().filter(|line| line["event"] == event).count()
    }

    /// Waits until the audit log tells of this.
    pub(crate) fn until_audit(&self, what: &str, wanted: impl Fn(&BTreeMap<String, Value>) -> bool) {
        poll(|| self.audit().iter().any(&wanted).then_some(()), || format!("{what}; audit log {:#?}", self.audit()));
    }
}

impl Agent {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our child") {
            panic!("the agent ended with {status}; log:\n{}", self.log());
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        poll(|| child.try_wait().expect("our child"), || "the agent goes on".to_owned())
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let read = fs::File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        read.map(|_| text).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again, until there is an answer or patience ends.
pub(crate) fn poll<T>(mut ask: impl FnMut() -> Option<T>, what: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if Instant::now() > deadline {
            panic!("waited in vain: {}", what());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The serial of the first certificate in a PEM file.
pub(crate) fn serial(path: &Path) -> Option<String> {
    let chain = portcullis::leaf::chain(&fs::read_to_string(path).ok()?).ok()?;
    portcullis::leaf::Leaf::from_der(&chain[0]).ok().map(|leaf| leaf.serial)
}
