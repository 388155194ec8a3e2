//! The calendar on the command line: history, simulations, windows.

use serde_json::Value;

use crate::support::Desk;
use crate::support::stderr;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], lifetime: 24h, files: { directory: tls } }\n";

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn history_tells_what_became_of_a_certificate() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    let first = desk.until(&mut agent, "ready", |status| status.ready).certificates[0].stored.clone().expect("stored");
    let renewed = desk.run(&["renew", "gateway"]);
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    desk.until_audit("the old one retired", |line| line["event"] == "retired");
    // Without the agent too.
    assert!(agent.terminate().success());

    let all = json(&desk.run(&["history", "gateway", "-o", "json"]));
    let events = all.as_array().expect("a list");
    let told: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(
        told,
        [
            "certificate_issued",
            "installed",
            "served",
            "renew_requested",
            "certificate_issued",
            "installed",
            "served",
            "retired"
        ]
    );
    assert_eq!((&events[4]["old"], &events[4]["cause"]), (&Value::from(first.serial.clone()), &"requested".into()));
    assert_eq!(events[4]["by"], "operator");
    let two = json(&desk.run(&["history", "gateway", "-o", "json", "--last", "2"]));
    assert_eq!(two.as_array().map(|two| two.as_slice()), events.get(6..));
    assert_eq!(json(&desk.run(&["history", "gateway", "-o", "json", "--since", "0s"])), Value::Array(Vec::new()));
    let table = stdout(&desk.run(&["history", "gateway", "--since", "1h"]));
    assert_eq!(table.lines().count(), 1 + events.len(), "{table}");
    assert!(table.contains(&first.serial[..12]) && table.contains("requested"), "{table}");
    let everything = stdout(&desk.run(&["history"]));
    assert!(everything.contains("agent_started") && everything.contains("ca_created"), "{everything}");

    let unknown = desk.run(&["history", "gatway"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("no certificate `gatway`"), "{}", stderr(&unknown));
    assert_eq!(desk.run(&["history", "gateway", "--since", "yesterday"]).status.code(), Some(2));
}

#[test]
fn a_simulation_says_by_its_exit_code_whether_an_outage_is_survived() {
    let desk = Desk::new(ONE);
    let short = desk.run(&["simulate", "gateway", "--for", "6h"]);
    assert_eq!(short.status.code(), Some(0), "{}", stderr(&short));
    let text = stdout(&short);
    assert!(text.contains("`built-in` goes away") && text.contains("is always served"), "{text}");
    assert!(stderr(&short).contains("does not run"), "{}", stderr(&short));

    let long = desk.run(&["simulate", "gateway", "--for", "36h", "-o", "json"]);
    assert_eq!(long.status.code(), Some(1));
    let long = json(&long);
    assert!(long["ends_at"].is_string() && long["successor_at"].is_string(), "{long}");
    assert_eq!(long["margin_seconds"], 0);
    let failed = long["failed_attempts"].as_u64().expect("a number");
    assert!(failed > 10, "{failed}");

    let calm = json(&desk.run(&["simulate", "gateway", "--days", "30", "--fresh", "-o", "json"]));
    assert_eq!((&calm["outages"], &calm["ends_at"]), (&Value::Array(Vec::new()), &Value::Null));
    assert!(calm["moments"].as_array().is_some_and(|moments| moments.len() > 40), "{calm}");

    let unknown = desk.run(&["simulate", "gatway"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("the configuration has `gateway`"), "{}", stderr(&unknown));
    assert_eq!(desk.run(&["simulate", "gateway", "--issuer-down-from", "6h"]).status.code(), Some(2), "for how long?");
}

#[test]
fn a_simulation_begins_with_what_the_agent_holds() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "ready", |status| status.ready);
    let held = status.certificates[0].renew_at.expect("planned").as_second();
    let output = desk.run(&["simulate", "gateway", "-o", "json"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let moments = json(&output)["moments"].clone();
    let first: jiff::Timestamp = moments[0]["time"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(first.as_second(), held, "renewed when the agent has planned it: {moments}");
    assert_eq!(moments[0]["cause"], "due");
}

#[test]
fn a_blackout_refuses_an_operator_and_says_how_to_go_on() {
    let desk = Desk::new(&format!("{ONE}blackout: [{{ cron: \"* * * * *\", for: 1m }}]\n"));
    let never = desk.run(&["run", "--check"]);
    assert_eq!(never.status.code(), Some(1));
    assert!(stderr(&never).contains("no planned renewal may ever begin"), "{}", stderr(&never));
    let (from, to) =
        ("2020-01-01", jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(6)).expect("a time"));
    desk.configure(&format!("{ONE}blackout: [{{ from: {from}, to: \"{to}\" }}]\n"));
    let mut agent = desk.start();
    let first = desk.until(&mut agent, "ready, for what is missing waits for nothing", |status| status.ready);
    let refused = desk.run(&["renew", "gateway"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("blackout until") && stderr(&refused).contains("--emergency"),
        "{}",
        stderr(&refused)
    );
    let renewed = desk.run(&["renew", "gateway", "--emergency"]);
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    let second = desk.status().expect("a status");
    let serial =
        |status: &portcullis::status::Status| status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone());
    assert_ne!(serial(&first), serial(&second));
    assert!(second.certificates[0].renew_at.is_some_and(|at| at >= to), "planned for after the blackout");
}
