//! `portcullis revoke`, `unrevoke`, `distrust` and `revocations`.

mod list;
mod targets;

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::Global;
use super::Outcome;
use super::client::ask;
use super::output::Format;
use super::output::json;
use super::output::span;
use super::print;
use super::wait::duration;
use crate::config::Config;
use crate::gate::Taken;
use crate::revocation::Change;
use crate::revocation::ChangeRequest;
use crate::revocation::Changed;
use crate::revocation::MAX_TARGETS;
use crate::revocation::Mode;
use crate::revocation::Target;

pub(super) use list::ListArgs;

use targets::Issuer;
use targets::Targets;

/// Certificates that a table names.
const SHOWN: usize = 20;

/// Revoke certificates, now: on connections that are open too.
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    targets: Targets,
    #[command(flatten)]
    how: How,
}

/// Believe again what was revoked or distrusted.
#[derive(Debug, clap::Args)]
pub(super) struct UnrevokeArgs {
    #[command(flatten)]
    targets: Targets,
    /// What was distrusted: everything that the authority of `--issuer` issued before this instant.
    #[arg(long, value_name = "TIME")]
    issued_before: Option<Timestamp>,
    #[command(flatten)]
    how: How,
}

/// Believe nothing that an authority issued before an instant, on connections that are open too.
#[derive(Debug, clap::Args)]
pub(super) struct DistrustArgs {
    /// The first instant that is spared, as `2026-11-01T00:00:00Z`, or `now`.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    issued_before: Timestamp,
    #[command(flatten)]
    issuer: Issuer,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Change nothing; say which of the certificates that this agent issued would end.
    #[arg(long)]
    dry_run: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`; two thirds of it the agent waits for proxies.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

fn instant(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(whole(Timestamp::now()));
    }
    text.parse().map(whole).map_err(|_| "not an instant, as `2026-11-01T00:00:00Z` or `now`".to_owned())
}

/// Certificates know no fractions of a second.
fn whole(instant: Timestamp) -> Timestamp {
    Timestamp::from_second(instant.as_second()).unwrap_or(instant)
}

impl RevokeArgs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let targets = self.targets.read(&Config::load(&global.config)?)?;
        self.how.carry_out(global, Change::Revoke, targets)
    }
}

impl UnrevokeArgs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let config = Config::load(&global.config)?;
        let mut targets = self.targets.read(&config)?;
        if let Some(before) = self.issued_before {
            let issuers = self.targets.issuer.names(&config)?.into_iter();
            targets.extend(issuers.map(|issuer| Target::IssuedBefore { issuer, instant: whole(before) }));
        }
        self.how.carry_out(global, Change::Unrevoke, targets)
    }
}

impl DistrustArgs {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let issuers = self.issuer.names(&Config::load(&global.config)?)?.into_iter();
        let targets = issuers.map(|issuer| Target::IssuedBefore { issuer, instant: self.issued_before });
        self.how.carry_out(global, Change::Revoke, targets.collect())
    }
}

impl How {
    fn carry_out(self, global: &Global, change: Change, targets: Vec<Target>) -> Outcome {
        if targets.is_empty() {
            return Err("name something: `--serial`, `--certificate`, `--sha256`, `--spki-sha256`, `--identity` or `--from`; see `--help`".into());
        }
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Real };
        let patience = self.timeout.as_secs().saturating_mul(2) / 3;
        let mut all = Vec::new();
        for targets in targets.chunks(MAX_TARGETS) {
            let (targets, reason) = (targets.to_vec(), self.reason.clone());
            let request = ChangeRequest { change, targets, reason, mode, patience };
            all.push(ask(global, Some(self.timeout), async |client| client.change(&request).await)?);
        }
        let changed = together(all);
        print(&match self.output {
            Format::Json => json(&changed)?,
            Format::Table => render(&changed, change, Timestamp::now()),
        })?;
        // What is not in force everywhere is no success, though it is written down and goes on being pushed.
        let done = !matches!(changed.taken, Some(Taken::NotYet | Taken::Refused | Taken::NotSent));
        Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The answers to one list of targets in several requests, as one.
fn together(all: Vec<Changed>) -> Changed {
    let nothing = Changed { changed: 0, unchanged: 0, ends: Vec::new(), ends_total: 0, taken: None };
    all.into_iter().fold(nothing, |sum, next| Changed {
        changed: sum.changed + next.changed,
        unchanged: sum.unchanged + next.unchanged,
        ends: sum.ends.into_iter().chain(next.ends).collect(),
        ends_total: sum.ends_total + next.ends_total,
        taken: next.taken,
    })
}

fn render(changed: &Changed, change: Change, now: Timestamp) -> String {
    let (done, would, before) = match change {
        Change::Revoke => ("revoked", "would be revoked", "revoked before"),
        Change::Unrevoke => ("believed again", "would be believed again", "not revoked"),
    };
    let what = if changed.taken.is_none() { would } else { done };
    let mut text = format!("{} {what}", changed.changed);
    if changed.unchanged > 0 {
        text.push_str(&format!(", {} {before}", changed.unchanged));
    }
    text.push_str(&match &changed.taken {
        None => "; nothing was changed\n".to_owned(),
        Some(Taken::By { proxies: 1 }) => "; in force on 1 proxy\n".to_owned(),
        Some(Taken::By { proxies }) => format!("; in force on {proxies} proxies\n"),
        Some(Taken::NoFilter) => "; no filter is configured that could refuse anybody\n".to_owned(),
        Some(Taken::Nobody) => "; no proxy is connected, the next one gets it first of all\n".to_owned(),
        Some(Taken::NotYet) => "; NOT YET IN FORCE on every proxy: see `portcullis status`\n".to_owned(),
        Some(Taken::Refused) => "; REFUSED BY A PROXY: see `portcullis status`\n".to_owned(),
        Some(Taken::NotSent) => "; NOT SENT TO ANY PROXY: see the agent's log\n".to_owned(),
    });
    if change == Change::Revoke {
        let is_dry = changed.taken.is_none();
        let verb = if is_dry { "would end" } else { "end" };
        text.push_str(&match changed.ends_total {
            0 if is_dry => "of the certificates that this agent issued, none would end\n".to_owned(),
            0 => "of the certificates that this agent issued, none ends\n".to_owned(),
            1 => format!("connections with 1 certificate of this agent's CA {verb}:\n"),
            count => format!("connections with {count} certificates of this agent's CA {verb}:\n"),
        });
        for ended in changed.ends.iter().take(SHOWN) {
            let left = span(now, ended.not_after);
            text.push_str(&format!("  {} serial {}, {left} left\n", ended.identity, ended.serial));
        }
        if changed.ends_total > SHOWN.min(changed.ends.len()) {
            text.push_str(&format!("  and {} more\n", changed.ends_total - SHOWN.min(changed.ends.len())));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::Ended;

    fn changed(ends: usize, taken: Option<Taken>) -> Changed {
        let ended = |number: usize| Ended {
            identity: format!("spiffe://a/{number}"),
            serial: "2a".to_owned(),
            not_after: Timestamp::from_second(60).unwrap(),
        };
        Changed { changed: 2, unchanged: 1, ends: (0..ends).map(ended).collect(), ends_total: ends, taken }
    }

    #[test]
    fn the_answer_says_what_was_done_and_where_it_is_in_force() {
        let now = Timestamp::UNIX_EPOCH;
        let cases = [
            (
                "dry",
                render(&changed(0, None), Change::Revoke, now),
                "2 would be revoked, 1 revoked before; nothing was changed\nof the certificates that this agent issued, none would end\n",
            ),
            (
                "one",
                render(&changed(1, Some(Taken::By { proxies: 1 })), Change::Revoke, now),
                "2 revoked, 1 revoked before; in force on 1 proxy\nconnections with 1 certificate of this agent's CA end:\n  spiffe://a/0 serial 2a, 1 min left\n",
            ),
            (
                "back",
                render(&changed(0, Some(Taken::Nobody)), Change::Unrevoke, now),
                "2 believed again, 1 not revoked; no proxy is connected, the next one gets it first of all\n",
            ),
        ];
        for (name, got, want) in cases {
            assert_eq!(got, want, "{name}");
        }
        let many = render(&changed(25, None), Change::Revoke, now);
        assert!(many.ends_with("  and 5 more\n") && many.lines().count() == 23, "{many}");
    }

    #[test]
    fn an_instant_is_now_or_written_out() {
        assert_eq!(instant("2026-11-01T00:00:00.9Z").unwrap().to_string(), "2026-11-01T00:00:00Z");
        assert!(instant("now").is_ok() && instant("yesterday").is_err());
    }
}
