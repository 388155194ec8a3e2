//! ACL users of Redis and Valkey.
//!
//! The server gets the SHA-256 of a secret, never the secret: `MONITOR`, its log and its files show no more than that. A user has
//! as many secrets as one likes; each that this agent does not know was put there by somebody else.

mod session;
mod user;

use std::path::PathBuf;
use std::time::Duration;

use ::redis::cmd;
use sha2::Digest as _;
use sha2::Sha256;

use super::InUse;
use super::Place;
use super::Setting;
use super::TargetError;
use crate::leaf::hex;
use crate::secret::Secret;
use session::Session;
use user::User;

/// As long as a secret may be anywhere.
const LONGEST: usize = 64 * 1024;
const SETTING: &str = "set a password";
const TAKING: &str = "take a password off";
const SAVING: &str = "save its users";
const COUNTING: &str = "list its clients";

/// One server, and who sets passwords there.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// Where it is.
    pub place: Place,
    /// Who sets passwords.
    pub user: String,
    /// The file with its password; none for a user without one.
    pub password: Option<PathBuf>,
    /// What is done for a password to outlive the server.
    pub persist: Persist,
    /// How long each step may take.
    pub timeout: Duration,
}

/// Where a server keeps its users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persist {
    /// In the file that `aclfile` names.
    AclFile,
    /// In its configuration.
    ConfigFile,
    /// Nowhere; a server that starts again lets nobody in until the secret is set again.
    Nowhere,
    /// In either, as the server is set up.
    #[default]
    WhatThereIs,
}

impl Redis {
    pub(super) async fn set(&self, setting: &Setting<'_>) -> Result<(), TargetError> {
        self.not_own(setting.account)?;
        fit(setting.secret)?;
        let new = hash(setting.secret);
        let known: Vec<String> = setting.known.iter().map(hash).chain([new.clone()]).collect();
        let mut session = Session::administrator(self).await?;
        let user = self.user(&mut session, setting.account).await?;
        if user.is_open {
            let words = "the user is `nopass`: everybody gets in, with whatever secret".to_owned();
            return Err(TargetError::Policy { place: self.place.to_string(), words });
        }
        if !user.passwords.iter().all(|password| known.contains(password)) {
            return Err(another(setting.account));
        }
        if !user.passwords.contains(&new) {
            self.change(&mut session, setting.account, &format!("#{new}"), SETTING).await?;
            // Another agent may have looked when we did.
            let user = self.user(&mut session, setting.account).await?;
            if !user.passwords.iter().all(|password| known.contains(password)) {
                self.change(&mut session, setting.account, &format!("!{new}"), TAKING).await?;
                return Err(another(setting.account));
            }
        }
        self.save(&mut session).await
    }

    pub(super) async fn test(&self, account: &str, secret: &Secret) -> Result<(), TargetError> {
        fit(secret)?;
        Session::consumer(self, account, secret).await.map(drop)
    }

    pub(super) async fn retire(&self, account: &str, old: &Secret, still: Option<&Secret>) -> Result<(), TargetError> {
        self.not_own(account)?;
        let (old, still) = (hash(old), still.map(hash));
        if still.as_ref() == Some(&old) {
            return Ok(());
        }
        let mut session = Session::administrator(self).await?;
        let user = self.user(&mut session, account).await?;
        if still.is_some_and(|still| !user.passwords.contains(&still)) {
            return Err(TargetError::Forgotten { account: account.to_owned() });
        }
        if user.passwords.contains(&old) {
            self.change(&mut session, account, &format!("!{old}"), TAKING).await?;
        }
        self.save(&mut session).await
    }

    pub(super) async fn in_use(&self, account: &str) -> Result<InUse, TargetError> {
        let mut session = Session::administrator(self).await?;
        let own: u64 = session.ask(cmd("CLIENT").arg("ID"), COUNTING).await?;
        let list: String = session.ask(cmd("CLIENT").arg("LIST"), COUNTING).await?;
        Ok(InUse::Sessions(user::sessions(&list, account, own)))
    }

    async fn user(&self, session: &mut Session<'_>, account: &str) -> Result<User, TargetError> {
        let user = session.ask(cmd("ACL").arg("GETUSER").arg(account), "show a user").await?;
        let missing = || TargetError::NoAccount { place: self.place.to_string(), account: account.to_owned() };
        User::read(user).ok_or_else(missing)
    }

    async fn change(
        &self,
        session: &mut Session<'_>,
        account: &str,
        rule: &str,
        doing: &'static str,
    ) -> Result<(), TargetError> {
        session.ask(cmd("ACL").arg("SETUSER").arg(account).arg(rule), doing).await
    }

    /// Has the server write down its users, as it was told.
    async fn save(&self, session: &mut Session<'_>) -> Result<(), TargetError> {
        let files: &[Persist] = match &self.persist {
            Persist::Nowhere => return Ok(()),
            Persist::WhatThereIs => &[Persist::AclFile, Persist::ConfigFile],
            one => std::slice::from_ref(one),
        };
        let mut none = String::new();
        for file in files {
            let mut command = cmd(if *file == Persist::AclFile { "ACL" } else { "CONFIG" });
            command.arg(if *file == Persist::AclFile { "SAVE" } else { "REWRITE" });
            match session.ask(&command, SAVING).await {
                // There is no such file: perhaps the other.
                Err(TargetError::Refused { words, .. }) if user::has_no_file(&words) => none = words,
                Err(TargetError::Refused { words, .. } | TargetError::NotAllowed { words, .. }) => {
                    return Err(TargetError::Persist { place: self.place.to_string(), words });
                }
                saved => return saved,
            }
        }
        let words = format!("{none}; give it an `aclfile`, or say `persist: nowhere`");
        Err(TargetError::Persist { place: self.place.to_string(), words })
    }

    fn not_own(&self, account: &str) -> Result<(), TargetError> {
        if account == self.user {
            return Err(TargetError::OwnAccount { account: account.to_owned() });
        }
        if account.is_empty() || account.contains(|letter: char| letter == '\0' || letter.is_ascii_whitespace()) {
            return Err(TargetError::Unfit { why: "an account has a name without blanks and zero bytes" });
        }
        Ok(())
    }
}

/// As an ACL rule says it.
fn hash(secret: &Secret) -> String {
    hex(&Sha256::digest(secret.expose()))
}

fn fit(secret: &Secret) -> Result<(), TargetError> {
    if secret.expose().is_empty() {
        return Err(TargetError::Unfit { why: "an empty password is none" });
    }
    if secret.expose().len() > LONGEST {
        return Err(TargetError::Unfit { why: "a password has 64 KiB at most" });
    }
    Ok(())
}

fn another(account: &str) -> TargetError {
    TargetError::Another {
        account: account.to_owned(),
        owner: None,
        remedy: format!(
            "it has a password that this agent did not set: take that off with `ACL SETUSER {account} !HASH`, \
             as `ACL GETUSER {account}` shows it"
        ),
    }
}
