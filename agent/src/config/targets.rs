//! Where a certificate goes beside the proxies: files, and the programs that are told of them.

use std::path::Path;
use std::time::Duration;

use super::Certificate;
use super::Files;
use super::account::Account;
use super::account::Kind;
use super::check::Check;
use super::raw;
use crate::hook;
use crate::hook::Hook;
use crate::hook::When;
use crate::reload::Reload;
use crate::remedy;
use crate::remedy::Action;
use crate::remedy::Post;
use crate::remedy::Remedy;
use crate::yaml::Located;

/// Seconds that a hook has, if nothing is said.
const HOOK: i64 = 30;
const LONGEST_HOOK: i64 = 600;

impl Check<'_> {
    pub(super) fn files(&self, raw: raw::Files, field: &str) -> Result<Files, Located> {
        let keep = raw.keep.unwrap_or(3);
        if !(1..=100).contains(&keep) {
            return Err(self.bad(&format!("{field}.keep"), "keep 1 to 100 generations"));
        }
        let mode = raw.mode.as_deref().unwrap_or("0600");
        let mode = match u32::from_str_radix(mode, 8) {
            Ok(mode) if mode & !0o640 == 0 && mode & 0o400 != 0 => mode,
            _ => {
                let message =
                    format!("`{mode}` is not a mode for a private key: \"0600\", or \"0640\" to let the group read");
                return Err(self.bad(&format!("{field}.mode"), &message));
            }
        };
        let number = |account: Option<&Account>, kind, name: &str| {
            let number = account.map(|account| account.number(kind)).transpose();
            number.map_err(|why| self.bad(&format!("{field}.{name}"), &why))
        };
        let owner = number(raw.owner.as_ref(), Kind::User, "owner")?;
        let group = number(raw.group.as_ref(), Kind::Group, "group")?;
        Ok(Files { directory: self.path(&raw.directory), keep, mode, owner, group, combined: raw.combined })
    }

    pub(super) fn hooks(&self, raw: Vec<raw::Hook>, field: &str) -> Result<Vec<Hook>, Located> {
        let hooks = raw.into_iter().enumerate();
        hooks.map(|(at, hook)| self.hook(hook, &format!("{field}.hooks[{at}]"))).collect()
    }

    /// Who is told of failures.
    pub(super) fn remedies(&self, raw: Vec<raw::Remedy>) -> Result<Vec<Remedy>, Located> {
        let remedies = raw.into_iter().enumerate();
        remedies.map(|(at, remedy)| self.remedy(remedy, &format!("remedies[{at}]"))).collect()
    }

    fn remedy(&self, raw: raw::Remedy, field: &str) -> Result<Remedy, Located> {
        let raw::Remedy { on, run, url, timeout } = raw;
        let action = match (run, url) {
            (Some(run), None) => Action::Run(self.hook(raw::Hook { run, timeout, when: When::default() }, field)?),
            (None, Some(url)) => {
                let parsed = remedy::WANTED.parse(&url);
                let url = parsed.map_err(|why| self.bad(&format!("{field}.url"), &format!("it {why}")))?;
                Action::Post(Post { url, timeout: self.hook_timeout(timeout.as_deref(), field)? })
            }
            _ => return Err(self.bad(field, "a remedy needs either a program to `run` or a `url`")),
        };
        Ok(Remedy { on, action })
    }

    fn hook_timeout(&self, given: Option<&str>, field: &str) -> Result<Duration, Located> {
        let seconds = match given {
            None => HOOK,
            Some(given) => self.duration(given, &format!("{field}.timeout"), 1, LONGEST_HOOK)?,
        };
        Ok(Duration::from_secs(seconds.unsigned_abs()))
    }

    pub(super) fn hook(&self, raw: raw::Hook, field: &str) -> Result<Hook, Located> {
        let mut run = raw.run.into_iter();
        let program = run.next().filter(|program| !program.is_empty()).ok_or_else(|| {
            let message = "nothing to run: name a program and its arguments, as in `[/usr/sbin/nginx, -s, reload]`";
            self.bad(&format!("{field}.run"), message)
        })?;
        let arguments: Vec<String> = run.collect();
        if program.contains('\0') || arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(self.bad(&format!("{field}.run"), "a zero byte cannot be in an argument"));
        }
        // A bare name is looked for on `PATH`, as a shell does.
        let program = if program.contains('/') { self.path(Path::new(&program)) } else { program.into() };
        let timeout = self.hook_timeout(raw.timeout.as_deref(), field)?;
        Ok(Hook { program, arguments, timeout, when: raw.when })
    }

    pub(super) fn reload(&self, raw: raw::Reload) -> Reload {
        Reload { signal: raw.signal, pid_file: self.path(&raw.pid_file), exe: self.path(&raw.exe) }
    }

    /// Programs that cannot be run as things are. They may come before they are needed.
    pub(super) fn missing_programs(&self, certificates: &[Certificate], remedies: &[Remedy]) -> Vec<Located> {
        let mut remarks = Vec::new();
        for (at, remedy) in remedies.iter().enumerate() {
            if let Action::Run(hook) = &remedy.action
                && let Err(error) = hook::find(&hook.program)
            {
                remarks.push(self.bad(&format!("remedies[{at}].run"), &error.to_string()));
            }
        }
        for (at, certificate) in certificates.iter().enumerate() {
            for (number, hook) in certificate.hooks.iter().enumerate() {
                if let Err(error) = hook::find(&hook.program) {
                    remarks.push(self.bad(&format!("certificates[{at}].hooks[{number}].run"), &error.to_string()));
                }
            }
            if let Some(reload) = certificate.reload.as_ref().filter(|reload| !reload.exe.exists()) {
                let message = format!("`{}` is not there, so that nobody runs it", reload.exe.display());
                remarks.push(self.bad(&format!("certificates[{at}].reload.exe"), &message));
            }
        }
        remarks
    }
}

#[cfg(test)]
mod tests;
