//! Edits of the policy file as they reach the status; what reaches a proxy is told with the real one.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Desk;

const POLICY: &str = "\
version: 1
trust_domain: acme.example
roles:
  reader: [ { spiffe: \"spiffe://acme.example/reader\" } ]
rules:
  - { id: read, allow: [reader], methods: [GET], paths: [\"/a\"] }
";

const REST: &str = "certificates: []\npolicy: policy.yaml\nfilter: { name: portcullis, wasm: filter.wasm }\n";

/// A way of saving a file.
type Save<'a> = &'a dyn Fn(&str);

fn desk() -> Desk {
    let desk = Desk::new(REST);
    desk.write("policy.yaml", POLICY);
    desk.write("filter.wasm", "\0asm\u{1}\0\0\0");
    desk
}

#[test]
fn every_way_of_saving_takes_effect_and_a_bad_file_changes_nothing() {
    let desk = desk();
    let mut agent = desk.start();
    let mut version = desk.until(&mut agent, "in force", |status| status.policy.version.is_some()).policy.version;
    let edit = |path: &str| POLICY.replace("/a", path);
    let in_place = |text: &str| desk.write("policy.yaml", text);
    let renamed = |text: &str| {
        desk.write("policy.yaml.swp", text);
        fs::rename(desk.path("policy.yaml.swp"), desk.path("policy.yaml")).expect("renamed");
    };
    let removed_first = |text: &str| {
        fs::remove_file(desk.path("policy.yaml")).expect("removed");
        desk.write("policy.yaml", text);
    };
    let in_two_halves = |text: &str| {
        desk.write("policy.yaml", &text[..text.len() / 2]);
        desk.write("policy.yaml", text);
    };
    let ways: [(&str, Save<'_>); 4] = [
        ("in place", &in_place),
        ("renamed over", &renamed),
        ("removed first", &removed_first),
        ("in two halves", &in_two_halves),
    ];
    for (at, (way, save)) in ways.into_iter().enumerate() {
        let saved = Instant::now();
        save(&edit(&format!("/{at}")));
        let new =
            desk.until(&mut agent, way, |status| status.policy.version != version && status.policy.error.is_none());
        println!("{way}: in force after {:?}", saved.elapsed());
        version = new.policy.version;
    }
    assert_eq!(desk.count("policy_refused"), 0, "no half of a file was taken for a whole one");

    for (name, bad, place) in [
        ("an unknown field", POLICY.replace("allow:", "alow:"), "policy.yaml:6:"),
        ("not YAML", POLICY.replace("[reader]", "[reader"), "policy.yaml:"),
        (
            "what the agent writes itself",
            format!("{POLICY}revocations: {{ keys: \"AQEBAQEBAQEBAQEBAQEBAQ==\" }}\n"),
            "policy.yaml:7:",
        ),
        ("a role that is not there", POLICY.replace("allow: [reader]", "allow: [nobody]"), "policy.yaml:6:"),
    ] {
        renamed(&bad);
        let status = desk.until(&mut agent, name, |status| status.policy.error.is_some());
        let error = status.policy.error.clone().unwrap_or_default();
        assert!(error.contains(place), "{name}: {error}");
        assert_eq!(status.policy.version, version, "{name}: the last good one stays");
        assert!(!status.ready);
        renamed(&edit("/3"));
        desk.until(&mut agent, "repaired", |status| status.policy.error.is_none());
    }
}

#[test]
fn the_last_good_policy_outlives_a_restart() {
    let desk = desk();
    let mut agent = desk.start();
    let version = desk.until(&mut agent, "in force", |status| status.policy.version.is_some()).policy.version;
    assert!(agent.terminate().success());
    desk.write("policy.yaml", "version: 1\nrules: 7\n");
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "started", |status| status.policy.version.is_some());
    assert_eq!(status.policy.version, version);
    assert!(status.policy.error.is_some_and(|error| error.contains("policy.yaml:")));
    fs::remove_file(desk.path("policy.yaml")).expect("removed");
    desk.until(&mut agent, "a missing file", |status| {
        status.policy.error.as_ref().is_some_and(|error| error.contains("cannot read"))
            && status.policy.version == version
    });
}

#[test]
fn a_filter_that_is_taken_out_is_not_waited_for() {
    let desk = desk();
    let mut agent = desk.start();
    // No proxy takes the policy: there is none.
    let status = desk.until(&mut agent, "in force", |status| status.policy.version.is_some());
    assert!(!status.ready);
    desk.configure("certificates: []\n");
    agent.signal(Signal::HUP);
    let status = desk.until(&mut agent, "ready without a filter", |status| status.ready);
    assert_eq!((status.policy.version, status.policy.file.as_str()), (None, ""));
    desk.configure(REST);
    agent.signal(Signal::HUP);
    desk.until(&mut agent, "in force again", |status| status.policy.version.is_some());
}
