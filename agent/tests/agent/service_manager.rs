//! What a service manager hears of the agent, over a real socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Desk;
use crate::support::PATIENCE;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost], lifetime: 24h, files: { directory: tls } }\n";

/// The socket, and all that was said to it.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(desk: &Desk) -> Self {
        let socket = UnixDatagram::bind(desk.path("notify.sock")).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { socket, heard: Vec::new() }
    }

    /// Waits until somebody says so.
    fn hears(&mut self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "`{line}` was never said; what was: {:#?}", self.heard);
            let mut message = [0; 4_096];
            let length = match self.socket.recv(&mut message) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("`{line}` was never said ({error}); what was: {:#?}", self.heard),
            };
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            self.heard.push(message.clone());
            if message.lines().any(|said| said.starts_with(line)) {
                return message;
            }
        }
    }

    fn has_heard(&self, line: &str) -> bool {
        self.heard.iter().any(|message| message.lines().any(|said| said == line))
    }
}

#[test]
fn a_service_manager_hears_of_every_turn() {
    let desk = Desk::new(ONE);
    let mut manager = Manager::listen(&desk);
    let socket = desk.path("notify.sock").display().to_string();
    let mut agent = desk.start_as(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "4000000")]);
    manager.hears("READY=1");
    assert!(desk.status().is_ok(), "who is told that it is ready can ask it");
    assert!(!manager.has_heard("WATCHDOG=1"), "{:?}", manager.heard);
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    desk.until(&mut agent, "ready", |status| status.ready);
    // It may have been said between two signs of life.
    if !manager.has_heard("STATUS=ready, 1 certificate") {
        manager.hears("STATUS=ready, 1 certificate");
    }

    agent.signal(Signal::HUP);
    let message = manager.hears("RELOADING=1");
    assert!(message.contains("MONOTONIC_USEC="), "{message}");
    manager.hears("READY=1");
    // One that is refused ends too.
    desk.configure("certificates: [");
    agent.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");

    assert!(!manager.has_heard("STOPPING=1"));
    assert!(agent.terminate().success());
    manager.hears("STOPPING=1");
}

#[test]
fn without_a_service_manager_nothing_is_missing() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "ready", |status| status.ready);
    assert!(!agent.log().contains("service manager"), "{}", agent.log());
}
