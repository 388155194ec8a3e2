//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, and that the loop is alive. Without one
//! (no `NOTIFY_SOCKET`) nothing happens here.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Heartbeat;
use crate::status::Status;

/// How often the line about the state is looked at, and the loop at the least.
const PERIOD: Duration = Duration::from_secs(5);
/// Signs of life in the time that the watchdog waits.
const SIGNS: u32 = 4;
/// What a line of `systemctl status` holds.
const LONGEST: usize = 200;

/// The service manager, if there is one.
#[derive(Clone, Debug)]
pub struct ServiceManager {
    is_there: bool,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says.
    pub fn from_environment() -> Self {
        Self { is_there: std::env::var_os("NOTIFY_SOCKET").is_some(), watchdog: sd_notify::watchdog_enabled() }
    }

    /// Whether somebody watches the agent, who begins it again when it ends badly.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// The sockets listen, and what was stored is offered; or a reload has ended.
    pub fn ready(&self, status: &Status) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
    }

    /// The configuration is read again. [`Self::ready`] follows, however that goes.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager is not told of the reload"),
        }
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    }

    /// Says that the loop is alive as long as it is, and what the state is, until `shutdown`.
    pub async fn follow(self, status: watch::Receiver<Status>, heartbeat: Heartbeat, shutdown: CancellationToken) {
        if !self.is_there {
            return;
        }
        let period = self.watchdog.map_or(PERIOD, |watchdog| (watchdog / SIGNS).min(PERIOD));
        let (mut pulse, mut said) = (Pulse::of(heartbeat), String::new());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
            if pulse.goes_on() && self.watchdog.is_some() {
                self.tell(&[NotifyState::Watchdog]);
            }
            let state = line(&status.borrow());
            if state != said {
                self.tell(&[NotifyState::Status(&state)]);
                said = state;
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.is_there
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// Whether the loop beats: one that hangs does not, whatever the clocks say.
struct Pulse {
    heartbeat: Heartbeat,
    seen: u64,
}

impl Pulse {
    fn of(heartbeat: Heartbeat) -> Self {
        Self { seen: heartbeat.beats(), heartbeat }
    }

    /// Whether it beat since this was last asked.
    fn goes_on(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, self.heartbeat.beats());
        self.seen != before
    }
}

/// The state in a line.
fn line(status: &Status) -> String {
    let count = match status.certificates.len() {
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    let state = match (status.ready, status.reasons.as_slice()) {
        (true, _) => format!("ready, {count}"),
        (false, []) => format!("starting, {count}"),
        (false, [one]) => format!("not ready: {one}"),
        (false, [first, others @ ..]) => format!("not ready: {first}; and {} more", others.len()),
    };
    // A line of its own is a message of its own there.
    state.chars().map(|character| if character.is_control() { ' ' } else { character }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_gives_no_sign_of_life() {
        let heartbeat = Heartbeat::new();
        let mut pulse = Pulse::of(heartbeat.clone());
        assert!(!pulse.goes_on());
        heartbeat.beat();
        assert!(pulse.goes_on() && !pulse.goes_on());
        heartbeat.beat();
        assert!(pulse.goes_on());
    }

    #[test]
    fn the_state_is_one_short_line() {
        let with = |reasons: &[&str]| Status {
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            ..Status::default()
        };
        let long = "x".repeat(1_000);
        for (status, want) in [
            (Status { ready: true, ..Status::default() }, "ready, 0 certificates".to_owned()),
            (with(&[]), "starting, 0 certificates".to_owned()),
            (with(&["one"]), "not ready: one".to_owned()),
            (with(&["one", "two", "three"]), "not ready: one; and 2 more".to_owned()),
            (with(&["a\nREADY=1"]), "not ready: a READY=1".to_owned()),
            (with(&[&long]), format!("not ready: {}", "x".repeat(LONGEST - 11))),
        ] {
            assert_eq!(line(&status), want);
        }
    }
}
