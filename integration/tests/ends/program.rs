//! Programs that set a secret where the agent does not know how.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use portcullis::credential::target::InUse;
use portcullis::credential::target::Program;
use portcullis::credential::target::Setting;
use portcullis::credential::target::Target;
use portcullis::credential::target::TargetError;
use portcullis::hook::Hook;
use portcullis::hook::When;
use portcullis_integration::environment::chain;
use serde_json::Value;
use serde_json::json;

use super::support::FIRST;
use super::support::SHORT;
use super::support::refused;
use super::support::secret;
use super::support::set;

fn target(program: PathBuf, timeout: Duration) -> Target {
    let run = Hook { program, arguments: vec!["--check".to_owned()], timeout, when: When::default() };
    Target::Program(Program { run, keeps_two: true })
}

fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_in_json_and_answers_by_its_exit_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let told = directory.path().join("told");
    let text = format!("cat >> {0}; echo >> {0}; env >> {1}; echo $* >> {1}; echo 3", told.display(), "environment");
    let text = text.replace("environment", &directory.path().join("environment").display().to_string());
    let target = target(script(directory.path(), &text), Duration::from_secs(20));
    assert!(target.keeps_two());
    let awkward = "a\nb\0c'\"\\\u{20ac}";
    let long = "x".repeat(64 * 1024);
    let until: Timestamp = "2030-01-02T03:04:05Z".parse().expect("an instant");
    for text in [FIRST, awkward, &long] {
        let new = secret(text);
        let setting = Setting { account: "shop", secret: &new, known: &[], until: Some(until), owner: "edge-1" };
        target.set(&setting).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        target.test("shop", &new).await.expect("tested");
        target.retire("shop", &new, None, "edge-1").await.expect("retired");
    }
    assert_eq!(target.in_use("shop").await.expect("an answer"), InUse::Sessions(3));
    let told = std::fs::read_to_string(told).expect("told");
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let want = |action: &str, secret: &str| {
        let is_set = action == "set";
        let until = is_set.then_some("2030-01-02T03:04:05Z");
        json!({ "action": action, "account": "shop", "secret": secret, "until": until, "owner": is_set.then_some("edge-1") })
    };
    let mut wanted: Vec<Value> = Vec::new();
    for text in [FIRST, awkward, &long] {
        wanted.extend(["set", "test", "retire"].map(|action| want(action, text)));
    }
    wanted.push(json!({ "action": "in_use", "account": "shop", "secret": null, "until": null, "owner": null }));
    assert_eq!(told, wanted);
    let environment = std::fs::read_to_string(directory.path().join("environment")).expect("an environment");
    assert!(environment.contains("PATH=") && environment.contains("--check"), "{environment}");
    assert!(!environment.contains("CARGO"), "nothing of ours: {environment}");
    assert!(!environment.contains("s3cret"), "no secret in variables and arguments: {environment}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_exit_code_has_its_meaning() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text, want, tested) in [
        ("failed", "cat; exit 3", "program", "login"),
        ("later", "echo later >&2; exit 75", "unavailable", "unavailable"),
        ("another's", "echo edge-2 has it; exit 76", "another", "another"),
        ("killed", "kill -9 $$", "program", "login"),
    ] {
        let target = target(script(directory.path(), text), Duration::from_secs(20));
        assert_eq!(refused(set(&target, "shop", FIRST, &[]).await), want, "{name}");
        assert_eq!(refused(target.test("shop", &secret(FIRST)).await), tested, "{name}");
    }
    let hangs = target(script(directory.path(), "sleep 1000 & sleep 1000"), SHORT);
    assert_eq!(refused(set(&hangs, "shop", FIRST, &[]).await), "timed_out");
    let prints = target(script(directory.path(), "yes out | head -c 1000000; exit 3"), Duration::from_secs(20));
    let error = set(&prints, "shop", FIRST, &[]).await.expect_err("failed");
    assert!(matches!(&error, TargetError::Program { said: Some(said), .. } if said == "out"), "{error}");
    let silent = target(script(directory.path(), "exit 0"), Duration::from_secs(20));
    assert_eq!(silent.in_use("shop").await.expect("an answer"), InUse::Unknown);
    assert_eq!(refused(set(&silent, "shop", "", &[]).await), "unfit");
    assert_eq!(refused(set(&silent, "", FIRST, &[]).await), "unfit");
    let missing = target(directory.path().join("nothing"), SHORT);
    assert_eq!(refused(set(&missing, "shop", FIRST, &[]).await), "program_unusable");
}
