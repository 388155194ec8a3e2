//! `portcullis policy what`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use portcullis_policy::CertificateError;
use portcullis_policy::Effect;
use portcullis_policy::Leaf;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::Subject;
use portcullis_policy::samples;
use portcullis_policy::samples::SamplePeer;
use portcullis_policy::samples::Way;
use portcullis_policy::signature::PureRust;
use serde::Serialize;
use serde_json::json as value;

use super::complain;
use super::load;
use super::or_any;
use crate::cli::Outcome;
use crate::cli::output::Colour;
use crate::cli::output::Format;
use crate::cli::output::Rows;
use crate::cli::output::Tone;
use crate::cli::output::json;
use crate::cli::print;
use crate::leaf::now;
use crate::yaml::Source;

/// Show what somebody can reach: each host and path of the rules that are about them, with `{…}` filled in where it is
/// their own. Whatever is not listed is refused.
///
/// Somebody is a SPIFFE ID, `none` (no certificate), or names in the form of the peers of a policy's tests. With
/// `--certificate` it is the owner of a certificate, now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  portcullis policy what --policy policy.yaml spiffe://acme.example/ns/shop/sa/checkout
  portcullis policy what --policy policy.yaml '{ dns: web.acme.example, subject: { ou: payments } }'
  portcullis policy what --policy policy.yaml --certificate client.pem")]
pub(super) struct Args {
    /// The policy, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Who it is about.
    #[arg(value_name = "SOMEBODY", required_unless_present = "certificate")]
    identity: Option<String>,
    /// A certificate, PEM.
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    certificate: Option<PathBuf>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Why a certificate could not be read.
#[derive(Debug, thiserror::Error)]
enum WhatError {
    #[error("cannot read `{}`", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("`{}` is not a certificate of which the gate would take an identity", file.display())]
    Certificate { file: PathBuf, source: CertificateError },
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    identity: Option<&'a str>,
    roles: &'a [String],
    what: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// `allow`, `some` if samples of it are refused as well, or `deny`.
    decision: &'static str,
    rule: String,
    methods: Option<Vec<String>>,
    host: Option<String>,
    path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused_by: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> Outcome {
        let Some(source) = load(&self.policy)? else {
            return Ok(ExitCode::FAILURE);
        };
        let policy = source.policy();
        let sample;
        let subject;
        let (peer, now) = match (&self.identity, &self.certificate) {
            (_, Some(file)) => {
                subject = certificate(policy, file)?;
                (Peer::Presented { subject: &subject, validated: true }, now())
            }
            (identity, None) => {
                let Some(named) = named(policy, identity.as_deref().unwrap_or_default()) else {
                    return Ok(ExitCode::FAILURE);
                };
                sample = named;
                (sample.peer(), samples::now(policy))
            }
        };
        let (identity, roles) = match peer {
            Peer::Presented { subject, .. } => (Some(subject.leaf().identity()), subject.roles()),
            Peer::Absent | Peer::Unreadable(_) => (None, &[][..]),
        };
        let what = samples::what(policy, peer, now).into_iter().map(Row::of).collect();
        let answer = Answer { identity, roles, what };
        match self.output {
            Format::Json => print(&json(&answer)?)?,
            Format::Table => render(&answer)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn certificate(policy: &Policy, file: &PathBuf) -> Result<Subject, WhatError> {
    let pem = fs::read(file).map_err(|source| WhatError::Read { file: file.clone(), source })?;
    let leaf = Leaf::from_pem(&pem).map_err(|source| WhatError::Certificate { file: file.clone(), source })?;
    Ok(policy.verified_subject(leaf, &mut PureRust))
}

/// Somebody as the command line names them. What is wrong with it goes to standard error.
fn named(policy: &Policy, text: &str) -> Option<SamplePeer> {
    let names = if text.starts_with("spiffe://") {
        value!({ "spiffe": text })
    } else {
        match Source::new("SOMEBODY", text).value() {
            Ok(names) => names,
            Err(error) => {
                complain(&format!("{error:#}"));
                return None;
            }
        }
    };
    match SamplePeer::named(policy, &names.to_string()) {
        Ok(sample) => Some(sample),
        Err(error) => {
            complain(&format!("{:#}", Source::new("SOMEBODY", text).error_at(error.path(), &error.to_string())));
            None
        }
    }
}

impl Row {
    fn of(way: Way) -> Self {
        let decision = match (way.effect, way.open, way.refused_by.is_empty()) {
            (Effect::Deny, ..) | (Effect::Allow, false, _) => "deny",
            (Effect::Allow, true, true) => "allow",
            (Effect::Allow, true, false) => "some",
        };
        let Way { rule, methods, host, path, conditions, refused_by, .. } = way;
        Self { decision, rule, methods, host, path, conditions, refused_by }
    }
}

fn render(answer: &Answer<'_>) -> io::Result<()> {
    let roles = if answer.roles.is_empty() { "none".to_owned() } else { answer.roles.join(", ") };
    let identity = answer.identity.unwrap_or("no certificate");
    let mut text = format!("{identity}\nroles: {roles}\n\n");
    if answer.what.is_empty() {
        text.push_str("nothing: no rule is about them\n");
        return print(&text);
    }
    let conditions = answer.what.iter().any(|row| !row.conditions.is_empty());
    let mut header = vec!["DECISION", "RULE", "METHODS", "HOST", "PATH", "REFUSED BY"];
    if conditions {
        header.push("IF");
    }
    let mut rows = Rows::new(Colour::of_stdout(), &header);
    for row in &answer.what {
        let tone = match row.decision {
            "allow" => Tone::Good,
            "some" => Tone::Waiting,
            _ => Tone::Bad,
        };
        let mut cells = vec![
            (tone, row.decision.to_owned()),
            (Tone::Plain, row.rule.clone()),
            (Tone::Plain, or_any(row.methods.as_ref().map(|methods| methods.join(",")).as_deref())),
            (Tone::Plain, or_any(row.host.as_deref())),
            (Tone::Plain, or_any(row.path.as_deref())),
            (Tone::Plain, row.refused_by.join(",")),
        ];
        if conditions {
            cells.push((Tone::Plain, row.conditions.join(", ")));
        }
        rows.push(cells);
    }
    text.push_str(&rows.render());
    print(&text)
}
