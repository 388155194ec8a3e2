use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::*;
use crate::durable::recorded;
use crate::durable::recorded::Call;

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nLEAF\n-----END CERTIFICATE-----\n";
const CA: &str = "-----BEGIN CERTIFICATE-----\nROOT\n-----END CERTIFICATE-----\n";

fn files(directory: &Path) -> config::Files {
    config::Files { directory: directory.join("tls"), keep: 2, mode: 0o600, owner: None, group: None, combined: false }
}

fn put(generations: &Generations, serial: &str) {
    let key = PrivateKey::generate().expect("a key");
    let chain = format!("{CHAIN}{serial}\n");
    generations.stage(&FileSet { serial, chain_pem: &chain, key: &key, ca_pem: CA }).expect("staged");
    generations.install(serial).expect("installed");
    generations.prune().expect("pruned");
}

fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn both_sets_of_names_lead_to_the_current_generation_and_old_ones_go() {
    let parent = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    for serial in ["a1", "b2", "c3"] {
        put(&generations, serial);
    }
    let directory = parent.path().join("tls");
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect(name);
    assert_eq!(read("fullchain.pem"), format!("{CHAIN}c3\n"));
    assert_eq!(read("tls.crt"), read("fullchain.pem"));
    assert_eq!(read("privkey.pem"), read("tls.key"));
    assert_eq!(read("ca.crt"), CA);
    assert_eq!(names(&directory, GENERATION).len(), 2, "two are kept");
    let mode = |name: &str| fs::metadata(directory.join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("privkey.pem"), mode("tls.key"), mode("tls.crt")), (0o600, 0o600, 0o644));
    assert!(generations.is_current("c3").expect("read") && !generations.is_current("b2").expect("read"));
}

#[test]
fn a_leaf_is_split_from_what_follows_it() {
    let parent = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    let key = PrivateKey::generate().expect("a key");
    let between = CA.replace("ROOT", "BETWEEN");
    let set = |chain_pem, serial| FileSet { serial, chain_pem, key: &key, ca_pem: CA };
    let read = |name: &str| fs::read_to_string(parent.path().join("tls").join(name)).expect(name);
    let two = format!("{CHAIN}{between}");
    generations.stage(&set(&two, "1")).expect("staged");
    generations.install("1").expect("installed");
    assert_eq!((read("cert.pem").as_str(), read("chain.pem")), (CHAIN, between));
    generations.stage(&set(CHAIN, "2")).expect("staged");
    generations.install("2").expect("installed");
    assert_eq!((read("cert.pem").as_str(), read("chain.pem").as_str()), (CHAIN, CA));
}

#[test]
fn every_step_can_be_taken_twice_and_leftovers_go() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("tls");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    put(&generations, "1");
    let key = PrivateKey::generate().expect("a key");
    let set = FileSet { serial: "2", chain_pem: CHAIN, key: &key, ca_pem: CA };
    // A crash in the middle of staging left half a generation and a link that was not renamed.
    fs::create_dir(directory.join("..gen-2")).expect("made");
    fs::write(directory.join("..gen-2/fullchain.pem"), "half").expect("written");
    symlink("..gen-2", directory.join("..new-0123")).expect("a link");
    drop(generations);
    let generations = Generations::open(&files(parent.path())).expect("opened again");
    assert!(!directory.join("..new-0123").exists() && names(&directory, TEMPORARY).is_empty());
    for _ in 0..2 {
        generations.stage(&set).expect("staged");
    }
    for _ in 0..2 {
        generations.install("2").expect("installed");
    }
    assert_eq!(fs::read_to_string(directory.join("fullchain.pem")).expect("a file"), CHAIN);
    // Staging what is current must not take it away under its readers.
    generations.stage(&set).expect("staged");
    assert_eq!(fs::read_to_string(directory.join("tls.key")).expect("a file"), key.pem().as_str());
}

#[test]
fn planted_links_and_files_are_not_followed() {
    let parent = tempfile::tempdir().expect("a directory");
    let victim = parent.path().join("victim");
    fs::create_dir(&victim).expect("made");
    let link = parent.path().join("tls");
    symlink(&victim, &link).expect("a link");
    assert!(Generations::open(&files(parent.path())).is_err(), "the directory itself is a link");
    fs::remove_file(&link).expect("removed");

    let generations = Generations::open(&files(parent.path())).expect("opened");
    let key = PrivateKey::generate().expect("a key");
    let set = FileSet { serial: "1", chain_pem: CHAIN, key: &key, ca_pem: CA };
    symlink(&victim, link.join("..gen-1")).expect("a link");
    assert!(generations.stage(&set).is_err(), "a generation is a link");
    fs::remove_file(link.join("..gen-1")).expect("removed");
    fs::write(link.join("tls.key"), "somebody's").expect("written");
    generations.stage(&set).expect("staged");
    assert!(matches!(generations.install("1"), Err(GenerationError::InTheWay { .. })));
    assert_eq!(fs::read_to_string(link.join("tls.key")).expect("a file"), "somebody's");
    assert!(fs::read_dir(&victim).expect("a directory").next().is_none(), "nothing was written elsewhere");
}

#[test]
fn what_somebody_changed_is_put_right_and_named() {
    let parent = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    let key = PrivateKey::generate().expect("a key");
    let set = FileSet { serial: "1", chain_pem: CHAIN, key: &key, ca_pem: CA };
    generations.stage(&set).expect("staged");
    assert_eq!(generations.mend(&set).expect("looked at"), None, "not current yet");
    generations.install("1").expect("installed");
    assert_eq!(generations.mend(&set).expect("looked at"), Some(Vec::new()));

    let directory = parent.path().join("tls");
    let mode = |name: &str, mode| fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode));
    let replace = |name: &str, target: &str| {
        fs::remove_file(directory.join(name)).expect("removed");
        symlink(target, directory.join(name)).expect("a link");
    };
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("written");
    let cases: [(&str, &dyn Fn(), &str); 8] = [
        ("a key for everybody", &|| mode("..gen-1/tls.key", 0o644).expect("mode"), "`tls.key` had mode 0644"),
        ("a chain for nobody", &|| mode("..gen-1/tls.crt", 0o000).expect("mode"), "`tls.crt` had mode 0000"),
        ("a directory for everybody", &|| mode("..gen-1", 0o755).expect("mode"), "`..gen-1` had mode 0755"),
        ("an empty file", &|| write("..gen-1/cert.pem", ""), "`cert.pem` had other contents"),
        ("more at the end", &|| write("..gen-1/ca.crt", &format!("{CA}more")), "`ca.crt` had other contents"),
        ("a file that is gone", &|| fs::remove_file(directory.join("..gen-1/chain.pem")).expect("gone"), "was gone"),
        ("a link instead of a file", &|| replace("..gen-1/privkey.pem", "tls.key"), "`privkey.pem` had other contents"),
        ("a link that leads elsewhere", &|| replace("tls.crt", "..gen-1/ca.crt"), "`tls.crt` did not lead to"),
    ];
    for (name, change, want) in cases {
        change();
        let mended = generations.mend(&set).expect(name).expect("current");
        // Root reads a file of any mode.
        let unreadable = name == "a chain for nobody" && mended == ["`tls.crt` had other contents"];
        assert!(mended.len() == 1 && (mended[0].contains(want) || unreadable), "{name}: {mended:?}");
        assert_eq!(generations.mend(&set).expect(name), Some(Vec::new()), "{name}: once");
        let read = |name: &str| fs::read_to_string(directory.join(name)).expect(name);
        assert_eq!(
            (read("tls.crt").as_str(), read("cert.pem").as_str(), read("chain.pem").as_str()),
            (CHAIN, CHAIN, CA)
        );
        assert_eq!((read("ca.crt"), read("tls.key")), (CA.to_owned(), key.pem().to_string()), "{name}");
        let mode = |name: &str| fs::symlink_metadata(directory.join(name)).expect(name).permissions().mode();
        assert_eq!(mode("..gen-1") & 0o777, 0o700, "{name}");
        assert_eq!(mode("..gen-1/privkey.pem"), 0o100_600, "{name}");
        assert_eq!((mode("..gen-1/tls.key"), mode("..gen-1/tls.crt")), (0o100_600, 0o100_644), "{name}");
    }
    // What is not a link of ours is not taken away.
    fs::remove_file(directory.join("tls.key")).expect("removed");
    write("tls.key", "somebody's");
    assert!(matches!(generations.mend(&set), Err(GenerationError::InTheWay { .. })));
}

#[test]
fn a_directory_of_others_is_refused_and_so_is_a_second_writer() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("tls");
    fs::create_dir(&directory).expect("made");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("mode");
    assert!(matches!(Generations::open(&files(parent.path())), Err(GenerationError::OpenToOthers { .. })));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("mode");
    let _first = Generations::open(&files(parent.path())).expect("opened");
    assert!(matches!(Generations::open(&files(parent.path())), Err(GenerationError::Locked { .. })));
}

#[test]
fn a_reader_that_holds_the_directory_open_never_sees_half_a_pair() {
    let parent = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    let pair = |serial: u32| {
        let key = PrivateKey::generate().expect("a key");
        // The chain names its key, so that a reader can tell whether they belong together.
        let chain = format!("{}\n", key.pem().as_str());
        generations
            .stage(&FileSet { serial: &serial.to_string(), chain_pem: &chain, key: &key, ca_pem: CA })
            .expect("staged");
        generations.install(&serial.to_string()).expect("installed");
    };
    pair(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // One resolution of `..data`, as readers of Kubernetes' volumes do it.
                let current = fs::read_link(parent.path().join("tls/..data")).expect("a link");
                let current = parent.path().join("tls").join(current);
                let chain = fs::read_to_string(current.join("fullchain.pem")).expect("a chain");
                let key = fs::read_to_string(current.join("privkey.pem")).expect("a key");
                assert_eq!(chain, format!("{key}\n"));
            }
        });
        for serial in 1..100 {
            pair(serial);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_generation_is_on_the_disk_as_a_whole_before_a_name_leads_to_it() {
    let parent = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    let directory = parent.path().join("tls").canonicalize().expect("there");
    for serial in ["a1", "b2"] {
        recorded::take();
        put(&generations, serial);
        let calls = recorded::take();
        let inside = directory.join(generation(serial));
        let led = calls.iter().position(|call| matches!(call, Call::Rename(_, to) if *to == directory.join(DATA)));
        let (before, after) = calls.split_at(led.expect("one rename"));
        let of_file = |call: &Call| matches!(call, Call::Sync(path, _) if path.parent() == Some(&inside));
        let last_file = before.iter().rposition(of_file).expect("files are synced");
        for name in NAMES {
            let path = inside.join(name);
            let length = fs::metadata(&path).expect(name).len();
            assert!(before.contains(&Call::Sync(path, length)), "{name} is not synced as it is: {calls:#?}");
        }
        let finished = &before[last_file..];
        assert!(recorded::is_synced(finished, &inside), "the names in it are not synced: {calls:#?}");
        assert!(recorded::is_synced(finished, &directory), "its own name is not synced: {calls:#?}");
        assert!(recorded::is_synced(after, &directory), "the rename is not synced: {calls:#?}");
        assert!(!after.iter().any(of_file), "nothing is written where readers are: {calls:#?}");
    }
}

#[test]
fn a_file_that_is_put_right_is_on_the_disk_before_it_has_its_name() {
    let parent = tempfile::tempdir().expect("a directory");
    let generations = Generations::open(&files(parent.path())).expect("opened");
    let key = PrivateKey::generate().expect("a key");
    let set = FileSet { serial: "1", chain_pem: CHAIN, key: &key, ca_pem: CA };
    generations.stage(&set).expect("staged");
    generations.install("1").expect("installed");
    let file = parent.path().join("tls").join(generation("1")).join("privkey.pem");
    fs::write(&file, "torn").expect("changed");
    recorded::take();
    generations.mend(&set).expect("put right");
    recorded::assert_in_order(&file);
}
