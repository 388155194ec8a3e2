//! `portcullis simulate`.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr as _;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_policy::UnixTime;
use portcullis_policy::rotation::Stored;
use portcullis_policy::schedule::Validity;
use serde_json::Value;
use serde_json::json;

use super::Global;
use super::Outcome;
use super::block_on;
use super::output::Colour;
use super::output::Format;
use super::output::Rows;
use super::output::Tone;
use super::output::json as pretty;
use super::output::span;
use super::output::toned;
use super::print;
use super::wait::duration;
use crate::config::Certificate;
use crate::config::Config;
use crate::config::parse_duration;
use crate::control_client::ControlClient;
use crate::leaf;
use crate::simulation;
use crate::simulation::Moment;
use crate::simulation::Outage;
use crate::simulation::Scene;
use crate::simulation::Simulated;
use crate::simulation::What;

/// How long a running agent is asked for what it holds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Renewals on schedule that are shown, before the others are only counted.
const SHOWN: usize = 3;
/// Attempts of a series that are shown at its begin, and at its end.
const SERIES: usize = 5;
const DAY: i64 = 86_400;

/// Run a certificate's calendar ahead, with its issuer down for a while, and show the margin.
///
/// The same code as the agent's decides; nobody is asked for a certificate. It begins with what the running agent holds, or else
/// with a certificate that is issued now. Exit status 1 if a certificate would end before its successor is served.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the certificate in the configuration.
    name: String,
    /// For how long the issuer is down, as in `36h`.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    down_for: Option<Duration>,
    /// Since when: an instant (`2026-11-23T10:00:00Z`), or from now (`6h`). By default the worst moment: when the next renewal
    /// begins.
    #[arg(long, value_name = "WHEN", requires = "down_for", value_parser = ahead)]
    issuer_down_from: Option<UnixTime>,
    /// The fallback is down as well.
    #[arg(long, requires = "down_for")]
    fallback_down: bool,
    /// How many days are looked at. By default, until a lifetime after the outage, and two lifetimes at least.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3_660))]
    days: Option<u32>,
    /// How long a new certificate lives, if the issuer does not do as the configuration says.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lifetime: Option<Duration>,
    /// Begin with a certificate that is issued now, whatever a running agent holds.
    #[arg(long)]
    fresh: bool,
    /// Other numbers draw other jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Nothing of that name can be simulated.
#[derive(Debug, thiserror::Error)]
#[error("no certificate is called `{name}`; the configuration has {known}")]
struct Unknown {
    name: String,
    known: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let config = Config::load(&global.config)?;
        let Some(certificate) = config.certificate(&self.name) else {
            let names = config.certificates.iter().map(|certificate| format!("`{}`", certificate.name));
            return Err(Unknown { name: self.name, known: names.collect::<Vec<_>>().join(", ") }.into());
        };
        let stored = if self.fresh { None } else { held(&config, &self.name)? };
        if stored.is_none() && !self.fresh {
            writeln!(
                io::stderr(),
                "the agent does not run, or holds none: beginning with a certificate that is issued now"
            )?;
        }
        let from = leaf::now();
        let scene = self.scene(certificate, stored, from);
        let simulated = simulation::run(&scene);
        print(&match self.output {
            Format::Json => pretty(&as_json(&scene, &simulated))?,
            Format::Table => render(&scene, &simulated, Colour::of_stdout()),
        })?;
        Ok(if simulated.gap.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn scene<'a>(&self, certificate: &'a Certificate, stored: Option<(Stored, String)>, from: UnixTime) -> Scene<'a> {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let held = stored.as_ref().map(|(stored, _)| stored.validity.lifetime());
        let lifetime = self.lifetime.map(seconds).or(held).unwrap_or(certificate.lifetime).max(1);
        let later = |at: UnixTime, by: i64| UnixTime(at.0.saturating_add(by));
        let mut scene = Scene {
            certificate,
            lifetime,
            stored,
            from,
            to: later(from, lifetime.saturating_mul(2)),
            outages: Vec::new(),
            seed: self.seed,
        };
        if let Some(down_for) = self.down_for.map(seconds) {
            let begins = self.issuer_down_from.or_else(|| simulation::first_renewal(&scene)).unwrap_or(from);
            let ends = later(begins, down_for);
            let away = |issuer: &String| Outage { issuer: issuer.clone(), from: begins, to: ends };
            scene.outages.push(away(&certificate.issuer));
            let fallback = certificate.fallback.as_ref().filter(|_| self.fallback_down);
            scene.outages.extend(fallback.map(|fallback| away(&fallback.issuer)));
            scene.to = scene.to.max(later(ends, lifetime));
        }
        if let Some(days) = self.days {
            scene.to = later(from, i64::from(days) * DAY);
        }
        scene
    }
}

/// What a running agent holds.
fn held(config: &Config, name: &str) -> io::Result<Option<(Stored, String)>> {
    let client = ControlClient::new(config.listen.control.clone()).within(PATIENCE);
    let Ok(status) = block_on(client.status())? else { return Ok(None) };
    let unix = |at: Timestamp| UnixTime(at.as_second());
    Ok(status.certificates.into_iter().find(|certificate| certificate.name == name).and_then(|found| {
        let leaf = found.stored?;
        let validity = Validity { not_before: unix(leaf.not_before), not_after: unix(leaf.not_after) };
        Some((Stored { validity, renew_at: unix(found.renew_at?) }, found.issuer))
    }))
}

/// Reads an instant, or a duration from now.
fn ahead(text: &str) -> Result<UnixTime, String> {
    if let Ok(instant) = Timestamp::from_str(text) {
        return Ok(UnixTime(instant.as_second()));
    }
    let seconds = parse_duration(text.trim_start_matches('+')).filter(|seconds| *seconds >= 0);
    let seconds =
        seconds.ok_or("neither an instant, as in `2026-11-23T10:00:00Z`, nor a duration from now, as in `6h`")?;
    Ok(UnixTime(leaf::now().0.saturating_add(seconds)))
}

fn render(scene: &Scene<'_>, simulated: &Simulated, colour: Colour) -> String {
    let mut lines: Vec<(UnixTime, [(Tone, String); 4])> = Vec::new();
    let plain = |text: String| (Tone::Plain, text);
    let at = |at: UnixTime| plain(leaf::timestamp(at).to_string());
    let inn = |at: UnixTime| plain(format!("+{}", length(at.0 - scene.from.0)));
    if let Some((stored, issuer)) = &scene.stored {
        let left = stored.validity.not_after.0 - scene.from.0;
        let what = format!("held, issued by `{issuer}`, renewal at {}", leaf::timestamp(stored.renew_at));
        lines.push((scene.from, [at(scene.from), inn(scene.from), plain(length(left)), plain(what)]));
    }
    for outage in &scene.outages {
        for (when, what) in [(outage.from, "goes away"), (outage.to, "is back")] {
            let what = (Tone::Waiting, format!("`{}` {what}", outage.issuer));
            lines.push((when, [at(when), inn(when), plain(String::new()), what]));
        }
    }
    let (mut on_schedule, mut more) = (0, 0);
    let mut was_calm = true;
    let (mut series, mut skipped) = (0, 0);
    for (number, moment) in simulated.moments.iter().enumerate() {
        series = if matches!(moment.what, What::Failed { .. }) { series + 1 } else { 0 };
        // Of a long series, its begin and its end.
        let mut ahead = simulated.moments.iter().skip(number).take(SERIES);
        if series > SERIES && ahead.len() == SERIES && ahead.all(|next| matches!(next.what, What::Failed { .. })) {
            skipped += 1;
            continue;
        }
        if skipped > 0 {
            let what = (Tone::Waiting, format!("… and {skipped} more attempts like these …"));
            lines.push((moment.at, [plain(String::new()), plain(String::new()), plain(String::new()), what]));
            skipped = 0;
        }
        let is_routine = matches!(moment.what, What::Served { .. });
        if is_routine && was_calm {
            on_schedule += 1;
        }
        if is_routine && was_calm && on_schedule > SHOWN {
            more += 1;
            continue;
        }
        was_calm = is_routine;
        lines.push((moment.at, [at(moment.at), inn(moment.at), plain(left(moment)), words(moment)]));
    }
    // Stable: what is told of one moment keeps its order, an outage's begin before what comes of it.
    lines.sort_by_key(|(at, _)| *at);
    let mut rows = Rows::new(colour, &["TIME", "IN", "LEFT", "WHAT HAPPENS"]);
    lines.into_iter().for_each(|(_, cells)| rows.push(cells));
    let mut text = rows.render();
    if more > 0 {
        text.push_str(&format!("and {more} more renewals on schedule\n"));
    }
    let (tone, verdict) = verdict(scene, simulated);
    text.push_str(&format!("\n{}\n", toned(colour, tone, &verdict)));
    text
}

fn left(moment: &Moment) -> String {
    moment.left.map_or_else(|| "-".to_owned(), length)
}

fn words(moment: &Moment) -> (Tone, String) {
    match &moment.what {
        What::Ended => (Tone::Bad, "what is served ENDS, and there is no successor".to_owned()),
        What::Failed { issuer, retry_at } => {
            let wait = length(retry_at.0 - moment.at.0);
            (Tone::Waiting, format!("`{issuer}` does not answer; again in {wait}"))
        }
        What::Served { issuer, cause, not_after, renew_at } => {
            let (end, renewal) = (leaf::timestamp(*not_after), leaf::timestamp(*renew_at));
            (
                Tone::Good,
                format!("served, issued by `{issuer}` ({}), until {end}; renewal at {renewal}", cause.as_str()),
            )
        }
        What::Waits { until } => (Tone::Waiting, format!("due, and waits until {}", leaf::timestamp(*until))),
    }
}

fn verdict(scene: &Scene<'_>, simulated: &Simulated) -> (Tone, String) {
    let name = &scene.certificate.name;
    let attempts = match simulated.failed {
        0 => "no attempt fails".to_owned(),
        1 => "1 attempt fails".to_owned(),
        failed => format!("{failed} attempts fail"),
    };
    match (simulated.gap, simulated.margin) {
        (Some((end, Some(successor))), _) => {
            let late = length(successor.0 - end.0);
            (
                Tone::Bad,
                format!("`{name}` ENDS at {}, {late} before a successor is served; {attempts}", leaf::timestamp(end)),
            )
        }
        (Some((end, None)), _) => {
            (Tone::Bad, format!("`{name}` ENDS at {}, and no successor is served; {attempts}", leaf::timestamp(end)))
        }
        (None, Some((left, lifetime))) => {
            let percent = left * 100 / lifetime.max(1);
            let text = format!(
                "`{name}` is always served; {attempts}, and {} are left at the least, {percent} % of a lifetime",
                length(left)
            );
            (Tone::Good, text)
        }
        (None, None) => (Tone::Waiting, format!("`{name}`: nothing happens")),
    }
}

fn as_json(scene: &Scene<'_>, simulated: &Simulated) -> Value {
    let at = |at: UnixTime| leaf::timestamp(at).to_string();
    let moments = simulated.moments.iter().map(|moment| {
        let mut object = match &moment.what {
            What::Ended => json!({ "event": "ended" }),
            What::Failed { issuer, retry_at } => json!({ "event": "failed", "issuer": issuer, "retry_at": at(*retry_at) }),
            What::Served { issuer, cause, not_after, renew_at } => json!({
                "event": "served", "issuer": issuer, "cause": cause.as_str(), "not_after": at(*not_after), "renew_at": at(*renew_at),
            }),
            What::Waits { until } => json!({ "event": "waits", "until": at(*until) }),
        };
        object["time"] = json!(at(moment.at));
        object["left_seconds"] = json!(moment.left);
        object
    });
    let outages = scene.outages.iter();
    json!({
        "name": scene.certificate.name,
        "from": at(scene.from),
        "to": at(scene.to),
        "outages": outages
            .map(|outage| json!({ "issuer": outage.issuer, "from": at(outage.from), "to": at(outage.to) }))
            .collect::<Vec<_>>(),
        "moments": moments.collect::<Vec<_>>(),
        "failed_attempts": simulated.failed,
        "margin_seconds": simulated.margin.map(|(left, _)| left),
        "margin_share": simulated.margin.map(|(left, lifetime)| left as f64 / lifetime.max(1) as f64),
        "ends_at": simulated.gap.map(|(end, _)| at(end)),
        "successor_at": simulated.gap.and_then(|(_, successor)| successor).map(at),
    })
}

fn length(seconds: i64) -> String {
    span(Timestamp::UNIX_EPOCH, leaf::timestamp(UnixTime(seconds)))
}
