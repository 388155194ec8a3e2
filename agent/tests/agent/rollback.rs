//! `portcullis rollback`: one step back, over restarts, until the next renewal.

use crate::support::Desk;
use crate::support::serial;
use crate::support::stderr;

const ONE: &str = "certificates:\n  - { name: site, dns: [localhost], files: { directory: tls } }\n";

#[test]
fn one_step_back_is_delivered_kept_over_a_restart_and_refused_when_it_is_revoked() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "ready", |status| status.ready);
    let file = || serial(&desk.path("tls/fullchain.pem")).expect("a certificate");
    let first = file();
    let refused = desk.run(&["rollback", "site"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("nothing to go back to"), "{refused:?}");
    let unknown = desk.run(&["rollback", "sight"]);
    assert!(stderr(&unknown).contains("the configuration has `site`"), "{unknown:?}");

    let second = desk.renew("site").expect("renewed").new_serial;
    let back = desk.run(&["rollback", "site"]);
    assert!(back.status.success(), "{}", stderr(&back));
    assert_eq!(String::from_utf8_lossy(&back.stdout), format!("site: back from serial {second} to {first}\n"));
    assert_eq!(file(), first);
    desk.until_audit("who did it", |line| {
        line["event"] == "rolled_back" && line["by"] == "operator" && line["old"] == second.as_str()
    });
    desk.until_audit("the proof", |line| line["event"] == "served" && line["cause"] == "rolled_back");

    assert!(agent.terminate().success());
    let mut agent = desk.start();
    let status = desk.until(&mut agent, "ready again", |status| status.ready);
    assert_eq!(status.certificates[0].stored.as_ref().map(|leaf| &leaf.serial), Some(&first));
    desk.verify().expect("looked at");
    assert_eq!((file(), desk.count("certificate_issued")), (first, 2), "no look and no start undoes it");

    let third = desk.renew("site").expect("renewed").new_serial;
    let fourth = desk.renew("site").expect("renewed").new_serial;
    let revoked = desk.run(&["revoke", "--serial", &third, "--reason", "lost"]);
    assert!(revoked.status.success(), "{}", stderr(&revoked));
    let refused = desk.run(&["rollback", "site"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("it is revoked"), "{refused:?}");
    assert_eq!(file(), fourth);
    assert!(desk.run(&["audit", "verify"]).status.success());
}
