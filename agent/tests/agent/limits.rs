//! What a machine has none left of: room on a disk, files that may be open, watches, somebody who reads the log. The agent goes on, says
//! so, orders nothing that it could not keep, and is as before when there is some again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use portcullis::control::RENEW;
use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use serde_json::Value;

use crate::support::Agent;
use crate::support::Desk;
use crate::support::PATIENCE;
use crate::support::corner::Corner;
use crate::support::corner::Disk;
use crate::support::corner::Full;
use crate::support::poll;
use crate::support::proxy::Proxy;
use crate::support::serial;
use crate::support::stderr;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], files: { directory: tls } }\n";
/// Large enough for what is done in a test, and quickly filled.
const DISKS: &str = "mkdir state tls\n\
    mount -t tmpfs -o size=12m,nr_inodes=400,mode=0700 none state\n\
    mount -t tmpfs -o size=8m,nr_inodes=400,mode=0700 none tls";

/// A desk whose agent says on a port of its own what it counts.
fn with_metrics(rest: &str) -> (Desk, String) {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    // On an address of its own, where nobody else takes the port meanwhile.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, TAKEN.fetch_add(1, Ordering::Relaxed), high, low);
    let free = TcpListener::bind((own, 0)).and_then(|listener| listener.local_addr()).expect("a port").to_string();
    let desk = Desk::new(rest);
    let text = fs::read_to_string(desk.path("portcullis.yaml")).expect("a configuration");
    desk.write("portcullis.yaml", &text.replace("127.0.0.1:0", &format!("\"{free}\"")));
    (desk, free)
}

/// The sum of what is counted under this name, with these labels.
fn counted(address: &str, name: &str, labels: &str) -> f64 {
    let mut stream = TcpStream::connect(address).expect("the agent listens");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let lines = answer.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn is_alarm(line: &BTreeMap<String, Value>, word: &str) -> bool {
    line["event"] == "alarm"
        && line.get("cause").is_some_and(|cause| cause.as_str().is_some_and(|it| it.contains(word)))
}

/// Issued once and in the files; its serial.
fn issued(desk: &Desk, agent: &mut Agent) -> String {
    desk.until(agent, "served, and all of it written down", |status| {
        status.ready && status.certificates[0].rotations == 1 && status.certificates[0].state == "retired"
    });
    serial(&desk.path("tls/tls.crt")).expect("a certificate")
}

/// A proxy that comes now gets this certificate.
fn assert_pushed(desk: &Desk, wanted: &str) {
    assert_eq!(Proxy::connect(desk).next(), wanted, "a proxy that comes has what there is");
}

fn a_disk_is_full(at: &str, full: Full) {
    let (mut desk, metrics) = with_metrics(ONE);
    let corner = Corner::of(&mut desk, DISKS);
    let mut agent = desk.start();
    let first = issued(&desk, &mut agent);
    let key = fs::read(desk.path("tls/privkey.pem")).expect("a key");
    let disk = Disk::fill(corner.as_ref(), &desk.path(at), full, &agent);

    let error = desk.renew("gateway").expect_err("no room").to_string();
    // Found by looking or, where the store itself had to grow, by writing.
    let why = if corner.is_some() { ["no room at", "No space left on device"] } else { ["File too large"; 2] };
    assert!(error.contains("journal failed") && why.iter().any(|why| error.contains(why)), "{error}");
    assert_eq!(serial(&desk.path("tls/tls.crt")).as_ref(), Some(&first));
    assert_eq!(fs::read(desk.path("tls/privkey.pem")).expect("a key"), key, "nothing is cut off");
    let status = desk.until(&mut agent, "said", |status| !status.ready);
    assert!(status.certificates[0].last_error.is_some() && status.certificates[0].failures > 0, "{status:#?}");
    assert!(counted(&metrics, "portcullis_rotation_total", "result=\"failure\"") > 0.0);
    assert_pushed(&desk, &first);
    assert_eq!(desk.count("certificate_issued"), 1, "nothing is ordered that could not be kept");

    disk.free();
    desk.until(&mut agent, "renewed after all", |status| status.ready && status.certificates[0].rotations == 2);
    let second = serial(&desk.path("tls/tls.crt")).expect("a certificate");
    assert_ne!(second, first);
    assert_pushed(&desk, &second);
    desk.until_audit("what was wrong", |line| is_alarm(line, "journal: "));
    assert!(agent.terminate().success());
    assert_eq!(desk.count("certificate_issued"), 2, "one, now that there is room");
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn a_full_disk_of_the_state_costs_no_certificate() {
    a_disk_is_full("state", Full::Bytes);
}

#[test]
fn a_disk_of_the_state_that_takes_no_more_files_costs_no_certificate() {
    a_disk_is_full("state", Full::Files);
}

#[test]
fn a_full_disk_of_the_files_costs_no_certificate() {
    a_disk_is_full("tls", Full::Bytes);
}

#[test]
fn a_disk_of_the_files_that_takes_no_more_of_them_costs_no_certificate() {
    a_disk_is_full("tls", Full::Files);
}

#[test]
fn what_a_full_disk_keeps_out_of_the_audit_log_is_in_it_when_there_is_room() {
    let (mut desk, metrics) = with_metrics(ONE);
    let script = "mkdir -m 700 state log\nmount -t tmpfs -o size=64k none log\n\
        touch log/audit.jsonl state/audit.jsonl\nmount --bind log/audit.jsonl state/audit.jsonl";
    let Some(corner) = Corner::of(&mut desk, script) else { return a_disk_is_full("state", Full::Bytes) };
    let mut agent = desk.start();
    issued(&desk, &mut agent);
    let disk = Disk::fill(Some(&corner), &desk.path("log"), Full::Bytes, &agent);

    // The last page of the file has some room.
    let mut rotations = 1;
    poll(
        || {
            let renewed = desk.renew("gateway").expect("the store has room, and keeps what is to be told");
            rotations += 1;
            assert_eq!(serial(&desk.path("tls/tls.crt")), Some(renewed.new_serial));
            (counted(&metrics, "portcullis_audit_broken", "") > 0.0).then_some(())
        },
        || "the audit log is never full".to_owned(),
    );
    assert_pushed(&desk, &serial(&desk.path("tls/tls.crt")).expect("a certificate"));
    assert!(desk.count("certificate_issued") < rotations, "{:#?}", desk.audit());
    assert!(desk.run(&["audit", "verify"]).status.success(), "no line is cut off");

    disk.free();
    desk.until_audit("everything is told", |_| desk.count("certificate_issued") == rotations);
    assert!(agent.terminate().success());
    assert_eq!((desk.count("certificate_issued"), desk.count("served")), (rotations, rotations));
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn a_read_only_disk_of_the_files_at_the_start_holds_up_nothing_else() {
    let mut desk = Desk::new(ONE);
    let Some(_corner) = Corner::of(&mut desk, DISKS) else { return a_disk_is_full("tls", Full::Bytes) };
    let mut agent = desk.start();
    let first = issued(&desk, &mut agent);
    assert!(agent.terminate().success());
    desk.shell("mount -o remount,bind,ro tls");
    desk.configure(&format!("{ONE}  - {{ name: second, dns: [second], files: {{ directory: second }} }}\n"));
    let mut agent = desk.start();
    desk.until(&mut agent, "the other one", |status| {
        status.certificates.len() == 2 && status.certificates[1].rotations == 1 && !status.ready
    });
    assert_pushed(&desk, &first);
    let error = desk.renew("gateway").expect_err("read-only").to_string();
    assert!(error.contains("Read-only file system"), "{error}");
    let of_first = || {
        desk.audit().iter().filter(|line| line["event"] == "certificate_issued" && line["name"] == "gateway").count()
    };
    assert_eq!((of_first(), serial(&desk.path("tls/tls.crt"))), (1, Some(first)));

    desk.shell("mount -o remount,bind,rw tls");
    desk.until(&mut agent, "renewed after all", |status| status.ready && status.certificates[0].rotations == 2);
    assert!(agent.terminate().success());
    assert_eq!(of_first(), 2);
}

/// The agent does not start, and says so in a line with these words.
fn assert_refuses(desk: &Desk, words: [&str; 2]) {
    let output = desk.run(&["run"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let said =
        text.lines().any(|line| line.starts_with("portcullis: ") && words.iter().all(|word| line.contains(word)));
    assert!(said, "{words:?} in {text}");
}

#[test]
fn a_state_that_is_read_only_at_the_start_is_named_and_costs_nothing() {
    let mut desk = Desk::new(ONE);
    let Some(_corner) = Corner::of(&mut desk, DISKS) else { return a_disk_is_full("state", Full::Bytes) };
    let mut agent = desk.start();
    let first = issued(&desk, &mut agent);
    assert!(agent.terminate().success());
    let lines = desk.audit().len();
    desk.shell("mount -o remount,bind,ro state");
    assert_refuses(&desk, ["state", "Read-only file system"]);
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(first.clone()), "what is in use stays");

    // The audit log alone.
    desk.shell("mount -o remount,bind,rw state");
    desk.shell("mount --bind state/audit.jsonl state/audit.jsonl && mount -o remount,bind,ro state/audit.jsonl");
    assert_refuses(&desk, ["audit.jsonl", "Read-only file system"]);
    assert_eq!(desk.audit().len(), lines);

    desk.shell("umount state/audit.jsonl");
    let mut agent = desk.start();
    desk.until(&mut agent, "as before", |status| status.ready);
    assert_pushed(&desk, &first);
    assert!(agent.terminate().success());
    assert_eq!(desk.count("certificate_issued"), 1);
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn without_watches_and_where_a_directory_was_replaced_an_edit_is_found_all_the_same() {
    let policy = |path: &str| {
        format!(
            "version: 1\ntrust_domain: acme.example\nroles:\n  r: [ {{ spiffe: \"spiffe://acme.example/r\" }} ]\n\
             rules:\n  - {{ id: r, allow: [r], methods: [GET], paths: [\"{path}\"] }}\n"
        )
    };
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let rest = "certificates: []\npolicy: policies/policy.yaml\nfilter: { name: portcullis, wasm: filter.wasm }\n";
        let mut desk = Desk::new(rest);
        fs::create_dir(desk.path("policies")).expect("made");
        desk.write("policies/policy.yaml", &policy("/0"));
        desk.write("filter.wasm", "\0asm\u{1}\0\0\0");
        let corner = Corner::of(&mut desk, &format!("echo 0 > /proc/sys/user/{limit}"));
        let mut agent = desk.start();
        let mut version = desk.until(&mut agent, "in force", |status| status.policy.version.is_some()).policy.version;
        if corner.is_some() {
            poll(|| agent.log().contains("is not watched").then_some(()), || format!("{limit}: {}", agent.log()));
        }
        let mut until_another = |what: &str| {
            let status = desk.until(&mut agent, what, |status| status.policy.version != version);
            version = status.policy.version;
        };
        desk.write("policies/policy.yaml", &policy("/1"));
        until_another("an edit");
        fs::rename(desk.path("policies"), desk.path("aside")).expect("moved");
        fs::create_dir(desk.path("policies")).expect("made");
        desk.write("policies/policy.yaml", &policy("/2"));
        until_another("another directory");
        desk.write("policies/policy.yaml", &policy("/3"));
        until_another("an edit in that one");
        assert!(agent.terminate().success());
    }
}

/// Has the agent open no more files, whatever it closes.
fn leave_no_files(agent: &Agent) -> Rlimit {
    limit_files(agent, Rlimit { current: Some(0), ..rustix::process::getrlimit(Resource::Nofile) })
}

fn limit_files(agent: &Agent, limit: Rlimit) -> Rlimit {
    let pid = i32::try_from(agent.id()).ok().and_then(Pid::from_raw).expect("a process");
    rustix::process::prlimit(Some(pid), Resource::Nofile, limit).expect("limited")
}

/// Has the agent renew by a connection that it took before something was done; its answer.
fn renew_after<T>(desk: &Desk, done: impl FnOnce() -> T) -> (T, String) {
    let body = "{\"name\":\"gateway\"}";
    let mut stream = UnixStream::connect(desk.path("run/control.sock")).expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let head = format!(
        "POST {RENEW} HTTP/1.1\r\nhost: portcullis\r\nconnection: close\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("asked");
    let mut taken = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut taken).expect("taken, and asked for the body");
    let done = done();
    stream.write_all(body.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    (done, answer)
}

#[test]
fn whoever_comes_while_no_file_can_be_opened_is_answered_later() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    let first = issued(&desk, &mut agent);
    let limit = leave_no_files(&agent);
    std::thread::scope(|scope| {
        let proxy = scope.spawn(|| Proxy::connect(&desk).next());
        poll(
            || agent.log().contains("socket can be taken").then_some(()),
            || format!("it to be noticed: {}", agent.log()),
        );
        let status = scope.spawn(|| desk.status());
        agent.must_run();
        limit_files(&agent, limit);
        assert_eq!(proxy.join().expect("no panic"), first);
        status.join().expect("no panic").expect("answered");
    });
    assert!(agent.terminate().success());
    assert_eq!(desk.count("certificate_issued"), 1);
}

#[test]
fn a_certificate_that_takes_more_files_than_can_be_opened_is_renewed_later() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    let first = issued(&desk, &mut agent);
    let (limit, answer) = renew_after(&desk, || leave_no_files(&agent));
    assert!(answer.contains("Too many open files"), "{answer}");
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(first));
    limit_files(&agent, limit);
    desk.until(&mut agent, "renewed after all", |status| status.ready && status.certificates[0].rotations == 2);
    desk.until_audit("what was wrong", |line| is_alarm(line, "Too many open files"));
    assert!(agent.terminate().success());
    assert_eq!(desk.count("certificate_issued"), 2);
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn a_low_limit_that_may_be_raised_does_not_bound_how_many_certificates_there_are() {
    let many = |number: usize| {
        format!("  - {{ name: shop-{number}, dns: [localhost], files: {{ directory: tls/{number} }} }}\n")
    };
    let certificates: String = (0..40).map(many).collect();
    let mut desk = Desk::new(&format!("certificates:\n{certificates}"));
    desk.enter(&["sh", "-c", "ulimit -Sn 64 && exec \"$0\" \"$@\""], Path::new("/"));
    let mut agent = desk.start();
    desk.until(&mut agent, "all of them", |status| status.ready && status.certificates.len() == 40);
    assert!(agent.terminate().success());
}

#[test]
fn a_log_that_takes_nothing_holds_up_nobody() {
    let (_reader, full_pipe) = full_pipe();
    let full_disk = fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    for (what, log) in [("nobody reads it", Stdio::from(full_pipe)), ("its disk is full", Stdio::from(full_disk))] {
        let desk = Desk::new(ONE);
        let mut agent = desk.start_telling(log);
        issued(&desk, &mut agent);
        let renewed = desk.renew("gateway").unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(serial(&desk.path("tls/tls.crt")), Some(renewed.new_serial), "{what}");
        assert_pushed(&desk, &serial(&desk.path("tls/tls.crt")).expect("a certificate"));
        assert!(agent.terminate().success(), "{what}");
        assert!(desk.run(&["audit", "verify"]).status.success(), "{what}");
    }
}

/// A pipe that takes not one byte more.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let flags = rustix::fs::fcntl_getfl(&writer).expect("flags");
    rustix::fs::fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("set");
    while writer.write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).expect("set back");
    (reader, writer)
}
