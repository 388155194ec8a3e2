//! Delivered files that somebody changed are put right, and that is told.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::Desk;
use support::serial;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], files: { directory: tls } }\n";

#[test]
fn a_key_that_was_opened_to_others_is_closed_and_told_of() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "ready", |status| status.ready);
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
