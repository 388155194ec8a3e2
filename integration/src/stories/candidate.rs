//! `candidate`: a second policy is tried beside the one in force. No verdict changes, each that would is counted and told
//! in the records, and when the candidate becomes the policy exactly those are different.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use serde_json::json;

use super::CHECKOUT;
use super::REPORTING;
use super::gate::counters;
use super::gate::no_trap;
use super::gate::records;
use super::gate::written;
use super::within;
use crate::environment::Ask;
use crate::environment::ClientError;
use crate::environment::Connection;
use crate::environment::Environment;
use crate::environment::Envoy;
use crate::environment::Protocol::Http1;
use crate::environment::Settings;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

/// From saved to in force; a busy machine takes some of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the request is repeated that the candidate would refuse.
const REPEATED: usize = 250;

/// A verdict: status, and rule or reason.
type Verdict = (u16, &'static str);

/// Who asks for what, what the policy decides, and what the candidate does.
struct Row {
    who: usize,
    ask: (&'static str, &'static str),
    enforced: Verdict,
    candidate: Verdict,
}

const CLIENTS: [&str; 2] = [CHECKOUT, REPORTING];

/// What is allowed and diverges comes over one connection: each worker samples for itself.
const ROWS: &[Row] = &[
    Row { who: 0, ask: ("GET", "/orders/1"), enforced: (200, "read"), candidate: (200, "read") },
    Row { who: 1, ask: ("GET", "/orders/1"), enforced: (200, "read"), candidate: (403, "no_rule_matched") },
    Row { who: 1, ask: ("GET", "/reports/1"), enforced: (200, "reports"), candidate: (200, "daily") },
    Row { who: 0, ask: ("GET", "/invoices/1"), enforced: (403, "no_rule_matched"), candidate: (200, "invoices") },
    Row { who: 0, ask: ("GET", "/debug/x"), enforced: (403, "no_rule_matched"), candidate: (403, "deny_rule_matched") },
    Row { who: 1, ask: ("GET", "/elsewhere"), enforced: (403, "no_rule_matched"), candidate: (403, "no_rule_matched") },
];

/// A rule by which a client sees that this edition of the policy is in force.
fn edition(number: u8) -> Value {
    json!({ "id": format!("edition-{number}"), "allow": "any", "paths": [format!("/edition/{number}")] })
}

fn enforced(number: u8) -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": { "checkout": [{ "spiffe": CHECKOUT }], "reporting": [{ "spiffe": REPORTING }] },
        "rules": [
            { "id": "read", "allow": ["checkout", "reporting"], "methods": ["GET"], "paths": ["/orders/{id}"] },
            { "id": "reports", "allow": ["reporting"], "paths": ["/reports/{id}"] },
            edition(number),
        ],
    })
}

fn tried(number: u8) -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": { "checkout": [{ "spiffe": CHECKOUT }], "reporting": [{ "spiffe": REPORTING }] },
        "rules": [
            { "id": "read", "allow": ["checkout"], "methods": ["GET"], "paths": ["/orders/{id}"] },
            { "id": "daily", "allow": ["reporting"], "paths": ["/reports/{id}"] },
            { "id": "invoices", "allow": ["checkout"], "paths": ["/invoices/{id}"] },
            { "id": "no-debug", "deny": "any", "paths": ["/debug/**"] },
            edition(number),
        ],
    })
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let settings = Settings { policy: Some(enforced(1).to_string()), ..Settings::default() };
    within(settings, report, async |environment, report| {
        let mut connections = Vec::new();
        for who in CLIENTS {
            connections.push(environment.client(who, Http1).await?.connect().await.map_err(failed)?);
        }
        report.step("the policy alone");
        verdicts(environment, report, &mut connections, |row| row.enforced).await?;
        let seen = divergences(environment).await?;
        report.holds("nothing diverges", seen == [0, 0, 0], shown(seen))?;

        report.step("a candidate is saved beside it");
        let mut both = enforced(2);
        both["candidate"] = tried(2);
        take_effect(environment, &mut connections, &both, 2).await?;
        let before = records(&environment.envoy.process().log()).0.len();
        verdicts(environment, report, &mut connections, |row| row.enforced).await?;
        let seen = divergences(environment).await?;
        report.holds("each verdict that would differ is counted", seen == [1, 1, 2], shown(seen))?;
        recorded(report, &environment.envoy, before).await?;

        report.step(format_args!("{REPEATED} times what the candidate would refuse"));
        let before = records(&environment.envoy.process().log()).0.len();
        for _ in 0..REPEATED {
            connections[1].ask(&Ask::get("/orders/1")).await.map_err(failed)?;
        }
        let seen = divergences(environment).await?;
        report.holds("each is counted", seen == [1, 1 + REPEATED as u64, 2], shown(seen))?;
        let log = written(&environment.envoy, before + REPEATED / 100).await?;
        let seen = records(&log).0.len() - before;
        report.holds("and every hundredth leaves a record", seen == REPEATED / 100, seen)?;

        report.step("the candidate becomes the policy");
        take_effect(environment, &mut connections, &tried(3), 3).await?;
        verdicts(environment, report, &mut connections, |row| row.candidate).await?;
        no_trap(&environment.envoy, report).await
    })
    .await
}

fn failed(source: ClientError) -> StoryError {
    StoryError::Request { doing: "ask over a connection that is kept".to_owned(), source }
}

/// Saves a policy and waits until it decides about the requests of each connection.
async fn take_effect(
    environment: &Environment,
    connections: &mut [Connection],
    policy: &Value,
    edition: u8,
) -> Result<(), StoryError> {
    environment.save_policy(&policy.to_string())?;
    let ask = Ask::get(&format!("/edition/{edition}"));
    for connection in connections {
        wait::until("the saved policy to decide", PATIENCE, async || match connection.ask(&ask).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.code()),
            Err(error) => Err(error.kind()),
        })
        .await?;
    }
    Ok(())
}

/// Asks every row, and holds the verdict against one of its two.
async fn verdicts(
    environment: &Environment,
    report: &mut Report,
    connections: &mut [Connection],
    expected: fn(&Row) -> Verdict,
) -> Result<(), StoryError> {
    for row in ROWS {
        let (method, path) = row.ask;
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        environment.upstream.take_seen();
        let answer = connections[row.who].ask(&Ask::new(method, path)).await.map_err(failed)?;
        let seen = environment.upstream.take_seen();
        let rule = seen.first().map(|seen| seen.values("x-portcullis-rule").join(", "));
        let verdict = (answer.status.as_u16(), rule.unwrap_or_else(|| answer.code()));
        let (status, word) = expected(row);
        let claim = format!("{} {path} by {}", row.ask.0, CLIENTS[row.who]);
        report.holds(&claim, verdict == (status, word.to_owned()), format_args!("{} {}", verdict.0, verdict.1))?;
    }
    Ok(())
}

/// How many verdicts the candidate would turn into allow, into deny, and leave as they are for another reason.
async fn divergences(environment: &Environment) -> Result<[u64; 3], StoryError> {
    let counters = counters(&environment.envoy).await?;
    Ok(["would_allow", "would_deny", "other_rule"]
        .map(|what| counters.get(&format!("candidate.{what}")).copied().unwrap_or_default()))
}

fn shown([allow, deny, other]: [u64; 3]) -> String {
    format!("{allow} would be allowed, {deny} denied, {other} decided by another rule")
}

/// The records of the rows, behind those `before`: one for each refusal, and one for the first that is allowed and diverges.
async fn recorded(report: &mut Report, envoy: &Envoy, before: usize) -> Result<(), StoryError> {
    let mut sampled = false;
    let rows = ROWS.iter().filter(|row| {
        let diverges = row.enforced.0 == 200 && row.enforced != row.candidate;
        row.enforced.0 != 200 || diverges && !std::mem::replace(&mut sampled, true)
    });
    let expected: Vec<Value> = rows.map(|row| told(row.ask.1, row.enforced, row.candidate)).collect();
    let log = written(envoy, before + expected.len()).await?;
    let seen: Vec<Value> = records(&log)
        .0
        .iter()
        .skip(before)
        .map(|record| {
            let mut seen =
                json!({ "path": record["path"], "status": record["status"], "candidate": record["candidate"] });
            seen["word"] = record.get("rule").unwrap_or_else(|| &record["reason"]).clone();
            seen
        })
        .collect();
    let claim = "the records say what the candidate makes of each";
    let shown =
        if seen == expected { format!("{} records", seen.len()) } else { format!("{seen:?}, not {expected:?}") };
    report.holds(claim, seen == expected, shown)
}

/// What a record tells of a row.
fn told(path: &str, enforced: Verdict, candidate: Verdict) -> Value {
    let other = match candidate {
        same if same == enforced => Value::Null,
        (200, rule) => json!({ "decision": "allow", "status": 200, "reason": "rule_matched", "rule": rule }),
        (status, "deny_rule_matched") => {
            json!({ "decision": "deny", "status": status, "reason": "deny_rule_matched", "rule": "no-debug" })
        }
        (status, reason) => json!({ "decision": "deny", "status": status, "reason": reason }),
    };
    json!({ "path": path, "status": enforced.0, "word": enforced.1, "candidate": other })
}
