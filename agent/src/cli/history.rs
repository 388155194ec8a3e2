//! `portcullis history`.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr as _;

use jiff::Timestamp;

use super::Global;
use super::Outcome;
use super::output::Colour;
use super::output::Format;
use super::output::Rows;
use super::output::Tone;
use super::output::json;
use super::output::short;
use super::print;
use super::wait::duration;
use crate::audit;
use crate::audit::Event;
use crate::audit::Kind;
use crate::config::Config;
use crate::state_dir::audit_file;

/// Show what became of a certificate so far: when, what, from which serial to which, why, and what shows it.
///
/// Read from the audit log, whether or not the agent runs; `portcullis audit verify` says whether the log is as it was written.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a certificate, bundle, policy or proxy; everything, if there is none.
    name: Option<String>,
    /// Only what happened since then: an instant (`2026-11-22T10:00:00Z`), or so long ago (`36h`, `7d`).
    #[arg(long, value_parser = since)]
    since: Option<Timestamp>,
    /// Only so many of the newest.
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// There is nothing of that name.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has no certificate `{name}`, and the audit log says nothing of that name")]
struct Unknown {
    name: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let config = Config::load(&global.config)?;
        let of_name = |event: &Event| self.name.as_ref().is_none_or(|name| event.name == *name);
        let mut found = audit::events(&audit_file(&config.state_dir), of_name)?;
        if let Some(name) = self.name.filter(|name| found.events.is_empty() && config.certificate(name).is_none()) {
            return Err(Unknown { name }.into());
        }
        if found.unreadable > 0 {
            let lines = if found.unreadable == 1 { "line" } else { "lines" };
            writeln!(
                io::stderr(),
                "{} {lines} of the log cannot be read: see `portcullis audit verify`",
                found.unreadable
            )?;
        }
        found.events.retain(|event| self.since.is_none_or(|since| event.time >= since));
        let newest = found.events.len().saturating_sub(self.last.unwrap_or(usize::MAX));
        found.events.drain(..newest);
        print(&match self.output {
            Format::Json => json(&found.events)?,
            Format::Table => render(&found.events, Colour::of_stdout()),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render(events: &[Event], colour: Colour) -> String {
    let mut rows = Rows::new(colour, &["TIME", "NAME", "EVENT", "SERIAL", "CAUSE", "BY", "PROOF"]);
    for event in events {
        let serials = match (&event.old, &event.new) {
            (None, None) => "-".to_owned(),
            (Some(old), Some(new)) if old == new => short(new).to_owned(),
            (old, new) => {
                let text = |serial: &Option<String>| serial.as_deref().map_or("none", short).to_owned();
                if new.is_none() { text(old) } else { format!("{} -> {}", text(old), text(new)) }
            }
        };
        let plain = |text: &Option<String>| (Tone::Plain, text.clone().unwrap_or_else(|| "-".to_owned()));
        rows.push([
            (Tone::Plain, format!("{:.0}", event.time)),
            (Tone::Plain, event.name.clone()),
            (tone(event.event), kind(event.event)),
            (Tone::Plain, serials),
            plain(&event.cause),
            (Tone::Plain, event.by.clone()),
            plain(&event.proof),
        ]);
    }
    rows.render()
}

fn tone(event: Kind) -> Tone {
    match event {
        Kind::Alarm | Kind::Nack | Kind::PolicyRefused => Tone::Bad,
        Kind::AlarmCleared | Kind::Served => Tone::Good,
        Kind::ClockJumped | Kind::RolledBack | Kind::LogClosed => Tone::Waiting,
        _ => Tone::Plain,
    }
}

/// Its name in the log.
fn kind(event: Kind) -> String {
    serde_json::to_value(event).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Reads an instant, or a duration before now.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = Timestamp::from_str(text) {
        return Ok(instant);
    }
    let ago =
        duration(text).map_err(|_| "neither an instant, as in `2026-11-22T10:00:00Z`, nor a duration, as in `36h`")?;
    Timestamp::now().checked_sub(ago).map_err(|_| "so long ago that no calendar holds it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_event() {
        let at = |event: Event| Event { time: Timestamp::constant(1_000, 5), ..event };
        let events = [
            at(Event::new(Kind::CertificateIssued, "gateway")
                .by("schedule")
                .because("due")
                .change(Some("29"), Some("2a"))),
            at(Event::new(Kind::Served, "gateway").change(None, Some("2a")).proven("127.0.0.1:1 shows it")),
            at(Event::new(Kind::RenewRequested, "gateway").by("operator").change(Some("2a"), None)),
        ];
        let want = "\
TIME                  NAME     EVENT               SERIAL      CAUSE  BY        PROOF
1970-01-01T00:16:40Z  gateway  certificate_issued  29 -> 2a    due    schedule  -
1970-01-01T00:16:40Z  gateway  served              none -> 2a  -      agent     127.0.0.1:1 shows it
1970-01-01T00:16:40Z  gateway  renew_requested     2a          -      operator  -
";
        assert_eq!(render(&events, Colour::Never), want);
    }

    #[test]
    fn since_takes_instants_and_durations() {
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), Timestamp::constant(1, 0));
        let hour = Timestamp::now().as_second() - since("1h").unwrap().as_second();
        assert!((3_600..3_700).contains(&hour), "{hour}");
        assert!(since("yesterday").unwrap_err().contains("36h"));
    }
}
