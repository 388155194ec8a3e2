//! The table, in Markdown, one row for each size.

use std::io::Result;
use std::io::Write;
use std::time::Duration;

use crate::engine::Name;
use crate::measure::Measured;
use crate::measure::Timed;
use crate::numbers::Spread;
use crate::numbers::thousands;

/// What is measured, and the heads of the columns.
pub(crate) fn head(rounds: usize, time: Duration, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "Processor time of one decision, natively; {rounds} interleaved rounds of {} ms for each engine; median \
         (smallest–largest). The same policy in each engine's own language, the same random questions; the answers to \
         those that were compared are the same, and no others are timed. Ratios are taken within each round.\n",
        time.as_millis()
    )?;
    let mut heads = vec!["rules".to_owned()];
    heads.extend(Name::ALL.map(|name| format!("{name} µs")));
    heads.extend(peers().map(|name| format!("{name} ÷ Portcullis")));
    heads.extend(["loaded in s", "asked", "compared"].map(str::to_owned));
    writeln!(out, "| {} |", heads.join(" | "))?;
    writeln!(out, "|{}", "--:|".repeat(heads.len()))
}

/// One size.
pub(crate) fn row(measured: &Measured, out: &mut dyn Write) -> Result<()> {
    let engines = &measured.engines;
    let ours = engines.iter().find(|timed| timed.name == Name::Portcullis);
    let micros = engines.iter().map(|timed| show(Spread::of(timed.seconds.iter().map(|seconds| seconds * 1e6)), 2));
    let ratios = engines.iter().filter(|timed| timed.name != Name::Portcullis).map(|peer| {
        let rounds = peer.seconds.iter().zip(ours.into_iter().flat_map(|ours| &ours.seconds));
        show(Spread::of(rounds.map(|(peer, ours)| peer / ours)), 0)
    });
    let each = |figure: &dyn Fn(&Timed) -> String| engines.iter().map(figure).collect::<Vec<_>>().join(" / ");
    let mut cells = vec![thousands(measured.rules)];
    cells.extend(micros);
    cells.extend(ratios);
    cells.push(each(&|timed| format!("{:.2}", timed.loading.as_secs_f64())));
    cells.push(each(&|timed| thousands(timed.asked)));
    cells.push(each(&|timed| thousands(timed.compared)));
    writeln!(out, "| {} |", cells.join(" | "))?;
    out.flush()
}

fn peers() -> impl Iterator<Item = Name> {
    Name::ALL.into_iter().filter(|name| *name != Name::Portcullis)
}

fn show(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| spread.show(digits))
}
