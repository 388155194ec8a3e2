//! `portcullis policy explain`.

use portcullis_policy::Explanation;
use portcullis_policy::RuleOutcome;
use serde::Serialize;

use super::decide;
use super::decide::Answer;
use crate::cli::Outcome;

/// The answer to one request.
#[derive(Debug, Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    candidates: Vec<Candidate<'a>>,
}

/// What one rule had to say.
#[derive(Debug, Serialize)]
struct Candidate<'a> {
    rule: &'a str,
    /// It decides nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    /// The first condition that failed; `null` if none did.
    failed: Option<&'static str>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

impl<'a> Candidate<'a> {
    fn of(outcome: &RuleOutcome<'a>) -> Self {
        let failed = outcome.failed.as_ref();
        Self {
            rule: outcome.rule,
            shadow: outcome.shadow,
            failed: failed.map(|failed| failed.code()),
            because: failed.map(ToString::to_string),
        }
    }
}

pub(super) fn run(requests: &decide::Args) -> Outcome {
    requests.answer(|policy, request, line, out| {
        let Explanation { decision, rules } = policy.explain(request);
        let candidates = rules.iter().map(Candidate::of).collect();
        serde_json::to_writer(out, &Explained { answer: Answer::new(policy, request, line, &decision), candidates })
    })
}
