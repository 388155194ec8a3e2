//! How answers are printed: a table for people, JSON for programs.

use std::io;
use std::io::IsTerminal as _;

use comfy_table::Attribute;
use comfy_table::Cell;
use comfy_table::CellAlignment;
use comfy_table::Color;
use comfy_table::Table;
use jiff::Timestamp;
use serde::Serialize;

/// What to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For programs.
    Json,
    /// For people.
    #[default]
    Table,
}

/// Whether to colour standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Never,
    OnTerminal,
}

impl Colour {
    /// Colour on a terminal, unless the user wants none (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !unwanted { Self::OnTerminal } else { Self::Never }
    }
}

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Bad,
    Good,
    Plain,
    Waiting,
}

/// A table without lines, so that it can be cut and grepped.
pub(super) struct Rows {
    table: Table,
    colour: Colour,
}

impl Rows {
    pub(super) fn new(colour: Colour, header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let cell = |name: &&str| match colour {
            Colour::Never => Cell::new(name),
            Colour::OnTerminal => Cell::new(name).add_attribute(Attribute::Dim),
        };
        if !header.is_empty() {
            table.set_header(header.iter().map(cell));
        }
        match colour {
            Colour::Never => table.force_no_tty(),
            Colour::OnTerminal => table.enforce_styling(),
        };
        Self { table, colour }
    }

    pub(super) fn push(&mut self, cells: impl IntoIterator<Item = (Tone, String)>) {
        let colour = self.colour;
        self.table.add_row(cells.into_iter().map(|(tone, text)| {
            let cell = Cell::new(text).set_alignment(CellAlignment::Left);
            match (colour, tone) {
                (Colour::Never, _) | (_, Tone::Plain) => cell,
                (_, Tone::Bad) => cell.fg(Color::Red),
                (_, Tone::Good) => cell.fg(Color::Green),
                (_, Tone::Waiting) => cell.fg(Color::Yellow),
            }
        }));
    }

    /// The lines, without what a table leaves at their ends.
    pub(super) fn render(mut self) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

/// Text in a tone, for what stands outside of tables.
pub(super) fn toned(colour: Colour, tone: Tone, text: &str) -> String {
    let code = match (colour, tone) {
        (Colour::Never, _) | (_, Tone::Plain) => return text.to_owned(),
        (_, Tone::Bad) => 31,
        (_, Tone::Good) => 32,
        (_, Tone::Waiting) => 33,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// JSON as people can read it as well.
///
/// # Errors
///
/// Those of the value; there are none for the types of this crate.
pub(super) fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// A span of time in its two largest units; what is past has a minus.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = to.as_second() - from.as_second();
    let mut rest = seconds.abs();
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        if rest >= unit || (unit == 1 && parts.is_empty()) {
            parts.push(format!("{} {name}", rest / unit));
            rest %= unit;
        }
    }
    parts.truncate(2);
    format!("{}{}", if seconds < 0 { "-" } else { "" }, parts.join(" "))
}

/// The beginning of a long hexadecimal number, enough to tell it from its neighbours.
pub(super) fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, want) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (90_061, "1 d 1 h"),
            (86_400 * 400, "400 d"),
            (-61, "-1 min 1 s"),
        ] {
            let from = Timestamp::UNIX_EPOCH;
            assert_eq!(span(from, Timestamp::from_second(seconds).unwrap()), want);
        }
    }

    #[test]
    fn a_table_without_colour_is_plain_text() {
        let mut rows = Rows::new(Colour::Never, &["NAME", "SERVED"]);
        rows.push([(Tone::Plain, "gateway".to_owned()), (Tone::Good, "yes".to_owned())]);
        assert_eq!(rows.render(), "NAME     SERVED\ngateway  yes\n");
    }
}
