//! Who may talk to the agent: its own user and root, whatever became of the modes of sockets and directories.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::Desk;

/// Nobody.
const STRANGER: u32 = 65534;

#[test]
fn another_user_gets_nothing_even_where_the_sockets_are_open() {
    let mut desk = Desk::new("certificates:\n  - { name: gateway, dns: [localhost] }\n");
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates[0].stored.is_some());
    for (name, mode) in [(".", 0o777), ("run", 0o777), ("run/xds.sock", 0o666), ("run/control.sock", 0o666)] {
        fs::set_permissions(desk.path(name), fs::Permissions::from_mode(mode)).expect("opened");
    }
    fs::set_permissions(desk.path("portcullis.yaml"), fs::Permissions::from_mode(0o644)).expect("readable");
    assert!(desk.run(&["status"]).status.success(), "its own user is let in");
    // Only root can become somebody else; whoever is not is a stranger to nobody here.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    desk.user = Some(STRANGER);
    let refused = desk.run(&["status"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(agent.log().contains("control socket refused"), "{}", agent.log());

    // The same at the socket for proxies.
    let other = fs::read_to_string(desk.path("portcullis.yaml")).expect("a configuration");
    let swapped = other.replace("run/control.sock", "run/other").replace("run/xds.sock", "run/control.sock");
    desk.write("portcullis.yaml", &swapped.replace("run/other", "run/xds.sock"));
    let refused = desk.run(&["status"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(agent.log().contains("xDS socket refused"), "{}", agent.log());
}
