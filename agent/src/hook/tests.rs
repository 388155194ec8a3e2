use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn shell(script: &str, timeout: Duration) -> Hook {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    Hook { program: "/bin/sh".into(), arguments, timeout, when: When::Installed }
}

fn occasion(directory: &Path) -> Occasion<'_> {
    Occasion {
        event: When::Installed,
        name: "gateway",
        identity: "spiffe://acme.example/gateway".to_owned(),
        names: vec!["a.example".to_owned(), "b.example".to_owned()],
        old_serial: None,
        new_serial: "2a",
        directory: Some(directory),
        cause: "due",
    }
}

/// Whether a process runs; one that is dead and was not reaped does not.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_hook_is_told_what_happened_and_nothing_of_the_agent() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().display();
    let hook = shell(&format!("cat > {place}/told; env > {place}/env; pwd > {place}/pwd"), LONG);
    hook.run(&occasion(directory.path()), "").await.expect("well");
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect(name);
    let told: BTreeMap<String, serde_json::Value> = serde_json::from_str(&read("told")).expect("json");
    assert_eq!(told["event"], "installed");
    assert_eq!((&told["name"], &told["new_serial"], &told["cause"]), (&"gateway".into(), &"2a".into(), &"due".into()));
    assert!(told["old_serial"].is_null());
    assert_eq!(told["directory"], place.to_string());
    let env = read("env");
    assert!(env.contains(&format!("RENEWED_LINEAGE={place}\n")), "{env}");
    assert!(env.contains("RENEWED_DOMAINS=a.example b.example\n"), "{env}");
    // Cargo sets it for every test.
    assert!(!env.contains("CARGO_MANIFEST_DIR"), "{env}");
    assert_eq!(read("pwd"), "/\n");
}

#[tokio::test]
async fn how_a_hook_ends_badly_is_told_with_its_last_line() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, script, want) in [
        (
            "an exit code",
            "echo first; echo no such unit >&2; exit 3",
            "hook `/bin/sh` ended with exit status: 3: no such unit",
        ),
        ("a signal", "kill -KILL $$", "hook `/bin/sh` ended with signal: 9 (SIGKILL)"),
        ("silence", "exit 1", "hook `/bin/sh` ended with exit status: 1"),
        ("a key", "echo MIGHAgEAMBMGByqG; exit 1", "holds a private key and is not repeated"),
        ("without end", "head -c 20000000 /dev/zero | tr '\\0' x; exit 4", "ended with exit status: 4: xxx"),
    ] {
        let outcome = shell(script, LONG).run(&occasion(directory.path()), "MIGHAgEAMBMGByqG").await;
        let error = outcome.expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
        assert!(error.len() < 400, "{name}: {} bytes", error.len());
    }
}

#[tokio::test]
async fn a_hook_that_hangs_is_killed_with_all_that_it_started() {
    let directory = tempfile::tempdir().expect("a directory");
    let pids = directory.path().join("pids");
    let script = format!("sleep 1000 & echo $! >> {0}; echo $$ >> {0}; echo waiting; wait", pids.display());
    let error = shell(&script, Duration::from_secs(3)).run(&occasion(directory.path()), "").await;
    let error = error.expect_err("hangs").to_string();
    assert!(error.contains("did not end within 3s and was killed: waiting"), "{error}");
    let pids = fs::read_to_string(pids).expect("it began");
    assert_eq!(pids.lines().count(), 2, "{pids}");
    assert_dead(pids.lines()).await;
}

#[tokio::test]
async fn what_a_hook_leaves_behind_holds_up_nobody_and_ends_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let pid = directory.path().join("pid");
    // It holds the output open, as a daemon that was started carelessly does.
    let script = format!("sleep 1000 & echo $! > {}; echo done", pid.display());
    let said = shell(&script, LONG).run(&occasion(directory.path()), "").await.expect("well");
    assert_eq!(said, "hook `/bin/sh` ended well: done");
    assert_dead([fs::read_to_string(pid).expect("it began").as_str()]).await;
}

#[tokio::test]
async fn a_hook_that_is_not_awaited_any_more_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let pid = directory.path().join("pid");
    let hook = shell(&format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000; true", pid.display()), LONG);
    let occasion = occasion(directory.path());
    let begun = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = hook.run(&occasion, "") => panic!("{ended:?}"),
        () = begun => {}
    }
    assert_dead([fs::read_to_string(pid).expect("it began").as_str()]).await;
}

/// A killed process takes a moment to die.
async fn assert_dead<'a>(pids: impl IntoIterator<Item = &'a str>) {
    for pid in pids {
        let dead = async {
            while runs(pid) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, dead).await.unwrap_or_else(|_| panic!("process {pid} goes on"));
    }
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("hook");
    let missing = find(&file).expect_err("missing").to_string();
    assert!(missing.contains(&format!("`{}` is not there", file.display())), "{missing}");
    fs::write(&file, "#!/bin/sh\n").expect("written");
    let error = find(&file).expect_err("not executable").to_string();
    assert!(error.contains("chmod +x"), "{error}");
    assert_eq!(find(Path::new("sh")).expect("on the path").file_name(), Some("sh".as_ref()));
    let error = find(Path::new("no-such-program-anywhere")).expect_err("nowhere").to_string();
    assert!(error.contains("nowhere on `PATH`"), "{error}");
}
