//! Delivered files that somebody changed are put right, and that is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;

use crate::support;
use crate::support::Desk;
use crate::support::serial;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], files: { directory: tls } }\n";

#[test]
fn a_key_that_was_opened_to_others_is_closed_and_told_of() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "served", |status| status.ready && status.certificates[0].rotations == 1);
    let stored = status.certificates[0].stored.clone().expect("stored").serial;
    let key = desk.path("tls/privkey.pem");
    let mode = || fs::metadata(&key).expect("a key").permissions().mode() & 0o777;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("opened");
    fs::remove_file(desk.path("tls/tls.crt")).expect("a link");
    desk.verify().expect("looked at");
    assert_eq!(mode(), 0o600);
    assert_eq!(serial(&desk.path("tls/tls.crt")), Some(stored));
    desk.until_audit("both", |line| {
        let cause = line.get("cause").and_then(|cause| cause.as_str()).unwrap_or_default();
        line["event"] == "repaired" && cause.contains("`privkey.pem` had mode 0644") && cause.contains("`tls.crt`")
    });
    assert_eq!(desk.count("certificate_issued"), 1);
    assert!(desk.run(&["audit", "verify"]).status.success());
}

#[test]
fn a_directory_that_cannot_be_written_costs_no_certificate_and_is_used_when_it_can() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready && status.certificates[0].rotations == 1);
    let (tls, aside, victim) = (desk.path("tls"), desk.path("aside"), desk.path("victim"));
    let first = serial(&tls.join("tls.crt")).expect("a certificate");

    // Somebody puts a link in its place.
    fs::create_dir(&victim).expect("made");
    fs::rename(&tls, &aside).expect("moved");
    symlink(&victim, &tls).expect("a link");
    let error = desk.renew("gateway").expect_err("refused").to_string();
    assert!(error.contains("journal failed") && error.contains("is a link or no directory"), "{error}");
    assert!(error.contains(&tls.display().to_string()), "{error}");
    assert!(fs::read_dir(&victim).expect("a directory").next().is_none(), "nothing is written elsewhere");
    assert_eq!(desk.count("certificate_issued"), 1, "nothing is issued that cannot be put anywhere");
    assert_eq!(serial(&aside.join("tls.crt")), Some(first), "what was there is as it was");

    // Another directory is one like any other.
    fs::remove_file(&tls).expect("removed");
    desk.until(&mut agent, "renewed after all", |status| status.ready && status.certificates[0].rotations == 2);
    let second = serial(&tls.join("tls.crt")).expect("a certificate");

    // Open to others: refused, and taken when it is closed again.
    fs::set_permissions(&tls, fs::Permissions::from_mode(0o777)).expect("opened");
    let error = desk.renew("gateway").expect_err("refused").to_string();
    assert!(error.contains("journal failed") && error.contains("chmod go-w"), "{error}");
    assert_eq!((desk.count("certificate_issued"), serial(&tls.join("tls.crt"))), (2, Some(second)));
    fs::set_permissions(&tls, fs::Permissions::from_mode(0o755)).expect("closed");
    desk.until(&mut agent, "renewed after all", |status| status.ready && status.certificates[0].rotations == 3);
    assert_eq!(desk.count("certificate_issued"), 3);
}

#[test]
fn a_read_only_directory_and_files_for_somebody_else_are_found_before_an_order() {
    let mut desk = Desk::new(ONE);
    let nobody = 65534;
    // Root writes everywhere, and gives files to everybody.
    if rustix::process::geteuid().is_root() {
        desk.user = Some(nobody);
        std::os::unix::fs::chown(desk.path("."), Some(nobody), Some(nobody)).expect("given away");
    }
    let mut agent = desk.start();
    desk.until(&mut agent, "served", |status| status.ready && status.certificates[0].rotations == 1);
    let tls = desk.path("tls");
    let first = serial(&tls.join("tls.crt")).expect("a certificate");
    fs::set_permissions(&tls, fs::Permissions::from_mode(0o500)).expect("read-only");
    let error = desk.run(&["renew", "gateway"]);
    let error = support::stderr(&error);
    assert!(error.contains("journal failed") && error.contains("cannot write"), "{error}");
    assert_eq!((desk.count("certificate_issued"), serial(&tls.join("tls.crt"))), (1, Some(first)));
    fs::set_permissions(&tls, fs::Permissions::from_mode(0o700)).expect("writable");
    desk.until(&mut agent, "renewed after all", |status| status.ready && status.certificates[0].rotations == 2);
    assert!(agent.terminate().success());

    desk.configure(&ONE.replace("directory: tls", "directory: tls, owner: 12345"));
    let mut agent = desk.start();
    assert!(!agent.ended().success());
    assert!(agent.log().contains("cannot be given to user 12345"), "{}", agent.log());
}
