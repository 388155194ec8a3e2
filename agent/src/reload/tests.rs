use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use super::*;

/// A process that is killed with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("started"))
    }

    fn exe(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/exe", self.0.id())).expect("it runs")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reload(directory: &TempDir, number: &str, exe: &Path) -> Reload {
    let pid_file = directory.path().join("pid");
    fs::write(&pid_file, number).expect("written");
    fs::set_permissions(&pid_file, fs::Permissions::from_mode(0o644)).expect("a mode");
    Reload { signal: Signal::Usr1, pid_file, exe: exe.to_owned() }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn the_expected_program_gets_the_signal() {
    let (directory, mut sleeper) = (directory(), Sleeper::start());
    let pid = i32::try_from(sleeper.0.id()).expect("a number");
    let sent = reload(&directory, &format!("{pid}\n"), &sleeper.exe()).send().expect("sent");
    assert_eq!(sent, Signalled::Process(pid));
    // Nobody listens to it here, so that it ends the process.
    assert_eq!(sleeper.0.wait().expect("ended").signal(), Some(10));
}

#[test]
fn where_nothing_runs_nobody_is_signalled_and_that_is_no_failure() {
    let (directory, mut sleeper) = (directory(), Sleeper::start());
    let exe = sleeper.exe();
    let missing = Reload { pid_file: directory.path().join("missing"), ..reload(&directory, "2", &exe) };
    assert_eq!(missing.send().expect("not there"), Signalled::Nobody);
    let left = reload(&directory, &sleeper.0.id().to_string(), &exe);
    sleeper.0.kill().expect("killed");
    sleeper.0.wait().expect("ended");
    assert_eq!(left.send().expect("gone"), Signalled::Nobody);
}

#[test]
fn a_number_that_is_somebody_elses_by_now_is_not_signalled() {
    let (directory, mut sleeper) = (directory(), Sleeper::start());
    let number = sleeper.0.id().to_string();
    let error = reload(&directory, &number, Path::new("/usr/sbin/nginx")).send().expect_err("another");
    assert!(matches!(error, ReloadError::OtherProgram { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains(&sleeper.exe().display().to_string()) && error.contains("/usr/sbin/nginx"), "{error}");
    assert!(sleeper.0.try_wait().expect("ours").is_none(), "it goes on");
}

#[test]
fn a_process_that_is_hidden_is_not_taken_for_none() {
    let (directory, mut sleeper) = (directory(), Sleeper::start());
    let number = sleeper.0.id().to_string();
    let reload = reload(&directory, &number, &sleeper.exe());
    let proc = directory.path().join("proc");
    fs::create_dir(&proc).expect("made");
    let refused = || {
        let error = reload.send_by(&proc).expect_err("hidden");
        assert!(matches!(error, ReloadError::Hidden { .. }), "{error}");
        error.to_string()
    };
    // As with `hidepid=2`, where there is nothing, and with `hidepid=1`, where nothing in it can be read.
    let error = refused();
    assert!(error.contains(&number) && error.contains("run the agent as its user, or use a hook"), "{error}");
    fs::write(proc.join(&number), "").expect("written");
    refused();
    assert!(sleeper.0.try_wait().expect("ours").is_none(), "it goes on");
    // One that has ended is not hidden, although nobody asked yet how it ended.
    sleeper.0.kill().expect("killed");
    while !fs::read_to_string(format!("/proc/{number}/stat")).expect("ours").contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(reload.send().expect("ended"), Signalled::Nobody);
    sleeper.0.wait().expect("ended");
    fs::remove_file(proc.join(&number)).expect("removed");
    assert_eq!(reload.send_by(&proc).expect("gone"), Signalled::Nobody);
}

#[test]
fn a_worker_is_not_signalled() {
    let directory = directory();
    let number = directory.path().join("number");
    let inner = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000; true", number.display());
    let mut master = Command::new("/bin/sh");
    master.args(["-c", "/bin/sh -c \"$1\"; true", "sh", &inner]);
    let master = Sleeper(std::os::unix::process::CommandExt::process_group(&mut master, 0).spawn().expect("started"));
    while !number.exists() {
        assert!(Path::new(&format!("/proc/{}", master.0.id())).exists());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let worker = fs::read_to_string(&number).expect("a number");
    let error = reload(&directory, &worker, &master.exe()).send().expect_err("a worker");
    assert!(matches!(error, ReloadError::Worker { .. }), "{error}");
    assert!(Path::new(&format!("/proc/{}", worker.trim())).exists(), "it goes on");
    rustix::process::kill_process_group(Pid::from_child(&master.0), rustix::process::Signal::KILL).expect("ours");
}

#[test]
fn a_file_that_others_write_or_that_holds_no_number_signals_nobody() {
    let (directory, mut sleeper) = (directory(), Sleeper::start());
    let exe = sleeper.exe();
    let open = reload(&directory, &sleeper.0.id().to_string(), &exe);
    fs::set_permissions(&open.pid_file, fs::Permissions::from_mode(0o666)).expect("a mode");
    let error = open.send().expect_err("open");
    assert!(matches!(error, ReloadError::OpenToOthers { mode: 0o666, .. }), "{error}");
    for text in ["", "nginx", "0", "1", "-1", "99999999999999999999"] {
        let error = reload(&directory, text, &exe).send().expect_err(text);
        assert!(matches!(error, ReloadError::Unreadable { .. }), "{text}: {error}");
    }
    assert!(sleeper.0.try_wait().expect("ours").is_none(), "it goes on");
}

#[test]
fn a_program_that_was_upgraded_is_still_the_one() {
    let wanted = Path::new("/usr/sbin/nginx");
    for (found, want) in [
        ("/usr/sbin/nginx", true),
        ("/usr/sbin/nginx (deleted)", true),
        ("/usr/sbin/nginx2", false),
        ("/tmp/usr/sbin/nginx", false),
    ] {
        assert_eq!(is_program(Path::new(found), wanted), want, "{found}");
    }
}
