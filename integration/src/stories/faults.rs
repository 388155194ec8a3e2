//! `faults`: disks and directories that do not do what they should. Each is found before a certificate is ordered, the last good
//! pair stays served, and the agent goes on by itself when all is well again. Clocks that are set have a story of their own.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;

use super::CHECKOUT;
use super::REPORTING;
use super::rotation::carry;
use super::within;
use crate::environment::Ask;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::chain;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// Until it goes on by itself; it waits between attempts.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nobody.
const NOBODY: u32 = 65534;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        let clients = [environment.client(CHECKOUT, Http1).await?, environment.client(REPORTING, Http2).await?];
        let plan = Plan { kept: 2, fresh: 2, every: Duration::from_millis(40), ask: Ask::get("/orders/42") };
        report.step("constant load; the service behind the gate reads its certificate from files");
        let load = Load::start(&clients, &plan);
        let directory = environment.directory().join("etc/upstream");
        let aside = environment.directory().join("aside");

        let planted = Fault {
            what: "somebody puts a link in the place of the directory",
            refused: "is a link or no directory",
            begin: &|| fs::rename(&directory, &aside).and_then(|()| symlink(&aside, &directory)),
            end: &|| fs::remove_file(&directory).and_then(|()| fs::rename(&aside, &directory)),
        };
        let mode = |mode| fs::set_permissions(&directory, Permissions::from_mode(mode));
        let was = look(&directory)?;
        let open = Fault {
            what: "everybody may write to the directory",
            refused: "chmod go-w",
            begin: &|| mode(0o777),
            end: &|| mode(was.1),
        };
        let own = Fault {
            what: "the directory is given to somebody else",
            refused: "belongs to user 65534",
            begin: &|| chown(&directory, Some(NOBODY), None),
            end: &|| chown(&directory, Some(was.0), None),
        };
        let read_only = Fault {
            what: "nobody may write to the directory",
            refused: "cannot write",
            begin: &|| mode(0o500),
            end: &|| mode(was.1),
        };
        // Root writes where nobody may, and nobody else gives anything away.
        let third = if was.0 == 0 { own } else { read_only };
        for fault in [planted, open, third] {
            fault.tell(environment, report, &load).await?;
        }
        full_disk(environment, report, &load).await?;

        let tally = load.stop().await;
        report.holds("no request failed in all of it", tally.failures() == 0, &tally)?;
        let audit = environment.agent.run(&["audit", "verify"]).await?;
        report.holds("the audit log is whole", true, audit.trim())
    })
    .await
}

/// Something that goes wrong with the directory of the service's files.
struct Fault<'a> {
    what: &'static str,
    /// What the agent has to say to it.
    refused: &'static str,
    begin: &'a dyn Fn() -> io::Result<()>,
    end: &'a dyn Fn() -> io::Result<()>,
}

impl Fault<'_> {
    async fn tell(&self, environment: &Environment, report: &mut Report, load: &Load) -> Result<(), StoryError> {
        report.step(self.what);
        let directory = environment.directory().join("etc/upstream");
        let failed = |source| EnvironmentError::File { doing: "change", path: directory.clone(), source };
        let rotations = rotations(environment, "upstream").await?;
        let issued = issued(environment);
        (self.begin)().map_err(failed)?;
        let error = environment.agent.renew("upstream").await.err().map(|error| chain(&error)).unwrap_or_default();
        // Put right in any case, so that the next fault is alone.
        let same = issued == self::issued(environment);
        carry(load).await?;
        (self.end)().map_err(failed)?;
        let found = error.contains(self.refused) && error.contains("journal failed");
        report.holds("that is found before anything is ordered", found && same, &error)?;
        let went_on = by_itself(environment, "upstream", rotations).await?;
        let one = settled(environment, issued + 1).await?;
        report.holds("when it is over the renewal is made by itself, once", one, format_args!("rotation {went_on}"))?;
        carry(load).await
    }
}

/// No file of the agent grows any more, its store and its log included.
async fn full_disk(environment: &Environment, report: &mut Report, load: &Load) -> Result<(), StoryError> {
    report.step("the disk is full: no file of the agent can be written, its store, log and audit log included");
    let (rotations, issued) = (rotations(environment, "gateway").await?, issued(environment));
    let limit = set_limit(environment, Some(0))?;
    let error = environment.agent.renew("gateway").await.err().map(|error| chain(&error)).unwrap_or_default();
    let same = issued == self::issued(environment);
    report.holds("the renewal is refused, and nothing is ordered", !error.is_empty() && same, &error)?;
    carry(load).await?;
    let status = environment.agent.status().await?;
    let answers = status.certificates.iter().all(|certificate| certificate.stored.is_some());
    report.holds("the agent answers, and what it delivered is served", answers, status.reasons.join("; "))?;
    set_limit(environment, limit)?;
    let went_on = by_itself(environment, "gateway", rotations).await?;
    let one = settled(environment, issued + 1).await?;
    let seen = format_args!("rotation {went_on}");
    report.holds("with room again the renewal is made by itself, once, and without a restart", one, seen)?;
    carry(load).await
}

/// Sets how large a file of the agent may become, and says how large it might before.
fn set_limit(environment: &Environment, current: Option<u64>) -> Result<Option<u64>, EnvironmentError> {
    let failed = |source| EnvironmentError::Socket { doing: "limit the agent's files", source };
    let pid = environment.agent.process().and_then(|process| Pid::from_raw(i32::try_from(process.id()).ok()?));
    let pid = pid.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let set = |limit| rustix::process::prlimit(Some(pid), Resource::Fsize, limit).map_err(|error| failed(error.into()));
    let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
    Ok(set(Rlimit { current, maximum })?.current)
}

/// Waits until there was another rotation, and all is well.
async fn by_itself(environment: &Environment, name: &str, before: u64) -> Result<u64, EnvironmentError> {
    let rotation = wait::until("the renewal by itself", PATIENCE, async || {
        let now = rotations(environment, name).await.map_err(|error| chain(&error))?;
        if now > before { Ok(now) } else { Err(reasons(environment).await) }
    })
    .await?;
    environment.ready().await?;
    Ok(rotation)
}

async fn rotations(environment: &Environment, name: &str) -> Result<u64, EnvironmentError> {
    let status = environment.agent.status().await?;
    let found = status.certificates.iter().find(|certificate| certificate.name == name);
    Ok(found.map_or(0, |certificate| certificate.rotations))
}

async fn reasons(environment: &Environment) -> String {
    environment.agent.status().await.map_or_else(|error| chain(&error), |status| status.reasons.join("; "))
}

/// Certificates that were issued for names of the configuration.
fn issued(environment: &Environment) -> usize {
    let log = fs::read_to_string(environment.directory().join("state/audit.jsonl")).unwrap_or_default();
    log.lines().filter(|line| line.contains("\"certificate_issued\"")).count()
}

/// Waits until so many are in the log, which is written a moment after; whether there are no more.
async fn settled(environment: &Environment, wanted: usize) -> Result<bool, EnvironmentError> {
    wait::until("the audit log", PATIENCE, async || match issued(environment) {
        now if now >= wanted => Ok(now == wanted),
        now => Err(format!("{now} issued")),
    })
    .await
}

/// Owner and mode.
fn look(path: &Path) -> Result<(u32, u32), EnvironmentError> {
    let failed = |source| EnvironmentError::File { doing: "look at", path: PathBuf::from(path), source };
    fs::metadata(path).map(|metadata| (metadata.uid(), metadata.mode() & 0o7777)).map_err(failed)
}
