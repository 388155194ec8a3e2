//! How the agent starts and ends, or refuses to, as an operator sees it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;

use crate::support::Agent;
use crate::support::Desk;
use crate::support::poll;
use crate::support::serial;
use crate::support::stderr;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], files: { directory: tls } }\n";

/// Runs the agent, which must refuse, and returns its one line.
fn refusal(desk: &Desk) -> String {
    let output = desk.run(&["run"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("portcullis: ")).collect();
    assert_eq!(lines.len(), 1, "one line: {text}");
    lines[0].to_owned()
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let desk = Desk::new("certificates:\n  - { name: gateway, dns: [localhost], lifetme: 24h }\n");
    let line = refusal(&desk);
    assert!(line.contains("portcullis.yaml:6:") && line.contains("did you mean `lifetime`"), "{line}");

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let text = fs::read_to_string(Desk::new(ONE).path("portcullis.yaml")).expect("read");
    let desk = Desk::new(ONE);
    desk.write("portcullis.yaml", &text.replace("127.0.0.1:0", &address));
    let line = refusal(&desk);
    assert!(line.contains(&address) && line.contains("listen.metrics"), "{line}");

    let desk = Desk::new(ONE);
    fs::create_dir(desk.path("run")).expect("made");
    fs::set_permissions(desk.path("run"), fs::Permissions::from_mode(0o700)).expect("mode");
    let socket = UnixListener::bind(desk.path("run/xds.sock")).expect("bound");
    let line = refusal(&desk);
    assert!(line.contains("xds.sock") && line.contains("another process"), "{line}");
    drop(socket);
    fs::remove_file(desk.path("run/xds.sock")).expect("removed");
    desk.write("run/xds.sock", "precious");
    let line = refusal(&desk);
    assert!(line.contains("not a socket"), "{line}");
    assert_eq!(fs::read_to_string(desk.path("run/xds.sock")).expect("kept"), "precious");

    let desk = Desk::new(&format!("{ONE}policy: policy.yaml\nfilter: {{ name: portcullis, wasm: missing.wasm }}\n"));
    desk.write("policy.yaml", "version: 1\n");
    let line = refusal(&desk);
    assert!(line.contains("missing.wasm"), "{line}");
    desk.write("missing.wasm", "\0asm\u{1}\0\0\0");
    desk.write("policy.yaml", "version: 1\ntrust_domain: acme.example\nrulez: []\n");
    let line = refusal(&desk);
    assert!(line.contains("policy.yaml:3:") && line.contains("rulez"), "{line}");

    let desk = Desk::new(ONE);
    fs::create_dir(desk.path("state")).expect("made");
    fs::set_permissions(desk.path("state"), fs::Permissions::from_mode(0o777)).expect("mode");
    let line = refusal(&desk);
    assert!(line.contains("written by others") && line.contains("chmod"), "{line}");
}

#[test]
fn a_second_agent_names_the_first() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let line = refusal(&desk);
    assert!(line.contains("another agent (process "), "{line}");
    agent.must_run();
}

#[test]
fn two_agents_do_not_write_to_one_directory_and_the_second_takes_over_when_the_first_is_gone() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    // A state of its own, and the other's files.
    let second = Desk::new("");
    second.configure(&ONE.replace("directory: tls", &format!("directory: {}", desk.path("tls").display())));
    let line = refusal(&second);
    let who = format!("another agent (process {})", agent.id());
    assert!(line.contains(&who) && line.contains("tls"), "{line}");
    let before = serial(&desk.path("tls/tls.crt"));
    assert!(before.is_some());
    agent.must_run();

    agent.signal(Signal::KILL);
    agent.ended();
    let mut agent = second.start();
    let status = second.until(&mut agent, "served by the second", |status| status.ready);
    let stored = status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone());
    assert_eq!(serial(&desk.path("tls/tls.crt")), stored, "a whole pair of the second's");
    assert_ne!(stored, before);
}

#[test]
fn a_link_in_the_place_of_a_file_of_the_state_is_not_followed() {
    let desk = Desk::new(ONE);
    for name in ["audit.jsonl", "lock", "store.redb"] {
        let _ = fs::remove_dir_all(desk.path("state"));
        fs::create_dir(desk.path("state")).expect("made");
        fs::set_permissions(desk.path("state"), fs::Permissions::from_mode(0o700)).expect("mode");
        desk.write("victim", "precious");
        symlink(desk.path("victim"), desk.path("state").join(name)).expect("a link");
        let mut agent = desk.start();
        assert_eq!(agent.ended().code(), Some(1), "{name}");
        let log = agent.log();
        let said = log.lines().any(|line| line.contains(name) && line.contains("is a link, which is not followed"));
        assert!(said, "{name}: {log}");
        assert_eq!(fs::read_to_string(desk.path("victim")).expect("kept"), "precious", "{name}");
    }
}

#[test]
fn what_a_killed_agent_left_is_taken_over_and_an_ended_one_leaves_nothing() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let mode = |name: &str| fs::metadata(desk.path(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(
        (mode("run/xds.sock"), mode("run/control.sock"), mode("run"), mode("state")),
        (0o600, 0o600, 0o700, 0o700)
    );
    assert_eq!((mode("state/store.redb"), mode("state/audit.jsonl"), mode("state/ca/root.key")), (0o600, 0o600, 0o600));
    agent.signal(Signal::KILL);
    agent.ended();
    assert!(desk.path("run/xds.sock").exists());
    let mut agent = desk.start();
    desk.until(&mut agent, "good", |status| status.ready);
    agent.signal(Signal::INT);
    assert_eq!(agent.ended().code(), Some(0));
    assert!(fs::read_dir(desk.path("run")).expect("kept").next().is_none(), "no socket is left");
    assert_eq!(desk.count("certificate_issued"), 1);
}

#[test]
fn it_runs_as_an_ordinary_user() {
    let mut desk = Desk::new(ONE);
    if rustix::process::geteuid().is_root() {
        let nobody = 65_534;
        desk.user = Some(nobody);
        std::os::unix::fs::chown(desk.path("."), Some(nobody), Some(nobody)).expect("given away");
    }
    let mut agent = desk.start();
    // The control socket lets in its own user and root.
    desk.until(&mut agent, "served", |status| status.ready);
    assert!(agent.terminate().success());
}

#[test]
fn checking_changes_nothing() {
    let desk = Desk::new(ONE);
    let output = desk.run(&["run", "--check"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!desk.path("state").exists() && !desk.path("run").exists());
    desk.configure("certificates: []\nbundels: []\n");
    let output = desk.run(&["run", "--check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("bundles"), "{}", stderr(&output));
}

#[test]
fn checking_names_what_the_start_would_stumble_over() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    assert!(agent.terminate().success());
    let text = fs::read_to_string(desk.path("portcullis.yaml")).expect("read");
    desk.write("portcullis.yaml", &text.replace("acme.example", "other.example"));
    for arguments in [vec!["run", "--check"], vec!["run"]] {
        let output = desk.run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = stderr(&output);
        assert!(text.contains("portcullis.yaml:4:") && text.contains("made for `acme.example`"), "{text}");
    }
    desk.write("portcullis.yaml", &format!("{text}policy: policy.yaml\n"));
    let output = desk.run(&["run", "--check"]);
    assert!(output.status.success(), "a remark is no error");
    let text = stderr(&output);
    assert!(text.contains("portcullis.yaml:7:") && text.contains("no `filter`"), "{text}");
}

#[test]
fn init_writes_files_that_are_good_and_overwrites_none() {
    let desk = Desk::new(ONE);
    let output = desk.run(&["init", "new"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let check = desk.run(&["--config", "new/portcullis.yaml", "run", "--check"]);
    assert!(check.status.success(), "{}", stderr(&check));
    let policy = desk.run(&["policy", "check", "new/policy.yaml"]);
    assert!(policy.status.success(), "{}", stderr(&policy));
    let again = desk.run(&["init", "new"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("there already"), "{}", stderr(&again));
}

#[test]
fn a_certificate_for_somebody_else_is_issued_once_and_audited() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let id = "spiffe://acme.example/ns/pay/sa/checkout";
    let issue =
        |out: &str, arguments: &[&str]| desk.run(&[&["issue", "--lifetime", "1h", "--out", out], arguments].concat());
    let output = issue("client", &["--spiffe", id, "--client"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mode = fs::metadata(desk.path("client/privkey.pem")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let serial = serial(&desk.path("client/fullchain.pem")).expect("a certificate");
    desk.until_audit("issued", |line| line["event"] == "issued_for_other" && line["new"] == serial.as_str());
    let shown = desk.run(&["ca", "show"]);
    assert_eq!(shown.stdout, fs::read(desk.path("client/ca.crt")).expect("the root"));
    for (arguments, words) in
        [(vec!["--spiffe", "spiffe://evil.example/x", "--client"], "trust domain"), (vec!["--client"], "no name")]
    {
        let output = issue("refused", &arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
    // Nothing is overwritten, and nothing is signed for nowhere.
    let issued = desk.count("issued_for_other");
    let output = issue("client", &["--spiffe", id, "--client"]);
    assert!(stderr(&output).contains("`client/fullchain.pem` is there already"), "{}", stderr(&output));
    assert_eq!(desk.count("issued_for_other"), issued);
    // No key, and no part of one, is in the logs.
    let key = fs::read_to_string(desk.path("client/privkey.pem")).expect("a key");
    let line = key.lines().nth(1).expect("base64");
    let everything = agent.log() + &fs::read_to_string(desk.path("state/audit.jsonl")).expect("a log");
    assert!(!everything.contains(line) && !everything.contains("PRIVATE"));
}

#[test]
fn a_certificate_that_its_ca_cuts_short_is_told_of() {
    let desk = Desk::new("");
    let text = fs::read_to_string(desk.path("portcullis.yaml")).expect("a configuration");
    let ca = "ca: { trust_domain: acme.example, root_lifetime: 30d }";
    desk.write("portcullis.yaml", &(text.replace("ca: { trust_domain: acme.example }", ca) + ONE));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", |status| status.ready);
    let root = status.ca.roots[0].not_after;
    let issue = |out: &str, lifetime: &str| {
        let output = desk.run(&["issue", "--dns", "shop.example", "--server", "--lifetime", lifetime, "--out", out]);
        assert!(output.status.success(), "{}", stderr(&output));
        (stderr(&output), serial(&desk.path(out).join("fullchain.pem")).expect("a certificate"))
    };
    let is_told = |agent: &Agent| agent.log().lines().any(|line| line.contains("ends with who signs it"));
    let cause = |serial: &str| {
        let line = desk.audit().into_iter().find(|line| line["event"] == "issued_for_other" && line["new"] == serial);
        line.map(|line| line.get("cause").and_then(|cause| cause.as_str().map(str::to_owned)))
    };
    let (words, whole) = issue("whole", "29d");
    assert!(words.is_empty() && !is_told(&agent), "{words}{}", agent.log());
    let (words, cut) = issue("cut", "90d");
    assert!(words.contains(&format!("sooner than asked for, with the CA that signed it: at {root}")), "{words}");
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("ends with who signs it")).expect("told");
    assert!(line.contains("shop.example") && line.contains(&root.to_string()), "{line}");
    let [whole, cut] = [whole, cut].map(|serial| poll(|| cause(&serial), || "the audit log to tell".to_owned()));
    assert_eq!((whole, cut), (None, Some(format!("asked for 7776000s; ends with who signs it, at {root}"))));
}

#[test]
fn an_issuer_whose_name_is_not_found_is_said_with_the_next_attempt() {
    let desk = Desk::new(
        "issuers:\n  - { name: ca, acme: { directory: \"https://ca.invalid/dir\", challenge: { http01: \"127.0.0.1:0\" } } }\n\
         certificates:\n  - { name: web, issuer: ca, dns: [web.example], files: { directory: tls } }\n",
    );
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "failed", |status| status.certificates[0].failures > 0);
    let web = &status.certificates[0];
    let error = web.last_error.as_deref().expect("why");
    assert!(error.contains("`ca.invalid`, whose name is not found: see that `directory`"), "{error}");
    assert!(!status.ready && web.next_attempt.is_some() && web.stored.is_none(), "{web:#?}");
    assert_eq!(desk.count("certificate_issued"), 0);
    desk.until_audit("it", |line| {
        let cause = line.get("cause").and_then(|cause| cause.as_str()).unwrap_or_default();
        line["event"] == "alarm" && cause.contains("`ca.invalid`")
    });
}

#[test]
fn a_reload_takes_good_files_and_keeps_the_last_good_one() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    let two = format!("{ONE}  - {{ name: second, dns: [second], files: {{ directory: second }} }}\n");
    desk.configure(&two);
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "the second one", |status| status.ready && status.certificates.len() == 2);
    desk.configure(&two.replace("name: second", "nam: second"));
    agent.signal(Signal::HUP);
    desk.until_audit("refused", |line| line["event"] == "configuration" && line["name"] == "refused");
    assert_eq!(desk.status().expect("answers").certificates.len(), 2);
    desk.configure(&format!("{ONE}state_dir: elsewhere\n").replacen("state_dir: elsewhere\n", "", 1));
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "one again", |status| status.certificates.len() == 1);
    assert!(desk.path("second/tls.crt").exists(), "what is removed from the configuration stays on disk");
    assert_eq!(desk.count("certificate_issued"), 2);
}

#[test]
fn a_reload_refuses_a_directory_that_cannot_be_written_to() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready);
    desk.write("in-the-way", "a file, and no directory");
    let two = format!("{ONE}  - {{ name: second, dns: [second], files: {{ directory: in-the-way/tls }} }}\n");
    desk.configure(&two);
    agent.signal(Signal::HUP);
    desk.until_audit("refused", |line| {
        let cause = line.get("cause").and_then(|cause| cause.as_str()).unwrap_or_default();
        line["event"] == "configuration"
            && line["name"] == "refused"
            && cause.contains("portcullis.yaml:7:")
            && cause.contains("in-the-way")
    });
    assert_eq!(desk.status().expect("answers").certificates.len(), 1);
    // The last good configuration is the one that is worked with.
    let renewed = desk.renew("gateway").expect("renewed");
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(renewed.new_serial));
    fs::remove_file(desk.path("in-the-way")).expect("removed");
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "both", |status| status.ready && status.certificates.len() == 2);
}

#[test]
fn a_script_waits_until_everything_is_served() {
    let desk = Desk::new(ONE);
    let wait = |goal: &str, timeout: &str| desk.run(&["wait", "--for", goal, "--timeout", timeout]);
    let nobody = wait("served", "0s");
    assert_eq!(nobody.status.code(), Some(1));
    let words = stderr(&nobody);
    assert!(words.contains("not served after 0") && words.contains("is the agent running?"), "{words}");

    // It is begun before the agent is.
    let mut script = desk.command(&["wait", "--for", "served", "--timeout", "5m"]).spawn().expect("started");
    let mut agent = desk.start();
    assert_eq!(script.wait().expect("ours").code(), Some(0));
    let status = desk.status().expect("answers");
    let stored = status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone());
    assert_eq!((&status.certificates[0].installed, serial(&desk.path("tls/tls.crt"))), (&stored, stored.clone()));
    assert!(wait("served", "0s").status.success() && wait("ready", "1m").status.success());

    // A listener that is not there serves nothing.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    desk.configure(&format!(
        "{ONE}  - {{ name: edge, dns: [localhost], files: {{ directory: edge }}, served_at: [{{ address: \"{free}\" }}] }}\n"
    ));
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "both", |status| status.certificates.len() == 2);
    for (goal, why) in [("served", "`edge`"), ("ready", "edge")] {
        let output = wait(goal, "1s");
        assert_eq!(output.status.code(), Some(1), "{goal}");
        let words = stderr(&output);
        assert!(words.contains(&format!("not {goal} after 1s")) && words.contains(why), "{goal}: {words}");
        assert!(goal == "ready" || !words.contains("`gateway`"), "{words}");
    }
}

#[test]
fn the_program_says_how_it_is_used() {
    let desk = Desk::new(ONE);
    assert_eq!(desk.run(&["no-such-command"]).status.code(), Some(2));
    let mut command = desk.command(&["run"]);
    command.arg0("portcullis").arg("--config").arg("nowhere.yaml");
    let output = command.output().expect("built");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("portcullis init"), "{}", stderr(&output));
}
