//! A program of the operator's that knows how to set a secret where this agent does not.
//!
//! It is told what to do as JSON on its standard input, and its exit code is the answer. The secret is in no argument and no variable.

use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use super::InUse;
use super::Setting;
use super::TargetError;
use crate::hook::Ended;
use crate::hook::Hook;
use crate::hook::HookError;
use crate::secret::Secret;

/// `EX_TEMPFAIL` of `sysexits.h`: it is worth trying again.
const LATER: i32 = 75;
/// Somebody else sets the account's secrets.
const ANOTHER: i32 = 76;

/// A program, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What is run; `when` says nothing here.
    pub run: Hook,
    /// Whether an account can have two secrets at once.
    pub keeps_two: bool,
}

/// What it is told.
#[derive(Clone, Copy, Serialize)]
struct Told<'a> {
    action: &'static str,
    account: &'a str,
    secret: Option<&'a str>,
    until: Option<Timestamp>,
    owner: Option<&'a str>,
}

impl Program {
    pub(super) async fn set(&self, setting: &Setting<'_>) -> Result<(), TargetError> {
        let Setting { account, secret, known: _, until, owner } = *setting;
        fit(account, secret)?;
        let told = Told { action: "set", account, secret: Some(secret.expose()), until, owner: Some(owner) };
        self.tell(&told).await.map(drop)
    }

    pub(super) async fn test(&self, account: &str, secret: &Secret) -> Result<(), TargetError> {
        fit(account, secret)?;
        let told = Told { action: "test", account, secret: Some(secret.expose()), until: None, owner: None };
        match self.tell(&told).await {
            Err(TargetError::Program { path, how, said, .. }) => Err(TargetError::Login {
                place: path.display().to_string(),
                account: account.to_owned(),
                words: said.unwrap_or(how),
            }),
            answer => answer.map(drop),
        }
    }

    pub(super) async fn retire(&self, account: &str, old: &Secret) -> Result<(), TargetError> {
        let told = Told { action: "retire", account, secret: Some(old.expose()), until: None, owner: None };
        self.tell(&told).await.map(drop)
    }

    /// A program that knows prints how many sessions there are, in a line of its own.
    pub(super) async fn in_use(&self, account: &str) -> Result<InUse, TargetError> {
        let told = Told { action: "in_use", account, secret: None, until: None, owner: None };
        let said = self.tell(&told).await?;
        let sessions = said.and_then(|line| line.parse().ok());
        Ok(sessions.map_or(InUse::Unknown, InUse::Sessions))
    }

    /// Runs it, and says what it printed last.
    async fn tell(&self, told: &Told<'_>) -> Result<Option<String>, TargetError> {
        let json = Zeroizing::new(serde_json::to_vec(told).expect("strings are JSON"));
        let ended = self.run.run_to_end(&json, []).await;
        let Ended { path, status, output } = ended.map_err(TargetError::ProgramUnusable)?;
        let said = said(&output.text(), told.secret);
        let Some(status) = status else {
            let place = path.display().to_string();
            return Err(TargetError::TimedOut { place, doing: told.action, after: self.run.timeout });
        };
        let status =
            status.map_err(|source| TargetError::ProgramUnusable(HookError::Run { path: path.clone(), source }))?;
        match status.code() {
            Some(0) => Ok(said),
            Some(LATER) => Err(TargetError::Unavailable {
                place: path.display().to_string(),
                words: said.unwrap_or_else(|| format!("exit status {LATER}")),
            }),
            Some(ANOTHER) => Err(TargetError::Another {
                account: told.account.to_owned(),
                owner: None,
                remedy: said.unwrap_or_else(|| format!("`{}` says so", path.display())),
            }),
            _ => Err(TargetError::Program { path, action: told.action, how: status.to_string(), said }),
        }
    }
}

/// JSON holds every other text.
fn fit(account: &str, secret: &Secret) -> Result<(), TargetError> {
    if account.is_empty() {
        return Err(TargetError::Unfit { why: "an account has a name" });
    }
    if secret.expose().is_empty() {
        return Err(TargetError::Unfit { why: "an empty secret is none" });
    }
    Ok(())
}

/// The last line that says something; nothing of a text that has the secret in it, as it is or as JSON has it.
fn said(text: &str, secret: Option<&str>) -> Option<String> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    if let Some(secret) = secret {
        let json = Zeroizing::new(serde_json::to_string(secret).expect("a string is JSON"));
        let escaped = json.trim_matches('"');
        // A part of it tells enough: of a secret of several lines each.
        let mut parts = secret.lines().map(str::trim).filter(|part| !part.is_empty());
        if text.contains(escaped) || parts.any(|part| text.contains(part)) {
            return Some("what it printed holds the secret and is not repeated".to_owned());
        }
    }
    Some(super::error::line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_repeated_but_for_the_secret() {
        let withheld = "what it printed holds the secret and is not repeated";
        for (name, text, secret, want) in [
            ("nothing", "", "s3cret", None),
            ("the last line", "one\ntwo\n\n", "s3cret", Some("two")),
            ("the secret in another line", "curl -u app:s3cret\nfailed", "s3cret", Some(withheld)),
            ("as JSON has it", r#"{"secret":"a\"b"}"#, "a\"b", Some(withheld)),
            ("a line of it", "oh: second\nfailed", "first\nsecond", Some(withheld)),
            ("controls", "a\u{1b}[31mb", "s3cret", Some("a [31mb")),
        ] {
            assert_eq!(said(text, Some(secret)).as_deref(), want, "{name}");
        }
    }
}
