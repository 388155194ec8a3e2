//! `portcullis renew`.

use std::process::ExitCode;
use std::time::Duration;

use super::Global;
use super::Outcome;
use super::client::ask;
use super::output::Format;
use super::output::json;
use super::print;
use super::progress::Progress;
use super::wait::duration;
use crate::command::Insistence;
use crate::command::IssuerWait;
use crate::command::Rehearsal;
use crate::command::Renewed;
use crate::command::Urgency;

/// Renew a certificate now and wait until the new one is proven served.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the certificate in the configuration.
    name: String,
    /// Ask the issuer although it asked to be left alone until later. Refused while it has paused the account.
    #[arg(long)]
    override_wait: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "2m", value_parser = duration)]
    timeout: Duration,
    /// Renew in a blackout as well.
    #[arg(long)]
    emergency: bool,
    /// Rehearse the whole order at the issuer's `staging` server; nothing is installed, and the present certificate stays.
    #[arg(long, conflicts_with_all = ["emergency", "override_wait"])]
    staging: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let name = self.name;
        if self.staging {
            let rehearsal = ask(global, Some(self.timeout), async |client| client.rehearse(name.clone()).await)?;
            print(&match self.output {
                Format::Json => json(&rehearsal)?,
                Format::Table => rehearsed(&rehearsal),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let insistence = Insistence {
            urgency: if self.emergency { Urgency::Emergency } else { Urgency::Planned },
            wait: if self.override_wait { IssuerWait::Overridden } else { IssuerWait::Kept },
        };
        let renewed = ask(global, Some(self.timeout), async |client| {
            let renewal = client.renew(name.clone(), insistence);
            Progress::on_stderr().of(&client, &name, "renewing", renewal).await
        })?;
        print(&match self.output {
            Format::Json => json(&renewed)?,
            Format::Table => render(&renewed),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render(renewed: &Renewed) -> String {
    let old = renewed.old_serial.as_deref().unwrap_or("none");
    let proof = match renewed.issued_to_served_ms {
        Some(milliseconds) => format!("served after {milliseconds} ms"),
        None => "no listener to prove it at".to_owned(),
    };
    format!("{}: serial {old} -> {}, {proof}\n", renewed.name, renewed.new_serial)
}

fn rehearsed(rehearsal: &Rehearsal) -> String {
    let Rehearsal { name, server, order, names, challenge, certificates, not_after, took_ms } = rehearsal;
    let until = not_after.map_or_else(String::new, |until| format!(", the leaf until {until}"));
    format!(
        "{name}: rehearsed at {server} in {took_ms} ms; nothing was installed\n  order  {order}\n  names  {}, proven by {challenge}\n  \
         chain  {certificates} certificates{until}, as a peer would take them from who trusts {server}\n",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_says_what_was_tried_and_that_nothing_came_of_it() {
        let rehearsal = Rehearsal {
            name: "gateway".to_owned(),
            server: "staging.example".to_owned(),
            order: "https://staging.example/order/1".to_owned(),
            names: vec!["a.example".to_owned(), "b.example".to_owned()],
            challenge: "http-01".to_owned(),
            certificates: 2,
            not_after: None,
            took_ms: 7,
        };
        let text = rehearsed(&rehearsal);
        for part in
            ["staging.example in 7 ms; nothing was installed", "order/1", "a.example, b.example, proven by http-01"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn old_and_new_serial_and_the_time() {
        let renewed = Renewed {
            name: "gateway".to_owned(),
            old_serial: Some("29".to_owned()),
            new_serial: "2a".to_owned(),
            issued_to_served_ms: Some(7),
        };
        assert_eq!(render(&renewed), "gateway: serial 29 -> 2a, served after 7 ms\n");
        let first = Renewed { old_serial: None, issued_to_served_ms: None, ..renewed };
        assert_eq!(render(&first), "gateway: serial none -> 2a, no listener to prove it at\n");
    }
}
