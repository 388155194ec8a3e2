//! `portcullis rollback`.

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
use crate::command::Renewed;

/// Put the certificate before the current one in its place again, and wait until it is proven served.
///
/// Nothing is issued. The certificate stays until the next renewal, planned or asked for with `portcullis renew`. One that has
/// ended, is revoked, or is not what the configuration asks for is refused, and everything stays as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the certificate in the configuration.
    name: String,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long to wait for the agent's answer, as in `30s`, `5m`.
    #[arg(long, default_value = "2m", value_parser = duration)]
    timeout: Duration,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let name = self.name;
        let back = ask(global, Some(self.timeout), async |client| {
            let way_back = client.rollback(name.clone());
            Progress::on_stderr().of(&client, &name, "going back with", way_back).await
        })?;
        print(&match self.output {
            Format::Json => json(&back)?,
            Format::Table => render(&back),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render(back: &Renewed) -> String {
    let old = back.old_serial.as_deref().unwrap_or("none");
    format!("{}: back from serial {old} to {}\n", back.name, back.new_serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_where_to_where() {
        let back = Renewed {
            name: "gateway".to_owned(),
            old_serial: Some("2a".to_owned()),
            new_serial: "29".to_owned(),
            issued_to_served_ms: None,
        };
        assert_eq!(render(&back), "gateway: back from serial 2a to 29\n");
    }
}
