//! `portcullis policy decide`.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use portcullis_policy::Decision;
use portcullis_policy::Policy;
use portcullis_policy::Request;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Certificates;
use super::input::Line;
use super::load;
use super::verdict::Verdict;
use crate::cli::Outcome;

const BUFFER: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The policy, YAML or JSON. One whose own tests fail is asked all the same: `policy check` and `policy test` tell.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// What is revoked beside the policy, as `portcullis revocations -o json` prints it: operators' word and the lists of
    /// authorities.
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// Files of requests, one JSON object per line; standard input if there is none. Lines of the proxy's log that hold a
    /// decision record are requests too: where the verdict is another than the record's, the answer has `recorded`.
    /// If the policy says `own_xfcc`, the peer of a request without `peer` is who the proxy wrote into its header.
    /// Blank lines are skipped. A line that cannot be read is answered by an object with `error`, and the exit status is 1
    /// in the end.
    #[arg(value_name = "REQUESTS")]
    requests: Vec<PathBuf>,
}

/// Why requests could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", file.display())]
struct RequestsError {
    file: PathBuf,
    source: io::Error,
}

/// Why what is revoked cannot be asked beside the policy.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be used as `--revocations`", file.display())]
struct RevocationsError {
    file: PathBuf,
    #[source]
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("it is not JSON; `portcullis revocations -o json` prints what is taken")]
    Json(#[source] serde_json::Error),
    #[error("it has no `set`; `portcullis revocations -o json` prints what is taken")]
    NoSet,
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("`{field}`: {why}")]
    Refused { field: String, why: String },
    #[error("the policy has `revocations` already, as the filter's configuration does; leave out one of them")]
    Twice,
}

/// The answer to one request.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    id: &'a RawValue,
    #[serde(flatten)]
    verdict: Option<Verdict<'a>>,
    /// Why a record cannot be decided again.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    /// What a record says of the decision, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a Verdict<'static>>,
}

/// The answer to a line that is no request.
#[derive(Debug, Serialize)]
struct Refusal {
    error: String,
    id: Box<RawValue>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(policy: &Policy, request: &Request<'_>, line: &'a Line, decision: &'a Decision<'_>) -> Self {
        let verdict = Verdict::of(decision);
        let skipped = line.recorded.as_ref().and_then(|recorded| recorded.missing(policy, request, decision));
        let recorded = line.recorded.as_ref().map(|recorded| &recorded.verdict);
        match skipped {
            Some(_) => Self { id: &line.id, verdict: None, skipped, recorded },
            None => {
                let recorded = recorded.filter(|recorded| !recorded.is(&verdict));
                Self { id: &line.id, verdict: Some(verdict), skipped, recorded }
            }
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        self.answer(|policy, request, line, out| {
            let decision = policy.decide(request);
            serde_json::to_writer(out, &Answer::new(policy, request, line, &decision))
        })
    }

    /// Answers every line of the requests. A line that is not a request is answered with what is wrong with it, and the
    /// program goes on to the next.
    pub(super) fn answer(
        &self,
        answer: impl Fn(&Policy, &Request<'_>, &Line, &mut dyn Write) -> serde_json::Result<()>,
    ) -> Outcome {
        let Some(source) = load(&self.policy)? else {
            return Ok(ExitCode::FAILURE);
        };
        let joined = self.revocations.as_deref().map(|file| join(source.policy(), file)).transpose()?;
        let mut answers = Answers {
            policy: joined.as_ref().unwrap_or_else(|| source.policy()),
            certificates: Certificates::default(),
            out: BufWriter::with_capacity(BUFFER, io::stdout().lock()),
            answer,
            refused: false,
        };
        if self.requests.is_empty() {
            answers.all(BufReader::with_capacity(BUFFER, io::stdin().lock()))?;
        }
        for file in &self.requests {
            let opened = File::open(file).map_err(|source| RequestsError { file: file.clone(), source })?;
            answers.all(BufReader::with_capacity(BUFFER, opened))?;
        }
        Ok(if answers.refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The policy with what is revoked, as the filter has it.
fn join(policy: &Policy, file: &Path) -> Result<Policy, RevocationsError> {
    let failed = |why| RevocationsError { file: file.to_owned(), why };
    let text = fs::read(file).map_err(|error| failed(Why::Read(error)))?;
    let printed: Value = serde_json::from_slice(&text).map_err(|error| failed(Why::Json(error)))?;
    let set = printed.get("set").ok_or_else(|| failed(Why::NoSet))?;
    let has_words = printed.get("operator").and_then(Value::as_array).is_some_and(|words| !words.is_empty());
    if set.is_null() && has_words {
        // An agent of an earlier version says what is revoked, and not as a set.
        return Err(failed(Why::NoSet));
    }
    if !policy.revocations().is_empty() {
        return Err(failed(Why::Twice));
    }
    let mut document: Value = serde_json::from_str(&policy.to_json()).map_err(|error| failed(Why::Json(error)))?;
    if let Some(fields) = document.as_object_mut().filter(|_| !set.is_null()) {
        fields.insert("revocations".to_owned(), set.clone());
    }
    Policy::from_json(document.to_string().as_bytes())
        .map_err(|error| failed(Why::Refused { field: error.path().to_owned(), why: error.to_string() }))
}

struct Answers<'p, W: Write, A> {
    policy: &'p Policy,
    certificates: Certificates,
    out: BufWriter<W>,
    answer: A,
    refused: bool,
}

impl<W: Write, A> Answers<'_, W, A>
where
    A: Fn(&Policy, &Request<'_>, &Line, &mut dyn Write) -> serde_json::Result<()>,
{
    fn all<R: io::Read>(&mut self, mut requests: BufReader<R>) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            // Whoever waits for an answer before the next question gets it; whoever sends a file gets whole blocks.
            if requests.buffer().is_empty() {
                self.out.flush()?;
            }
            line.clear();
            if requests.read_until(b'\n', &mut line)? == 0 {
                return self.out.flush();
            }
            if !line.trim_ascii().is_empty() {
                self.one(&line)?;
            }
        }
    }

    fn one(&mut self, text: &[u8]) -> io::Result<()> {
        match Line::parse(text) {
            Ok(line) => {
                let Self { policy, certificates, out, answer, .. } = self;
                line.with_request(policy, certificates, |request| answer(policy, request, &line, out))?;
            }
            Err((id, error)) => {
                self.refused = true;
                serde_json::to_writer(&mut self.out, &Refusal { id, error })?;
            }
        }
        self.out.write_all(b"\n")
    }
}
