//! Who reads files is told when they change; a hook that fails is tried again, and one that is not there is named.

use std::fs;

use crate::support::Desk;
use crate::support::poll;
use crate::support::stderr;

/// One certificate with files, and this hook.
fn with(hook: &str) -> String {
    format!(
        "certificates:\n  - {{ name: site, dns: [a.example, b.example], files: {{ directory: tls }}, hooks: [ {hook} ] }}\n"
    )
}

#[test]
fn a_hook_is_told_of_each_certificate_and_the_log_says_so() {
    let desk = Desk::new("certificates: []\n");
    let place = desk.path("").display().to_string();
    let told = format!("cat >> {place}told; echo >> {place}told; echo reloaded");
    let served = format!("echo $RENEWED_DOMAINS > {place}served");
    desk.configure(&with(&format!("{{ run: [sh, -c, \"{told}\"] }}, {{ run: [sh, -c, \"{served}\"], when: served }}")));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "ready", |status| status.ready && status.certificates[0].rotations == 1);
    let first = status.certificates[0].stored.clone().expect("stored").serial;
    let second = desk.renew("site").expect("renewed").new_serial;
    let lines = fs::read_to_string(desk.path("told")).expect("it was told");
    let told: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!(told.len(), 2, "{lines}");
    assert!(
        told[0]["old_serial"].is_null() && told[0]["new_serial"] == first && told[0]["cause"] == "missing",
        "{lines}"
    );
    assert!(told[1]["old_serial"] == first && told[1]["new_serial"] == second && told[1]["cause"] == "requested");
    assert_eq!(told[1]["directory"], desk.path("tls").display().to_string());
    assert_eq!(fs::read_to_string(desk.path("served")).expect("it was told"), "a.example b.example\n");
    desk.until_audit("the hook", |line| {
        let proof = line.get("proof").and_then(|proof| proof.as_str()).unwrap_or_default();
        line["event"] == "installed" && line["new"] == second.as_str() && proof.ends_with("ended well: reloaded")
    });
}

#[test]
fn a_hook_that_fails_is_tried_again_while_the_files_are_in_their_place() {
    let desk = Desk::new("certificates: []\n");
    let good = desk.path("good").display().to_string();
    desk.configure(&with(&format!("{{ run: [sh, -c, \"echo not yet; cat {good}\"] }}")));
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "failed", |status| status.certificates[0].failures > 0);
    let error = status.certificates[0].last_error.clone().expect("why");
    assert!(error.contains("install failed") && error.contains("ended with exit status: 1"), "{error}");
    assert!(!status.ready && status.certificates[0].state == "staged", "{status:#?}");
    assert!(desk.path("tls/tls.crt").exists(), "the files do not wait for it");
    desk.until_audit("the alarm", |line| {
        line["event"] == "alarm" && line["cause"].as_str().is_some_and(|cause| cause.contains("exit status: 1"))
    });
    desk.write("good", "");
    desk.until(&mut agent, "ready", |status| status.ready && status.certificates[0].rotations == 1);
    assert_eq!(desk.count("certificate_issued"), 1, "trying again issues nothing");
}

#[test]
fn a_hook_that_is_not_there_is_named_before_and_when_it_is_needed() {
    let desk = Desk::new("certificates: []\n");
    desk.configure(&with("{ run: [bin/reload] }"));
    let path = desk.path("bin/reload");
    let said = format!("hook `{}` is not there", path.display());
    let checked = desk.run(&["run", "--check"]);
    assert!(checked.status.success(), "it may come before it is needed: {checked:?}");
    assert!(stderr(&checked).contains(&said), "{checked:?}");
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "failed", |status| status.certificates[0].failures > 0);
    assert!(status.reasons.iter().any(|reason| reason.contains(&said)), "{:?}", status.reasons);
    assert!(agent.log().contains("hooks[0].run"), "{}", agent.log());
}

#[test]
fn what_a_hook_started_ends_with_the_agent() {
    let desk = Desk::new("certificates: []\n");
    let pid = desk.path("pid").display().to_string();
    desk.configure(&with(&format!(
        "{{ run: [sh, -c, \"sleep 1000 & echo $! > {pid}.new; mv {pid}.new {pid}; wait\"] }}"
    )));
    let mut agent = desk.start();
    let pid = poll(|| fs::read_to_string(desk.path("pid")).ok(), || "the hook did not begin".to_owned());
    assert!(agent.terminate().success());
    let stat = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok();
    poll(|| stat().is_none_or(|stat| stat.contains(") Z ")).then_some(()), || format!("process {pid} goes on"));
}
