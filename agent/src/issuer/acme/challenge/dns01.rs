//! `dns-01` (RFC 8555 §8.4), by changes to a zone or through a program: it is called with `present` or `cleanup`, the record's name
//! and its value.

use std::path::PathBuf;
use std::time::Duration;

use super::Before;
use super::TxtRecord;
use super::dns::Authority;
use super::dns::DnsError;
use super::dns::Updater;
use crate::hook;
use crate::hook::HookError;
use crate::hook::When;
use crate::issuer::acme::error::AcmeError;
use crate::issuer::acme::settings::Check;

/// A program that changes the DNS.
#[derive(Clone, Debug)]
pub(in crate::issuer::acme) struct Hook {
    argv: Vec<String>,
    within: Duration,
}

/// How records come into the DNS.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Hook(Hook),
    Update(Updater),
}

/// Records in the DNS, seen there before anybody is sent to look.
#[derive(Clone, Debug)]
pub(in crate::issuer::acme) struct Dns01 {
    way: Way,
    check: Check,
}

/// Records that are in place, or may be.
pub(in crate::issuer::acme) struct Records {
    dns01: Dns01,
    records: Vec<TxtRecord>,
}

impl Dns01 {
    pub(super) fn new(way: Way, check: Check) -> Self {
        Self { way, check }
    }

    /// Why a record of this name could not be put in place, if one can tell without trying.
    pub(super) async fn look_at(&self, name: &str) -> Option<DnsError> {
        let Way::Update(updater) = &self.way else { return None };
        let record = TxtRecord { name: name.to_owned(), value: String::new() };
        updater.probe(&record).await.err().filter(|error| matches!(error, DnsError::OtherZone { .. }))
    }

    /// Puts the records in place, one after the other, and waits until they are seen.
    pub(super) async fn present(&self, records: Vec<TxtRecord>, before: Before) -> Result<Records, AcmeError> {
        let mut placed = Records { dns01: self.clone(), records: Vec::new() };
        let mut forgotten_in = Duration::ZERO;
        for record in records {
            // Before it is tried: what was cut off may have been done.
            placed.records.push(record.clone());
            let outcome = match &self.way {
                Way::Hook(hook) => hook
                    .run("present", &record)
                    .await
                    .map(|()| None)
                    .map_err(|source| AcmeError::Hook { record: record.name, source }),
                Way::Update(updater) => updater
                    .add(&record, before)
                    .await
                    .map_err(|source| AcmeError::Dns { record: record.name, source: Box::new(source) }),
            };
            match outcome {
                Ok(wait) => forgotten_in = forgotten_in.max(wait.unwrap_or_default()),
                Err(error) => {
                    placed.remove().await;
                    return Err(error);
                }
            }
        }
        if let Err(source) = self.show(&placed.records, forgotten_in).await {
            let record = placed.records.first().map(|record| record.name.clone()).unwrap_or_default();
            placed.remove().await;
            return Err(AcmeError::Dns { record, source: Box::new(source) });
        }
        Ok(placed)
    }

    /// Waits until the servers show the records, and others have forgotten that there were none.
    async fn show(&self, records: &[TxtRecord], forgotten_in: Duration) -> Result<(), DnsError> {
        let (authority, within) = match (&self.check, &self.way) {
            (Check::Off, _) | (Check::OfZone(_), Way::Hook(_)) => return Ok(()),
            (Check::Servers(servers, within), _) => (Authority::new(servers.clone(), *within), *within),
            (Check::OfZone(within), Way::Update(updater)) => {
                let (zone, server) = updater.zone();
                (Authority::of_zone(zone, server, *within).await?, *within)
            }
        };
        let forgotten = tokio::time::sleep(forgotten_in.min(within));
        authority.show(records).await?;
        forgotten.await;
        Ok(())
    }

    /// Takes the records away. What fails is told and changes nothing: a record that stays proves nothing any more.
    pub(super) async fn remove(&self, records: &[TxtRecord]) {
        for record in records {
            let outcome = match &self.way {
                Way::Hook(hook) => hook.run("cleanup", record).await.map_err(|error| crate::errors::chain(&error)),
                Way::Update(updater) => updater.remove(record).await.map_err(|error| crate::errors::chain(&error)),
            };
            if let Err(error) = outcome {
                tracing::warn!(record = record.name, error, "the DNS record was not taken away");
            }
        }
    }
}

impl Hook {
    pub(super) fn new(argv: Vec<String>, within: Duration) -> Self {
        Self { argv, within }
    }

    async fn run(&self, action: &str, record: &TxtRecord) -> Result<(), HookError> {
        let own = self.argv.get(1..).unwrap_or_default().iter().map(String::as_str);
        let told = [action, &record.name, &record.value];
        let hook = hook::Hook {
            program: self.argv.first().map(PathBuf::from).unwrap_or_default(),
            arguments: own.chain(told).map(str::to_owned).collect(),
            timeout: self.within,
            when: When::Installed,
        };
        hook.run_with(b"", [], "").await.map(drop)
    }
}

impl Records {
    /// Takes them away.
    pub(super) async fn remove(mut self) {
        let records = std::mem::take(&mut self.records);
        self.dns01.clone().remove(&records).await;
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return;
        }
        // Whoever waited for the order does so no more, and nobody else would take them away.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let dns01 = self.dns01.clone();
            runtime.spawn(async move { dns01.remove(&records).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn hook(script: &str, within: Duration) -> Hook {
        Hook::new(["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec(), within)
    }

    fn record() -> TxtRecord {
        TxtRecord { name: "_acme-challenge.a.example".to_owned(), value: "v; touch /tmp/never".to_owned() }
    }

    async fn run(script: &str, within: Duration) -> Result<(), HookError> {
        hook(script, within).run("present", &record()).await
    }

    /// Waits for a process to be gone.
    fn is_gone(pid: &str) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            // One that nobody has reaped yet is gone as well.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    #[tokio::test]
    async fn a_program_is_told_what_to_do_as_arguments_and_no_shell_sees_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("printf '%s|' \"$@\" > {}", out.display());
        run(&script, Duration::from_secs(20)).await.expect("done");
        let told = std::fs::read_to_string(out).expect("written");
        assert_eq!(told, "present|_acme-challenge.a.example|v; touch /tmp/never|");
    }

    #[tokio::test]
    async fn the_last_line_of_what_a_program_says_is_heard_up_to_a_bound() {
        let error = run(
            "head -c 50000000 /dev/zero; echo 'token: s3cret' >&2; echo 'no zone' >&2; exit 7",
            Duration::from_secs(60),
        )
        .await;
        let error = error.expect_err("it failed");
        assert!(
            matches!(&error, HookError::Failed { said, how, .. } if said.as_deref() == Some("no zone") && how == "exit status: 7"),
            "{error}"
        );
        let loud = "yes | head -c 5000000 >&2; exit 1";
        let error = run(loud, Duration::from_secs(60)).await.expect_err("it failed").to_string();
        assert!(error.len() < 500, "{}", error.len());
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_everything_that_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", out.display());
        let error = run(&script, Duration::from_secs(3)).await.expect_err("it hung");
        assert!(matches!(error, HookError::TimedOut { .. }), "{error:?}");
        let pid = std::fs::read_to_string(out).expect("written");
        assert!(is_gone(pid.trim()), "{pid}");
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_is_ended_and_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("sleep 1000 & echo $! > {}", out.display());
        run(&script, Duration::from_secs(600)).await.expect("done");
        let pid = std::fs::read_to_string(out).expect("written");
        assert!(is_gone(pid.trim()), "{pid}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let hook = Hook::new(vec!["/nowhere/hook".to_owned()], Duration::from_secs(1));
        let error = hook.run("present", &record()).await.expect_err("not there");
        assert_eq!(error.to_string(), "hook `/nowhere/hook` is not there");
        assert!(!Path::new("/tmp/never").exists());
    }

    #[tokio::test]
    async fn a_record_that_fails_takes_those_before_it_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("out");
        let script = format!("echo $1 $2 >> {}; test \"$1 $2\" != 'present bad'", out.display());
        let records = ["good", "bad", "never"].map(|name| TxtRecord { name: name.to_owned(), value: "v".to_owned() });
        let way = Way::Hook(hook(&script, Duration::from_secs(20)));
        let outcome = Dns01::new(way, Check::Off).present(records.to_vec(), Before::Unseen).await;
        assert!(matches!(outcome, Err(AcmeError::Hook { record, .. }) if record == "bad"));
        let told = std::fs::read_to_string(out).expect("written");
        assert_eq!(told, "present good\npresent bad\ncleanup good\ncleanup bad\n");
    }
}
