//! `portcullis policy diff`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use portcullis_policy::Decision;
use portcullis_policy::Description;
use portcullis_policy::Policy;
use portcullis_policy::samples;
use portcullis_policy::samples::SamplePeer;
use portcullis_policy::samples::SampleRequest;
use serde::Serialize;
use serde_json::value::RawValue;

use super::complain;
use super::input::Certificates;
use super::input::Line;
use super::load;
use super::or_any;
use super::verdict::Verdict;
use crate::cli::Outcome;
use crate::cli::output::Colour;
use crate::cli::output::Format;
use crate::cli::output::Rows;
use crate::cli::output::Tone;
use crate::cli::output::json;
use crate::cli::print;

/// The most differences of one kind that are kept. All are counted.
const MAX_KEPT: usize = 10_000;

/// Show which verdicts another version of a policy changes.
///
/// Both versions decide requests made up from the rules of either: each rule's paths, hosts and methods, and some beside
/// them, asked for by those who hold its roles in one of the versions, and where it is about everybody, by nobody and by a
/// stranger as well. With `--requests`, they also decide what was asked for in earnest.
///
/// A difference that is not listed may exist: samples are examples. One that is listed does exist.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  portcullis policy diff policy.yaml new.yaml
  portcullis policy diff policy.yaml new.yaml --requests envoy.log --exit-code

What changes: `allow → deny`, `deny → allow`, and, of less weight, `another rule` (allowed by it) and `another reason`
(refused for it).")]
pub(super) struct Args {
    /// The policy as it is, YAML or JSON.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy as it would be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Requests as `policy decide` takes them, or the proxy's log with the filter's decision records; may be given more
    /// than once.
    #[arg(long, value_name = "FILE")]
    requests: Vec<PathBuf>,
    /// Exit with status 1 if any verdict differs.
    #[arg(long)]
    exit_code: bool,
    /// The most differences to print; 0 for all that are kept.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Why requests could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", file.display())]
struct RequestsError {
    file: PathBuf,
    source: io::Error,
}

/// How a verdict changes, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    DenyToAllow,
    AllowToDeny,
    AnotherRule,
    AnotherReason,
}

impl Change {
    const ALL: [Self; 4] = [Self::DenyToAllow, Self::AllowToDeny, Self::AnotherRule, Self::AnotherReason];

    fn of(old: &Decision<'_>, new: &Decision<'_>) -> Option<Self> {
        let same = (old.reason(), old.rule()) == (new.reason(), new.rule());
        match (old.is_allowed(), new.is_allowed()) {
            (false, true) => Some(Self::DenyToAllow),
            (true, false) => Some(Self::AllowToDeny),
            (true, true) => (!same).then_some(Self::AnotherRule),
            (false, false) => (!same).then_some(Self::AnotherReason),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::DenyToAllow => "deny → allow",
            Self::AllowToDeny => "allow → deny",
            Self::AnotherRule => "another rule",
            Self::AnotherReason => "another reason",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::DenyToAllow => Tone::Waiting,
            Self::AllowToDeny => Tone::Bad,
            Self::AnotherRule | Self::AnotherReason => Tone::Plain,
        }
    }
}

/// One request that both policies decide, and not in the same way.
#[derive(Debug, Serialize)]
struct Difference {
    change: Change,
    old: Verdict<'static>,
    new: Verdict<'static>,
    method: String,
    host: Option<String>,
    path: String,
    /// Addresses and the like, where a rule asks for them.
    #[serde(skip_serializing_if = "String::is_empty")]
    with: String,
    /// Who asks, in the form of the peers of a policy's tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Peer>,
    /// `id` of a request from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Box<RawValue>>,
}

/// The names of a sample's certificate.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Peer {
    Absent(&'static str),
    Presented(Box<Description>),
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Versions of the policies.
    old: String,
    new: String,
    /// How many requests both decided: samples and those from files.
    samples: usize,
    requests: usize,
    /// Records that cannot be decided again.
    skipped: usize,
    /// There were more samples than are compared.
    samples_cut: bool,
    /// How many verdicts differ, by kind.
    changes: BTreeMap<Change, usize>,
    differences: Vec<Difference>,
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        let (Some(old), Some(new)) = (load(&self.old)?, load(&self.new)?) else {
            return Ok(ExitCode::FAILURE);
        };
        let (old, new) = (old.policy(), new.policy());
        let mut report = Report {
            old: old.version().to_owned(),
            new: new.version().to_owned(),
            changes: Change::ALL.into_iter().map(|change| (change, 0)).collect(),
            ..Report::default()
        };
        let extent = samples::compare(old, new, &mut |request, peer, before, after| {
            if let Some(change) = Change::of(before, after) {
                report.add(change, || Difference::of_sample(change, request, peer, before, after));
            }
        });
        report.samples = extent.compared;
        report.samples_cut = extent.cut;
        let mut understood = true;
        for file in &self.requests {
            understood &= report.requests(file, old, new)?;
        }
        let key = |one: &Difference| (one.change, one.old.by().to_owned(), one.new.by().to_owned());
        report.differences.sort_by_key(key);
        let differs = report.changes.values().any(|count| *count > 0);
        if self.limit > 0 {
            report.differences.truncate(self.limit);
        }
        match self.output {
            Format::Json => print(&json(&report)?)?,
            Format::Table => print(&report.render(Colour::of_stdout()))?,
        }
        Ok(if !understood || (self.exit_code && differs) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Report {
    fn add(&mut self, change: Change, difference: impl FnOnce() -> Difference) {
        let count = self.changes.entry(change).or_default();
        *count += 1;
        if *count <= MAX_KEPT {
            self.differences.push(difference());
        }
    }

    /// Compares what both policies say of requests from a file. Tells whether every line was one.
    fn requests(&mut self, file: &Path, old: &Policy, new: &Policy) -> Result<bool, RequestsError> {
        let unreadable = |source| RequestsError { file: file.to_owned(), source };
        let mut lines = BufReader::new(File::open(file).map_err(unreadable)?);
        let mut certificates = (Certificates::default(), Certificates::default());
        let mut understood = true;
        let mut text = Vec::new();
        for number in 1.. {
            text.clear();
            if lines.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
                break;
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line = match Line::parse(&text) {
                Ok(line) => line,
                Err((_, error)) => {
                    complain(&format!("{}:{number}: {error}", file.display()));
                    understood = false;
                    continue;
                }
            };
            // Both answer for the same instant.
            let line = line.at_once();
            line.with_request(old, &mut certificates.0, |request| {
                let before = old.decide(request);
                if line.recorded.as_ref().is_some_and(|recorded| recorded.missing(old, request, &before).is_some()) {
                    self.skipped += 1;
                    return;
                }
                line.with_request(new, &mut certificates.1, |request| {
                    let after = new.decide(request);
                    if line.recorded.as_ref().is_some_and(|recorded| recorded.missing(new, request, &after).is_some()) {
                        self.skipped += 1;
                        return;
                    }
                    self.requests += 1;
                    if let Some(change) = Change::of(&before, &after) {
                        self.add(change, || Difference::of_line(change, &line, &before, &after));
                    }
                });
            });
        }
        Ok(understood)
    }

    fn render(&self, colour: Colour) -> String {
        let mut text = String::new();
        if !self.differences.is_empty() {
            let with = self.differences.iter().any(|one| !one.with.is_empty());
            let header = ["CHANGE", "BEFORE", "AFTER", "METHOD", "HOST", "PATH", "IDENTITY", "WITH"];
            let mut rows = Rows::new(colour, &header[..if with { 8 } else { 7 }]);
            for one in &self.differences {
                let tone = one.change.tone();
                let identity = one.new.identity.as_deref().unwrap_or("no certificate");
                let mut cells = vec![
                    (tone, one.change.text().to_owned()),
                    (Tone::Plain, one.old.by().to_owned()),
                    (Tone::Plain, one.new.by().to_owned()),
                    (Tone::Plain, one.method.clone()),
                    (Tone::Plain, or_any(one.host.as_deref())),
                    (Tone::Plain, one.path.clone()),
                    (Tone::Plain, identity.to_owned()),
                ];
                if with {
                    cells.push((Tone::Plain, one.with.clone()));
                }
                rows.push(cells);
            }
            text.push_str(&rows.render());
        }
        let changed: usize = self.changes.values().sum();
        if changed > self.differences.len() {
            text.push_str(&format!("… and {} more\n", changed - self.differences.len()));
        }
        if changed > 0 {
            text.push('\n');
        }
        let counts: Vec<String> = Change::ALL
            .iter()
            .map(|change| format!("{} {}", self.changes.get(change).unwrap_or(&0), change.text()))
            .collect();
        let compared = self.samples + self.requests;
        text.push_str(&format!("{compared} verdicts compared ({} recorded): {}\n", self.requests, counts.join(", ")));
        if self.skipped > 0 {
            text.push_str(&format!("{} records were skipped: they do not hold what was decided on\n", self.skipped));
        }
        if self.samples_cut {
            text.push_str("these are not all samples: there are more than are compared\n");
        }
        text
    }
}

impl Difference {
    fn of_sample(
        change: Change,
        request: &SampleRequest,
        peer: &SamplePeer,
        old: &Decision<'_>,
        new: &Decision<'_>,
    ) -> Self {
        Self {
            change,
            old: Verdict::of(old).into_owned(),
            new: Verdict::of(new).into_owned(),
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            with: request.facts.to_string().trim_start().to_owned(),
            peer: match peer.leaf() {
                None => Some(Peer::Absent("none")),
                Some(_) => peer.describe().map(Box::new).map(Peer::Presented),
            },
            id: None,
        }
    }

    fn of_line(change: Change, line: &Line, old: &Decision<'_>, new: &Decision<'_>) -> Self {
        let (method, host, path) = line.shown();
        Self {
            change,
            old: Verdict::of(old).into_owned(),
            new: Verdict::of(new).into_owned(),
            method: method.unwrap_or_default(),
            host,
            path: path.unwrap_or_default(),
            with: String::new(),
            peer: None,
            id: Some(line.id.clone()),
        }
    }
}
