//! `portcullis policy who`.

use std::path::PathBuf;
use std::process::ExitCode;

use portcullis_policy::samples;
use portcullis_policy::samples::SampleRequest;
use serde::Serialize;

use super::load;
use super::verdict::Verdict;
use crate::cli::Outcome;
use crate::cli::output::Colour;
use crate::cli::output::Format;
use crate::cli::output::Rows;
use crate::cli::output::Tone;
use crate::cli::output::json;
use crate::cli::print;

/// Show who can make a request: for each rule about it, examples of those whom the rule is about, with the verdict that
/// the policy gives them. Whoever is not listed is refused.
///
/// The certificates are made up from the patterns of the roles. Where a rule asks for more, such as an address, the
/// example has it, and the column WITH says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  portcullis policy who --policy policy.yaml \"GET /orders/42\"
  portcullis policy who --policy policy.yaml \"DELETE https://orders.acme.example/orders/42\" -o json")]
pub(super) struct Args {
    /// The policy, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Method and path, or method and URL.
    #[arg(value_name = "REQUEST", value_parser = request)]
    request: SampleRequest,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
struct Answer {
    request: String,
    /// Why everybody is refused, before any rule is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
    who: Vec<Example>,
}

#[derive(Debug, Serialize)]
struct Example {
    role: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    with: String,
    #[serde(flatten)]
    verdict: Verdict<'static>,
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        let Some(source) = load(&self.policy)? else {
            return Ok(ExitCode::FAILURE);
        };
        let mut who = Vec::new();
        let asked = samples::who(source.policy(), &self.request, &mut |request, peer, decision| {
            let with = request.facts.to_string().trim_start().to_owned();
            let verdict = Verdict::of(decision).into_owned();
            who.push(Example { role: peer.role.clone(), with, verdict });
        });
        let refused = asked.err().map(|reason| reason.code());
        let answer = Answer { request: self.request.to_string(), refused, who };
        match self.output {
            Format::Json => print(&json(&answer)?)?,
            Format::Table => render(&answer)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn render(answer: &Answer) -> std::io::Result<()> {
    if let Some(reason) = answer.refused {
        return print(&format!("nobody: such a request is refused as {reason}\n"));
    }
    if answer.who.is_empty() {
        return print("nobody: no rule is about this request\n");
    }
    let with = answer.who.iter().any(|example| !example.with.is_empty());
    let header = ["DECISION", "BY", "ROLE", "IDENTITY", "WITH"];
    let mut rows = Rows::new(Colour::of_stdout(), &header[..if with { 5 } else { 4 }]);
    for Example { role, with: facts, verdict } in &answer.who {
        let tone = if verdict.is_allowed() { Tone::Good } else { Tone::Bad };
        let mut cells = vec![
            (tone, verdict.decision.clone().into_owned()),
            (Tone::Plain, verdict.by().to_owned()),
            (Tone::Plain, role.clone().unwrap_or_else(|| "anybody".to_owned())),
            (Tone::Plain, verdict.identity.as_deref().unwrap_or("no certificate").to_owned()),
        ];
        if with {
            cells.push((Tone::Plain, facts.clone()));
        }
        rows.push(cells);
    }
    print(&rows.render())
}

fn request(text: &str) -> Result<SampleRequest, String> {
    SampleRequest::parse(text).ok_or_else(|| "a method and a path, such as `GET /orders/42`".to_owned())
}
