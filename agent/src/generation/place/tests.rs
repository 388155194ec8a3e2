use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::config;
use crate::generation::FileSet;
use crate::keys::PrivateKey;

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nLEAF\n-----END CERTIFICATE-----\n";
/// Nobody's on this machine, one hopes.
const SOMEBODY: u32 = 61_234;

fn files(parent: &TempDir) -> config::Files {
    let directory = parent.path().join("tls");
    config::Files { directory, keep: 2, mode: 0o600, owner: None, group: None, combined: false }
}

fn parent() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("tls");
    (parent, directory)
}

fn put(generations: &Generations, key: &PrivateKey) {
    let set = FileSet { serial: "1", chain_pem: CHAIN, key, ca_pem: "CA\n" };
    generations.stage(&set).expect("staged");
    generations.install("1").expect("installed");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_directory_that_somebody_replaced_is_noticed_and_a_link_is_not_followed() {
    let (parent, directory) = parent();
    let generations = Generations::open(&files(&parent)).expect("opened");
    generations.preflight().expect("ours");
    let aside = parent.path().join("aside");
    fs::rename(&directory, &aside).expect("moved");
    let gone = generations.preflight().expect_err("gone");
    assert!(matches!(gone, GenerationError::Io { .. }), "{gone}");
    symlink(&aside, &directory).expect("a link");
    for error in [generations.preflight(), Generations::open(&files(&parent)).map(drop)] {
        let error = error.expect_err("a link");
        assert!(matches!(error, GenerationError::NoDirectory { .. }), "{error}");
        assert!(error.to_string().contains(&directory.display().to_string()), "{error}");
    }
    fs::remove_file(&directory).expect("removed");
    fs::create_dir(&directory).expect("made");
    let error = generations.preflight().expect_err("another");
    assert!(matches!(error, GenerationError::Replaced { .. }), "{error}");
    fs::remove_dir(&directory).expect("removed");
    fs::rename(&aside, &directory).expect("moved back");
    generations.preflight().expect("ours again");
}

#[test]
fn what_others_could_change_is_refused_before_anything_is_written() {
    let (parent, directory) = parent();
    let generations = Generations::open(&files(&parent)).expect("opened");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("opened to others");
    let error = generations.preflight().expect_err("open to others");
    assert!(matches!(error, GenerationError::OpenToOthers { mode: 0o777, .. }), "{error}");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("closed");
    if is_root() {
        chown(&directory, Some(SOMEBODY), None).expect("given away");
        let error = generations.preflight().expect_err("somebody's");
        assert!(matches!(error, GenerationError::OtherOwner { owner: SOMEBODY, .. }), "{error}");
    } else {
        // Root writes there all the same.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).expect("closed to all");
        let error = generations.preflight().expect_err("read-only");
        assert!(matches!(error, GenerationError::Io { action: "write", .. }), "{error}");
    }
}

#[test]
fn a_test_file_leaves_nothing_behind() {
    let (parent, directory) = parent();
    let generations = Generations::open(&files(&parent)).expect("opened");
    // What a crash left is in nobody's way.
    fs::write(directory.join("..new-probe"), "old").expect("written");
    generations.preflight().expect("ours");
    let left: Vec<_> =
        fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left, ["..lock"]);
}

#[test]
fn files_belong_to_whom_it_is_declared_or_nothing_is_begun() {
    let (parent, directory) = parent();
    // It was the agent's own before that was declared.
    drop(Generations::open(&files(&parent)).expect("opened"));
    assert_eq!(fs::metadata(&directory).expect("there").mode() & 0o7777, 0o700);
    let declared = config::Files { owner: Some(SOMEBODY), group: Some(SOMEBODY), mode: 0o640, ..files(&parent) };
    let opened = Generations::open(&declared);
    if !is_root() {
        let error = opened.expect_err("not ours to give").to_string();
        assert!(error.contains(&format!("user {SOMEBODY}")) && error.contains("run the agent as root"), "{error}");
        return;
    }
    let generations = opened.expect("root may");
    let key = PrivateKey::generate().expect("a key");
    put(&generations, &key);
    let stat = |name: &str| fs::metadata(directory.join(name)).expect(name);
    let of = |name: &str| (stat(name).uid(), stat(name).gid(), stat(name).mode() & 0o7777);
    assert_eq!(of("privkey.pem"), (SOMEBODY, SOMEBODY, 0o640));
    assert_eq!(of("tls.crt"), (SOMEBODY, SOMEBODY, 0o644));
    // They get there, and change nothing.
    assert_eq!(of("..gen-1"), (0, SOMEBODY, 0o755));
    assert_eq!(of(""), (0, SOMEBODY, 0o755));
    chown(directory.join("..gen-1/tls.key"), Some(0), None).expect("taken back");
    let set = FileSet { serial: "1", chain_pem: CHAIN, key: &key, ca_pem: "CA\n" };
    let mended = generations.mend(&set).expect("looked at").expect("current");
    assert!(mended.len() == 1 && mended[0].contains("`tls.key` had mode 0640, user 0"), "{mended:?}");
    assert_eq!(of("tls.key"), (SOMEBODY, SOMEBODY, 0o640));
}

#[test]
fn chain_and_key_are_in_one_file_only_if_that_is_asked_for() {
    let (parent, directory) = parent();
    let key = PrivateKey::generate().expect("a key");
    let combined = directory.join("combined.pem");
    let generations = Generations::open(&config::Files { combined: true, ..files(&parent) }).expect("opened");
    put(&generations, &key);
    assert_eq!(fs::read_to_string(&combined).expect("a file"), format!("{CHAIN}{}", key.pem().as_str()));
    assert_eq!(fs::metadata(&combined).expect("a file").permissions().mode() & 0o777, 0o600);
    drop(generations);
    let generations = Generations::open(&files(&parent)).expect("opened");
    generations.install("1").expect("installed");
    assert!(fs::symlink_metadata(&combined).is_err(), "no name leads to what is not kept up");
}
