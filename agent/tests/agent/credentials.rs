//! Credentials that rotate: where they go, what is written of them, what becomes of them when the agent dies.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use portcullis::rotation::failpoint;
use portcullis::status::CredentialStatus;
use portcullis::status::Status;
use rustix::process::Signal;
use serde_json::Value;

use crate::support;
use crate::support::Agent;
use crate::support::Desk;
use crate::support::stderr;

/// A program that keeps what it is told, one line each, and lets in whoever comes with what was set last.
const TARGET: &str = r#"#!/bin/sh
told=$(cat)
printf '%s\n' "$told" >> told.jsonl
secret=$(printf '%s' "$told" | sed 's/.*"secret":"\([^"]*\)".*/\1/')
case "$told" in
  *'"action":"set"'*) printf '%s' "$secret" > secret.new && mv secret.new secret; [ ! -e refuse-set ] ;;
  *'"action":"test"'*) [ ! -e refuse-test ] && [ "$secret" = "$(cat secret)" ] ;;
esac
"#;

fn of<'a>(status: &'a Status, name: &str) -> &'a CredentialStatus {
    status.credentials.iter().find(|credential| credential.name == name).expect("a credential of that name")
}

fn at_rest(status: &Status, name: &str) -> bool {
    status.ready && of(status, name).id.is_some() && matches!(of(status, name).state.as_str(), "served" | "retired")
}

fn read(desk: &Desk, name: &str) -> String {
    let output = desk.run(&["credential", "read", name, "--why", "a test"]);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn rotate(desk: &Desk, name: &str) -> Value {
    let output = desk.run(&["credential", "rotate", name, "-o", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Everything below the state directory, as bytes.
fn at_rest_bytes(desk: &Desk) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(desk.path("state")).expect("a directory").flatten() {
        bytes.extend(fs::read(entry.path()).unwrap_or_default());
    }
    bytes
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

const FORMS: &str = r#"certificates: []
credentials:
  - name: orders-db
    consumers: [orders]
    source: { password: { length: 40 } }
    accounts: ["or:ders"]
    files:
      directory: secrets
      mode: "0640"
      write:
        - { name: password }
        - { name: .pgpass, as: { pgpass: { host: db.example, port: 5432 } } }
        - { name: .env, as: { dotenv: { account: DB_USER, secret: DB_PASSWORD } } }
        - { name: db.json, as: { json: { user: "{account}", password: "{secret}", n: 1 } } }
        - { name: dsn, as: { template: "postgres://{account}:{secret}@db/{{x}}" } }
    hooks:
      - { run: [sh, -c, "cat >> hook.jsonl"] }
"#;

#[test]
fn a_password_is_everywhere_in_its_form_and_nowhere_else() {
    let hook = FORMS.replace("cat >> hook.jsonl", "cat >> HOOK");
    let desk = Desk::new("certificates: []\n");
    desk.configure(&hook.replace("HOOK", &desk.path("hook.jsonl").display().to_string()));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "orders-db"));
    let file = |name: &str| fs::read_to_string(desk.path("secrets").join(name)).expect("a file");
    let secret = file("password");
    assert_eq!(secret.len(), 40);
    assert_eq!(file(".pgpass"), format!("db.example:5432:*:or\\:ders:{secret}\n"));
    assert_eq!(file(".env"), format!("DB_USER=\"or:ders\"\nDB_PASSWORD=\"{secret}\"\n"));
    assert_eq!(file("dsn"), format!("postgres://or:ders:{secret}@db/{{x}}"));
    let document: Value = serde_json::from_str(&file("db.json")).expect("JSON");
    assert_eq!((document["user"].as_str(), document["password"].as_str()), (Some("or:ders"), Some(secret.as_str())));
    let mode = fs::metadata(desk.path("secrets/password")).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    assert_eq!(read(&desk, "orders-db"), secret);

    let rotated = rotate(&desk, "orders-db");
    let second = file("password");
    assert_ne!(second, secret);
    assert_eq!(rotated["name"], "orders-db");
    let status = desk.status().expect("a status");
    assert_eq!(of(&status, "orders-db").id.as_deref(), rotated["new_id"].as_str());
    desk.until_audit("the rotation, with who asked and whose it is", |line| {
        line["event"] == "served"
            && line.get("old") == rotated.get("old_id")
            && line.get("new") == rotated.get("new_id")
            && line.get("consumers").is_some_and(|all| all[0] == "orders")
            && line["by"].as_str().is_some_and(|by| by.starts_with("user "))
    });
    desk.until_audit("who read it, and why", |line| {
        line["event"] == "credential_read" && line.get("cause").is_some_and(|cause| cause == "a test")
    });
    let told = fs::read_to_string(desk.path("hook.jsonl")).expect("told");
    assert_eq!(told.matches("\"event\":\"published\"").count(), 2, "{}", told.len());
    assert!(told.contains(&second) && told.contains("\"account\":\"or:ders\""));

    let (log, state) = (agent.log(), at_rest_bytes(&desk));
    for secret in [&secret, &second] {
        assert!(!log.contains(secret.as_str()), "not in the log");
        assert!(!contains(&state, secret), "not in the store, nor in the audit log");
    }
    assert!(contains(&state, "aes256gcm1:"));
    assert!(desk.run(&["audit", "verify"]).status.success());
    let history = desk.run(&["history", "orders-db"]);
    assert!(history.status.success(), "{}", stderr(&history));
    assert!(String::from_utf8_lossy(&history.stdout).contains("served"), "{history:?}");

    // Somebody changes a file: it is put right.
    fs::remove_file(desk.path("secrets/password")).expect("a link");
    assert!(agent.terminate().success());
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "orders-db"));
    support::poll(|| fs::read_to_string(desk.path("secrets/password")).ok(), || "the file to come back".to_owned());
    assert_eq!((file("password"), read(&desk, "orders-db")), (second.clone(), second), "a start changes nothing");
}

#[test]
fn one_that_is_made_on_first_use_is_there_while_it_is_used() {
    let desk = Desk::new(
        "certificates: []\ncredentials:\n  - { name: once, source: { password: {} }, issue: on_first_use, idle: 2s }\n",
    );
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "ready", |status| status.ready);
    assert_eq!(
        (of(&status, "once").id.as_deref(), of(&status, "once").waits_for.as_deref()),
        (None, Some("first_use"))
    );
    let (first, again) = (read(&desk, "once"), read(&desk, "once"));
    assert_eq!((first.len(), &first), (32, &again));
    desk.until(&mut agent, "given back", |status| of(status, "once").id.is_none());
    desk.until_audit("that nobody used it", |line| line["event"] == "credential_idle");
    assert_ne!(read(&desk, "once"), first);
    let unknown = desk.run(&["credential", "read", "twice"]);
    assert!(
        unknown.status.code() == Some(1) && stderr(&unknown).contains("the configuration has `once`"),
        "{unknown:?}"
    );
}

/// The line of it that says where.
const SET_ON: &str = "    set_on: { program: { run: [\"./target.sh\"], keeps_two: true } }\n";
const SET: &str = "certificates: []
credentials:
  - name: db
    source: { password: {} }
    set_on: { program: { run: [\"./target.sh\"], keeps_two: true } }
    accounts: [orders]
    overlap: 0s
    files: { directory: secrets, write: [{ name: password }] }
";

fn with_target() -> Desk {
    let desk = Desk::new("certificates: []\n");
    target(&desk, "target.sh", ".");
    desk.configure(SET);
    desk
}

/// A target of its own, which keeps what it is told in a directory.
fn target(desk: &Desk, program: &str, directory: &str) {
    let there = desk.path(directory).display().to_string();
    desk.write(program, &TARGET.replacen("\n", &format!("\ncd '{there}' || exit 1\n"), 1));
    fs::set_permissions(desk.path(program), fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// The secrets of what the target was told to do.
fn told(desk: &Desk, action: &str) -> Vec<String> {
    let text = fs::read_to_string(desk.path("told.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["action"] == action);
    lines.map(|line| line["secret"].as_str().unwrap_or_default().to_owned()).collect()
}

fn password(desk: &Desk) -> String {
    fs::read_to_string(desk.path("secrets/password")).unwrap_or_default()
}

#[test]
fn wherever_the_agent_dies_the_same_value_is_set_again_and_published() {
    let desk = with_target();
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    assert!(agent.terminate().success());
    // An edge of certificates, beside what comes after the edges of a credential.
    for place in failpoint::of_credentials() {
        let (before, known) = (password(&desk), told(&desk, "set").len());
        let mut agent = desk.start_with(Some(&place));
        rotate_to_die(&desk, &mut agent, &place);
        assert!(!password(&desk).is_empty(), "{place}: there is one all the time");
        let mut agent = desk.start();
        desk.until(&mut agent, &place, |status| at_rest(status, "db") && of(status, "db").state == "retired");
        let set: BTreeSet<String> = told(&desk, "set").into_iter().skip(known).collect();
        assert!(set.len() <= 1, "{place}: one value, however often it is set");
        let now = password(&desk);
        if let Some(set) = set.first() {
            assert_eq!(&now, set, "{place}: what is set is what is published");
            assert_ne!(now, before, "{place}");
        }
        assert_eq!(fs::read_to_string(desk.path("secret")).expect("set"), now, "{place}: it lets in");
        assert!(desk.run(&["audit", "verify"]).status.success(), "{place}");
        assert!(agent.terminate().success());
    }
}

/// Asks for a rotation until the agent has died of it.
fn rotate_to_die(desk: &Desk, agent: &mut Agent, place: &str) {
    let asked = || {
        desk.run(&["credential", "rotate", "db"]);
        agent.has_ended().then_some(())
    };
    support::poll(asked, || format!("{place}: the agent goes on"));
}

#[test]
fn what_does_not_let_in_is_never_published_and_the_same_value_goes_on() {
    let desk = with_target();
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let first = password(&desk);
    for (fault, step) in [("refuse-test", "check"), ("refuse-set", "obtain")] {
        let known = told(&desk, "set").len();
        desk.write(fault, "");
        let failed = desk.run(&["credential", "rotate", "db"]);
        assert!(!failed.status.success() && stderr(&failed).contains(&format!("{step} failed")), "{}", stderr(&failed));
        let status = desk.status().expect("a status");
        assert!(!status.ready && status.reasons.iter().any(|reason| reason.contains("credential `db`")), "{status:?}");
        assert!(of(&status, "db").next_attempt.is_some() && of(&status, "db").failures > 0);
        let before = password(&desk);
        desk.until(&mut agent, "tried again", |status| of(status, "db").failures > 2);
        assert_eq!(password(&desk), before, "{fault}: nothing is published");
        fs::remove_file(desk.path(fault)).expect("removed");
        desk.until(&mut agent, "rotated after all", |status| at_rest(status, "db") && of(status, "db").failures == 0);
        let set: BTreeSet<String> = told(&desk, "set").into_iter().skip(known).collect();
        assert_eq!(set.len(), 1, "{fault}: the same value each time");
        assert_eq!(Some(&password(&desk)), set.first(), "{fault}");
    }
    assert_ne!(password(&desk), first);
    desk.until_audit("the alarm", |line| {
        let cause = line.get("cause").and_then(Value::as_str);
        line["event"] == "alarm" && cause.is_some_and(|cause| cause.starts_with("check: "))
    });
}

#[test]
fn a_remedy_is_told_what_failed_what_was_tried_when_it_is_next_and_when_it_is_too_late() {
    let desk = with_target();
    let heard = desk.path("remedied.jsonl");
    let file = heard.display();
    desk.configure(&format!("remedies: [{{ run: [sh, -c, \"cat >> {file}; echo >> {file}\"] }}]\n{SET}"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let told = || -> Vec<Value> {
        let text = fs::read_to_string(&heard).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let time = |report: &Value, name: &str| report[name].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    assert_eq!(told(), Vec::<Value>::new(), "nothing failed");
    for (fault, failure, step) in [("refuse-set", "target_failed", "obtain"), ("refuse-test", "login_failed", "check")]
    {
        let ends = of(&desk.status().expect("a status"), "db").not_after;
        let before = jiff::Timestamp::now();
        desk.write(fault, "");
        assert!(!desk.run(&["credential", "rotate", "db"]).status.success(), "{fault}");
        desk.until(&mut agent, "tried again", |status| of(status, "db").failures > 2);
        let of_it = || told().into_iter().filter(|report| report["failure"] == failure).collect::<Vec<_>>();
        let reports = support::poll(|| Some(of_it()).filter(|all| !all.is_empty()), || format!("{failure} to be told"));
        let first = &reports[0];
        let who = (&first["name"], &first["step"], &first["failures"]);
        assert_eq!(who, (&"db".into(), &step.into(), &1.into()), "{first}");
        assert!(first["error"].as_str().is_some_and(|error| error.contains("target.sh")), "{first}");
        assert!(
            first["tried"][0].as_str().is_some_and(|tried| tried.contains(&format!("`{step}`, 1 times"))),
            "{first}"
        );
        assert!(time(first, "next_attempt").is_some_and(|at| at.as_second() >= before.as_second()), "{first}");
        assert_eq!((time(first, "outage_at"), ends.is_some()), (ends, true), "{first}");
        let at: Vec<u64> = reports.iter().filter_map(|report| report["failures"].as_u64()).collect();
        assert!(at.iter().all(|failures| failures.is_power_of_two()), "once, and ever less often: {at:?}");
        fs::remove_file(desk.path(fault)).expect("removed");
        desk.until(&mut agent, "rotated after all", |status| at_rest(status, "db") && of(status, "db").failures == 0);
        desk.until_audit("the remedy", |line| {
            let cause = line.get("cause").and_then(Value::as_str);
            line["event"] == "remedied" && cause.is_some_and(|cause| cause.starts_with(&format!("{failure}: ")))
        });
    }
}

#[test]
fn what_was_set_and_could_not_be_published_is_published_with_the_same_value() {
    let desk = with_target();
    let (refuse, heard) = (desk.path("refuse-hook"), desk.path("hook.jsonl"));
    let (shown, file) = (refuse.display(), heard.display());
    let hook = format!("    hooks: [{{ run: [sh, -c, \"[ ! -e {shown} ] && cat >> {file} && echo >> {file}\"] }}]\n");
    desk.configure(&format!("{SET}{hook}"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let known = told(&desk, "set").len();
    desk.write("refuse-hook", "");
    let failed = desk.run(&["credential", "rotate", "db"]);
    assert!(!failed.status.success() && stderr(&failed).contains("install failed"), "{}", stderr(&failed));
    desk.until(&mut agent, "tried again", |status| of(status, "db").failures > 2 && !status.ready);
    fs::remove_file(&refuse).expect("removed");
    desk.until(&mut agent, "published after all", |status| at_rest(status, "db") && of(status, "db").failures == 0);
    let set = told(&desk, "set");
    assert_eq!(set.len(), known + 1, "set once");
    let heard = fs::read_to_string(heard).expect("told");
    let last: Value = serde_json::from_str(heard.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(
        (last["secret"].as_str(), Some(password(&desk).as_str())),
        (set.last().map(String::as_str), set.last().map(String::as_str))
    );
}

#[test]
fn a_link_in_the_place_of_its_directory_or_of_a_file_in_it_is_not_followed() {
    let desk = with_target();
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let (first, files) = (password(&desk), desk.path("secrets"));
    let (aside, victim) = (desk.path("aside"), desk.path("victim"));
    fs::create_dir(&victim).expect("made");
    desk.write("victim/password", "precious");

    fs::rename(&files, &aside).expect("moved");
    symlink(&victim, &files).expect("a link");
    let failed = desk.run(&["credential", "rotate", "db"]);
    assert!(!failed.status.success() && stderr(&failed).contains("is a link or no directory"), "{}", stderr(&failed));
    let elsewhere: Vec<_> =
        fs::read_dir(&victim).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(elsewhere, ["password"], "nothing is written there");
    assert_eq!(fs::read_to_string(aside.join("password")).expect("kept"), first);

    // The name that readers open, led elsewhere: it is put right, and what it led to is left alone.
    fs::remove_file(&files).expect("removed");
    fs::rename(&aside, &files).expect("moved back");
    fs::remove_file(files.join("password")).expect("removed");
    symlink(victim.join("password"), files.join("password")).expect("a link");
    desk.until(&mut agent, "published after all", |status| at_rest(status, "db") && of(status, "db").failures == 0);
    support::poll(|| (password(&desk) == read(&desk, "db")).then_some(()), || format!("its own: {}", password(&desk)));
    assert_eq!(fs::read_to_string(victim.join("password")).expect("kept"), "precious");
    assert_eq!(told(&desk, "set").last(), Some(&password(&desk)));
}

#[test]
fn what_somebody_else_changed_at_the_target_is_made_anew() {
    let desk = with_target();
    desk.configure(&format!("verify_every: 1s\n{SET}"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let first = password(&desk);
    desk.write("secret", "somebody-elses");
    desk.until_audit("that it does not let in", |line| {
        line["event"] == "served" && line.get("cause").is_some_and(|cause| cause == "login_refused")
    });
    desk.until(&mut agent, "well again", |status| at_rest(status, "db"));
    let now = password(&desk);
    assert!(now != first && fs::read_to_string(desk.path("secret")).expect("set") == now);
}

#[test]
fn a_target_that_lets_nobody_in_whatever_the_value_keeps_it_and_says_so() {
    let desk = with_target();
    // 76: not a refused login, as where a `pg_hba.conf` was changed or a database is gone.
    let target = fs::read_to_string(desk.path("target.sh")).expect("a program");
    let target = target.replace("'\"action\":\"test\"'*)", "'\"action\":\"test\"'*) [ ! -e closed ] || exit 76;");
    fs::write(desk.path("target.sh"), target).expect("written");
    desk.configure(&format!("verify_every: 1s\n{SET}"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let (first, tested) = (password(&desk), told(&desk, "test").len());
    desk.write("closed", "");
    // More looks than it takes to make another one where the value is refused.
    support::poll(|| (told(&desk, "test").len() > tested + 2).then_some(()), || "looked at in vain".to_owned());
    let status = desk.until(&mut agent, "the reason", |status| of(status, "db").last_error.is_some());
    assert!(!status.ready && status.reasons.iter().any(|reason| reason.contains("credential `db`")), "{status:?}");
    assert_eq!((told(&desk, "set").len(), password(&desk)), (1, first.clone()), "the same value");
    let alarms = desk.audit().iter().filter(|line| line["event"] == "alarm").count();
    assert_eq!(alarms, 1, "one line a series");
    fs::remove_file(desk.path("closed")).expect("removed");
    desk.until(&mut agent, "well again", |status| at_rest(status, "db") && of(status, "db").last_error.is_none());
    desk.until_audit("the end of the alarm", |line| line["event"] == "alarm_cleared");

    // Where it is set nowhere any more, nobody has to let in.
    desk.write("closed", "");
    desk.until(&mut agent, "closed again", |status| !status.ready && of(status, "db").last_error.is_some());
    desk.configure(&format!("verify_every: 1s\n{}", SET.replace(SET_ON, "")));
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "well without it", |status| at_rest(status, "db") && of(status, "db").last_error.is_none());
    assert_eq!((told(&desk, "set").len(), password(&desk)), (1, first));
}

#[test]
fn what_is_good_where_the_configuration_no_longer_leads_is_said_to_be_left_behind() {
    let desk = with_target();
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "published", |status| at_rest(status, "db"));
    let (first, id) = (password(&desk), of(&status, "db").id.clone().expect("an id"));
    let is_of_first = |line: &BTreeMap<String, Value>| line.get("old").is_some_and(|old| *old == id);
    fs::create_dir(desk.path("elsewhere")).expect("made");
    target(&desk, "other.sh", "elsewhere");
    desk.configure(&SET.replace("target.sh", "other.sh"));
    agent.signal(Signal::HUP);
    desk.until_audit("that it is left behind", |line| {
        let cause = line.get("cause").and_then(Value::as_str).unwrap_or_default();
        line["event"] == "left_behind" && is_of_first(line) && cause.contains("/target.sh") && cause.contains(" until ")
    });
    desk.until(&mut agent, "published", |status| at_rest(status, "db") && of(status, "db").id != Some(id.clone()));
    let set = fs::read_to_string(desk.path("elsewhere/secret")).expect("set there");
    assert_eq!(set, password(&desk), "another value, at the other target");
    assert_eq!(fs::read_to_string(desk.path("secret")).expect("set"), first, "nobody touched the first");
    assert_eq!(told(&desk, "retire"), Vec::<String>::new());

    // What is within reach is taken away as ever.
    rotate(&desk, "db");
    desk.until_audit("that the second is gone", |line| line["event"] == "retired" && !is_of_first(line));
    assert!(!desk.audit().iter().any(|line| line["event"] == "retired" && is_of_first(line)));
}

#[test]
fn what_cannot_be_written_at_a_start_is_when_it_can_be() {
    let desk = Desk::new("certificates: []\n");
    desk.configure(FORMS.split("    hooks:").next().expect("a text"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "orders-db"));
    assert!(agent.terminate().success());
    // Somebody else has the directory.
    let files = portcullis::config::Files {
        directory: desk.path("secrets"),
        keep: 1,
        mode: 0o640,
        owner: None,
        group: None,
        combined: false,
    };
    let held = portcullis::generation::Generations::open(&files).expect("free");
    fs::remove_file(desk.path("secrets/password")).expect("a link");
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "the reason", |status| of(status, "orders-db").last_error.is_some());
    assert!(!status.ready && of(&status, "orders-db").next_attempt.is_some(), "{status:?}");
    drop(held);
    // Nobody reloads.
    desk.until(&mut agent, "published", |status| at_rest(status, "orders-db"));
    assert!(desk.path("secrets/password").exists());
}

/// So many seconds from now.
fn ahead(seconds: i64) -> jiff::Timestamp {
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).expect("a time");
    now.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time")
}

#[test]
fn a_blackout_refuses_an_operator_and_says_how_to_go_on() {
    let until = ahead(6 * 3_600);
    let desk = with_target();
    desk.configure(&format!("{SET}    blackout: [{{ from: 2020-01-01, to: \"{until}\" }}]\n"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published, for what is missing waits for nothing", |status| at_rest(status, "db"));
    let first = password(&desk);
    let refused = desk.run(&["credential", "rotate", "db"]);
    let words = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("blackout until {until}")) && words.contains("--emergency"), "{words}");
    assert_eq!((password(&desk), told(&desk, "set").len()), (first.clone(), 1));
    let rotated = desk.run(&["credential", "rotate", "db", "--emergency"]);
    assert!(rotated.status.success(), "{}", stderr(&rotated));
    assert_ne!(password(&desk), first);
    assert_eq!(
        (told(&desk, "set").len(), desk.count("renew_requested")),
        (2, 1),
        "nobody was asked by the one refused"
    );
}

#[test]
fn what_is_due_waits_for_its_window_and_an_operator_does_not() {
    // Due after twenty seconds at most; a minute of six is open, the next time in two minutes or more.
    let brief = SET.replace("    overlap: 0s\n", "    overlap: 0s\n    lifetime: 400s\n    rotate_after: 0.05\n");
    let opens = jiff::Timestamp::now().as_second() / 60 + 3;
    let desk = with_target();
    desk.configure(&format!("{brief}    renew_window: [{{ cron: \"{}-59/6 * * * *\", for: 1m }}]\n", opens % 6));
    let mut agent = desk.start();
    let waits = |status: &Status| of(status, "db").waits_for.as_deref() == Some("closed");
    let status = desk.until(&mut agent, "due and closed", waits);
    let (first, of_db) = (of(&status, "db").id.clone(), of(&status, "db"));
    assert!(of_db.rotate_at.is_some_and(|at| at <= jiff::Timestamp::now()) && of_db.failures == 0, "{of_db:?}");
    assert_eq!(of_db.next_attempt.map(jiff::Timestamp::as_second), Some(opens * 60), "{of_db:?}");
    let rotated = rotate(&desk, "db");
    assert_ne!(rotated["new_id"].as_str(), first.as_deref(), "it holds up the schedule, and nobody who asks");

    let status = desk.until(&mut agent, "due and closed again", waits);
    let second = of(&status, "db").id.clone();
    desk.configure(&brief);
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "open", |status| of(status, "db").id != second);
    desk.until_audit("that it was due", |line| {
        let is_second = line.get("old").and_then(Value::as_str) == second.as_deref();
        is_second && line["event"] == "served" && line.get("cause").is_some_and(|cause| cause == "due")
    });
}

#[test]
fn what_was_made_at_once_is_not_rotated_at_once() {
    let names = ["orders", "stock", "bills", "mail"];
    let one = |name: &&str| format!("  - {{ name: {name}, source: {{ password: {{}} }}, lifetime: 30d, sds: {{}} }}\n");
    let all: String = names.iter().map(one).collect();
    let desk = Desk::new(&format!("certificates: []\ncredentials:\n{all}"));
    let mut agent = desk.start();
    let is_planned = |status: &Status| status.credentials.iter().all(|credential| credential.rotate_at.is_some());
    let status = desk.until(&mut agent, "planned", is_planned);
    let plans: Vec<i64> = status
        .credentials
        .iter()
        .filter_map(|credential| Some(credential.rotate_at?.as_second() - credential.since?.as_second()))
        .collect();
    let (day, two_thirds) = (86_400, 20 * 86_400);
    assert!(plans.len() == 4 && plans.iter().all(|plan| (two_thirds - 3 * day / 2..=two_thirds).contains(plan)));
    assert!(plans.iter().collect::<BTreeSet<_>>().len() > 1, "each has a draw of its own: {plans:?}");
}

/// A token endpoint: what it gives lives for so many seconds.
fn token_endpoint(seconds: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // Ends with the test program.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = Vec::new();
            while !asked.ends_with(b"client_credentials") {
                let mut part = [0; 4_096];
                match stream.read(&mut part) {
                    Ok(length @ 1..) => asked.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            let seconds = seconds.load(Ordering::Relaxed);
            let body =
                format!(r#"{{"access_token":"token-of-{seconds}","token_type":"Bearer","expires_in":{seconds}}}"#);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

#[test]
fn what_ends_before_everybody_could_have_it_is_not_published() {
    let seconds = Arc::new(AtomicU64::new(600));
    let endpoint = token_endpoint(Arc::clone(&seconds));
    let desk = Desk::new("certificates: []\n");
    desk.write("client-secret", "s3cret");
    desk.configure(&format!(
        "certificates: []\ncredentials:\n  - name: token\n    \
         source: {{ oauth: {{ token_endpoint: \"http://{endpoint}/token\", \
         client: {{ client_secret_basic: {{ id: agent, secret_file: client-secret }} }} }} }}\n    \
         files: {{ directory: secrets, write: [{{ name: token }}] }}\n"
    ));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "token"));
    let file = || fs::read_to_string(desk.path("secrets/token")).unwrap_or_default();
    assert_eq!(file(), "token-of-600");
    seconds.store(1, Ordering::Relaxed);
    let failed = desk.run(&["credential", "rotate", "token"]);
    let words = stderr(&failed);
    assert!(!failed.status.success() && words.contains("ends at") && words.contains("longer ones"), "{words}");
    assert_eq!(file(), "token-of-600", "what was good stays");
    assert!(!desk.status().expect("a status").ready);
    seconds.store(900, Ordering::Relaxed);
    desk.until(&mut agent, "rotated after all", |status| at_rest(status, "token") && of(status, "token").failures == 0);
    assert_eq!(file(), "token-of-900");
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused_where_it_is_written() {
    let credential = |rest: &str| format!("certificates: []\ncredentials:\n  - {{ name: a, {rest} }}\n");
    let password = "source: { password: {} }";
    let files = |write: &str| credential(&format!("{password}, files: {{ directory: d, write: [{write}] }}"));
    for (name, config, want) in [
        ("no source", credential("source: {}, sds: {}"), "name one source"),
        ("two", credential("source: { password: {}, session_ticket_keys: {} }, sds: {}"), "name one source"),
        ("a password that is guessed", credential("source: { password: { length: 8 } }, sds: {}"), "22 to 1024"),
        ("nowhere to go", credential(password), "it goes nowhere"),
        ("shared", credential(&format!("{password}, sds: {{}}, consumers: [x, y]")), "`shared: true`"),
        ("set on nobody", credential(&format!("{password}, sds: {{}}, accounts: [x, y]")), "one account at most"),
        (
            "too long a life",
            format!("credential_lifetime_max: 1h\n{}", credential(&format!("{password}, sds: {{}}, lifetime: 2h"))),
            "credential_lifetime_max",
        ),
        ("a template without an end", files("{ name: f, as: { template: '{secret' } }"), "not closed"),
        ("a placeholder", files("{ name: f, as: { json: { a: '{password}' } } }"), "`{password}` is not known"),
        ("a path", files("{ name: ../f }"), "not a name of its own"),
        ("an account that is not there", files("{ name: f, as: { pgpass: { host: h } } }"), "this credential has none"),
        (
            "hooks of a ring",
            credential("source: { session_ticket_keys: {} }, sds: {}, hooks: [{ run: [sh] }]"),
            "a ring of keys",
        ),
        ("twice", files("{ name: f }, { name: f }"), "not a name of its own"),
        ("a variable", files("{ name: f, as: { dotenv: { secret: 1A } } }"), "not the name of a variable"),
        ("a key set of a password", files("{ name: f, as: jwks }"), "only a `signing_key`"),
        ("a signing key for proxies", credential("source: { signing_key: {} }, sds: {}"), "stays with the agent"),
        (
            "a ring on first use",
            credential("source: { session_ticket_keys: {} }, sds: {}, issue: on_first_use"),
            "before anybody asks",
        ),
        (
            "ticket keys as files",
            credential("source: { session_ticket_keys: {} }, files: { directory: d, write: [{ name: f }] }"),
            "over SDS alone",
        ),
        (
            "a token of nobody's key",
            credential("source: { token: { signed_by: b, issuer: i, subject: s, audience: [x] } }, sds: {}"),
            "no credential `b`",
        ),
        (
            "a claim that is ours",
            credential(
                "source: { token: { signed_by: b, issuer: i, subject: s, audience: [x], claims: { exp: 1 } } }, sds: {}",
            ),
            "`exp` is the agent's",
        ),
        ("an unknown key", credential(&format!("{password}, sds: {{}}, rotate: 1h")), "unknown field `rotate`"),
    ] {
        let desk = Desk::new(&config);
        let mut agent = desk.start();
        assert!(!agent.ended().success(), "{name}");
        let log = agent.log();
        assert!(log.contains(want) && log.contains("portcullis.yaml:"), "{name}: {log}");
    }
}

#[test]
fn a_store_that_is_read_elsewhere_shows_nothing_and_a_lost_key_is_told() {
    let desk = Desk::new("certificates: []\n");
    desk.configure(FORMS.split("    hooks:").next().expect("a text"));
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "orders-db"));
    let first = read(&desk, "orders-db");
    assert!(agent.terminate().success());
    let key = desk.path("state/seal.key");
    assert_eq!(fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    fs::remove_file(&key).expect("removed");
    let mut agent = desk.start();
    desk.until(&mut agent, "published", |status| at_rest(status, "orders-db"));
    desk.until_audit("the alarm", |line| {
        line["event"] == "alarm" && line.get("cause").is_some_and(|cause| cause == "record_unreadable")
    });
    assert_ne!(read(&desk, "orders-db"), first, "another one is made");
    assert!(agent.terminate().success());
    desk.configure(&format!("seal_key_file: elsewhere\n{}", FORMS.split("    hooks:").next().expect("a text")));
    let mut agent = desk.start();
    assert!(!agent.ended().success());
    assert!(agent.log().contains("elsewhere") && agent.log().contains("the key that credentials are sealed with"));
}
