//! `portcullis revocations`.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::super::Global;
use super::super::Outcome;
use super::super::client::ask;
use super::super::output::Colour;
use super::super::output::Format;
use super::super::output::Rows;
use super::super::output::Tone;
use super::super::output::json;
use super::super::output::span;
use super::super::print;
use super::super::wait::duration;
use crate::revocation::Revoked;

/// Rows of a table; JSON has all of them.
const SHOWN: usize = 50;

/// Show what is revoked, and why. With `-o json`, also as the filter has it, for `portcullis policy decide --revocations`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArgs {
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

impl ListArgs {
    pub(in crate::cli) fn run(self, global: &Global) -> Outcome {
        let revoked = ask(global, Some(self.timeout), async |client| client.revoked().await)?;
        print(&match self.output {
            Format::Json => json(&revoked)?,
            Format::Table => render(&revoked, Timestamp::now(), Colour::of_stdout()),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render(revoked: &Revoked, now: Timestamp, colour: Colour) -> String {
    let mut rows = Rows::new(colour, &["REVOKED", "AGE", "REASON"]);
    for entry in revoked.operator.iter().take(SHOWN) {
        rows.push([
            (Tone::Plain, entry.target.to_string()),
            (Tone::Plain, span(entry.since, now)),
            (Tone::Plain, entry.reason.clone()),
        ]);
    }
    let count = revoked.operator.len();
    let mut text = if count == 0 { String::new() } else { rows.render() };
    text.push_str(&match count.checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => format!("and {more} more; `-o json` has all of them\n"),
        None if count == 0 => "nothing is revoked\n".to_owned(),
        None => String::new(),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::RevokedTarget;
    use crate::revocation::Target;
    use crate::status::RevocationStatus;

    #[test]
    fn a_table_of_what_is_revoked() {
        let revoked = |count: usize| Revoked {
            status: RevocationStatus::default(),
            operator: vec![
                RevokedTarget {
                    target: Target::identity("dns:a").unwrap(),
                    since: Timestamp::UNIX_EPOCH,
                    reason: "lost".to_owned(),
                };
                count
            ],
            set: serde_json::Value::Null,
        };
        let render = |count| render(&revoked(count), Timestamp::from_second(60).unwrap(), Colour::Never);
        assert_eq!(render(0), "nothing is revoked\n");
        assert_eq!(render(1), "REVOKED         AGE    REASON\nidentity dns:a  1 min  lost\n");
        assert!(render(51).ends_with("and 1 more; `-o json` has all of them\n"));
    }
}
