//! `tokens`: every kind of bearer token at the real Envoy, decided alike by the host's arithmetic, by the filter's own and
//! by the command line; and an issuer that changes its keys under load, without a refused request.

mod keys;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::gate::Difference;
use super::gate::Gate;
use super::gate::no_trap;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Connection;
use crate::environment::EnvironmentError;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::tokens;
use crate::tokens::ALGORITHMS;
use crate::tokens::AUDIENCE;
use crate::tokens::ISSUER;
use crate::tokens::TokenIssuer;
use crate::tokens::table;
use crate::tokens::table::Case;
use crate::tokens::table::Counts;
use crate::tokens::table::Verifier;

/// The host call behind which the host's arithmetic is.
const HOST_ARITHMETIC: &str = "proxy_call_foreign_function";

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let issuers = ALGORITHMS.map(|algorithm| TokenIssuer::new(algorithm, algorithm));
    let policy = table::policy(&issuers).to_string();
    let now = jiff::Timestamp::now().as_second();
    let cases = table::cases(&issuers, now);

    report.step("Envoy as shipped: its library does the arithmetic");
    let gate = Gate::start(&policy, &Difference::default()).await?;
    let by_host = ask_all(report, &gate, &cases).await?;
    counted(report, &gate, &cases, Verifier::Host).await?;
    expiry(report, &gate, &issuers[0]).await?;
    no_trap(&gate.envoy, report).await?;

    report.step(format_args!("an Envoy that withholds `{HOST_ARITHMETIC}`: the filter does all of it"));
    let difference = Difference { withheld: Some(HOST_ARITHMETIC), ..Difference::default() };
    let alone = Gate::start(&policy, &difference).await?;
    let by_filter = ask_all(report, &alone, &cases).await?;
    counted(report, &alone, &cases, Verifier::Filter).await?;
    no_trap(&alone.envoy, report).await?;
    report.holds("both give the same answers", by_host == by_filter, format_args!("{} answers", by_host.len()))?;

    report.step("`portcullis token verify`, asked about the same tokens");
    by_command_line(report, &alone, &issuers, &cases)?;
    drop((gate, alone));
    keys::tell(report).await
}

/// Asks every case over HTTP/1.1 and HTTP/2 in turn, and returns the answers.
async fn ask_all(report: &mut Report, gate: &Gate, cases: &[Case]) -> Result<Vec<String>, StoryError> {
    let leaf = gate.own.leaf().uri(super::CHECKOUT).issue();
    let mut connections = Vec::new();
    for protocol in [Http1, Http2] {
        let connection = gate.client(Some(&leaf), protocol)?.connect().await;
        connections.push(connection.map_err(|source| StoryError::Request { doing: "connect".to_owned(), source })?);
    }
    let mut answers = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let connection = &mut connections[number % 2];
        gate.upstream.take_seen();
        let (answer, challenge) = ask(connection, case).await?;
        let reached = !gate.upstream.take_seen().is_empty();
        let good = answer == case.expected && challenge == case.challenge() && reached == (answer == "200");
        let challenge = challenge.map(|challenge| format!(", `{challenge}`")).unwrap_or_default();
        report.holds(&case.name, good, format_args!("{answer}{challenge}"))?;
        answers.push(answer);
    }
    Ok(answers)
}

/// Status and code, and `WWW-Authenticate`.
async fn ask(connection: &mut Connection, case: &Case) -> Result<(String, Option<String>), StoryError> {
    let headers = case.tokens.iter().map(|token| format!("Bearer {token}"));
    let request = headers.fold(Ask::get(case.path), |request, value| request.with("authorization", value));
    let answer = connection.ask(&request).await;
    let answer = answer.map_err(|source| StoryError::Request { doing: format!("no answer: {}", case.name), source })?;
    let challenge =
        answer.headers.get("www-authenticate").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Ok((format!("{} {}", answer.status.as_u16(), answer.code()).trim_end().to_owned(), challenge))
}

/// The filter counts what became of tokens, and who did the arithmetic.
async fn counted(report: &mut Report, gate: &Gate, cases: &[Case], verifier: Verifier) -> Result<(), StoryError> {
    let counters = gate.counters().await?;
    let count = |name: &str| counters.get(name).copied().unwrap_or_default();
    let seen = [
        count("tokens.verified"),
        count("tokens.cached"),
        count("tokens.refused"),
        count("signatures.by_host"),
        count("signatures.by_filter"),
    ];
    let Counts { verified, refused, by_host, by_filter } = Counts::of(cases, verifier);
    let expected = [verified, 0, refused, by_host, by_filter];
    let words = ["verified", "cached", "refused", "signatures by the host", "signatures by the filter"];
    let mut text = String::new();
    for (word, (seen, expected)) in words.iter().zip(seen.iter().zip(&expected)) {
        let _ = write!(
            text,
            "{seen} {word}{}; ",
            if seen == expected { String::new() } else { format!(" (not {expected})") }
        );
    }
    report.holds("the counters say who did what", seen == expected, text.trim_end_matches("; "))
}

/// A token that is remembered is not good for longer than one that is not.
async fn expiry(report: &mut Report, gate: &Gate, issuer: &TokenIssuer) -> Result<(), StoryError> {
    let mut claims = tokens::claims(jiff::Timestamp::now().as_second());
    claims["exp"] = json!(jiff::Timestamp::now().as_second() + 5);
    let case = Case::new("a token of five seconds", "/orders/1", &[issuer.sign(&claims)], "200", None);
    let leaf = gate.own.leaf().uri(super::CHECKOUT).issue();
    let connection = gate.client(Some(&leaf), Http1)?.connect().await;
    let mut connection = connection.map_err(|source| StoryError::Request { doing: "connect".to_owned(), source })?;
    let (first, _) = ask(&mut connection, &case).await?;
    report.holds("a token of five seconds is good", first == "200", &first)?;
    let last = wait::until("a token that is remembered to expire", Duration::from_secs(30), async || {
        match ask(&mut connection, &case).await {
            Ok((answer, _)) if answer == "200" => Err("still let in".to_owned()),
            Ok((answer, _)) => Ok(answer),
            Err(error) => Err(environment::chain(&error)),
        }
    })
    .await?;
    report.holds("and refused when it has expired, on the same connection", last == "401 token_expired", &last)
}

/// The library natively, which knows nothing of Envoy.
fn by_command_line(
    report: &mut Report,
    gate: &Gate,
    issuers: &[TokenIssuer],
    cases: &[Case],
) -> Result<(), StoryError> {
    let keys: Vec<Value> = issuers.iter().map(TokenIssuer::jwk).collect();
    let jwks = gate.path("jwks.json");
    environment::write(&jwks, &json!({ "keys": keys }).to_string())?;
    let asked: Vec<(&Case, &str)> = cases
        .iter()
        .filter_map(|case| Some((case, case.tokens.first()?.as_str())))
        .filter(|(case, _)| case.is_alone())
        .collect();
    let tokens: String = asked.iter().map(|(_, token)| format!("{token}\n")).collect();
    let answers = token_verify(&gate.programs.agent, &jwks, tokens)?;
    let differences: Vec<String> = asked
        .iter()
        .zip(answers.lines().map(Some).chain(std::iter::repeat(None)))
        .filter_map(|((case, _), line)| {
            let answer: Value = serde_json::from_str(line.unwrap_or_default()).unwrap_or_default();
            let expected = if case.is_good() { "verified" } else { case.code() };
            let good = answer["reason"] == expected && answer["valid"] == case.is_good();
            (!good).then(|| format!("`{}`: {answer}, not {expected}", case.name))
        })
        .collect();
    let seen = if differences.is_empty() { format!("{} answers", asked.len()) } else { differences.join("; ") };
    report.holds("it gives the same answers", differences.is_empty(), seen)
}

fn token_verify(program: &Path, jwks: &Path, tokens: String) -> Result<String, EnvironmentError> {
    let spawn = |source| EnvironmentError::Spawn { program: "the agent's command line", source };
    let mut command = Command::new(program);
    command.args(["token", "verify", "--issuer", ISSUER, "--audience", AUDIENCE, "--clock-skew", "0s", "--jwks"]);
    let mut child =
        command.arg(jwks).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(spawn)?;
    let input = child.stdin.take();
    // It answers line by line: whoever wrote everything first could wait for ever.
    let writer = std::thread::spawn(move || input.map_or(Ok(()), |mut input| input.write_all(tokens.as_bytes())));
    let output = child.wait_with_output().map_err(spawn)?;
    if let (true, Ok(Ok(()))) = (output.status.success(), writer.join()) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(EnvironmentError::Command { command: "portcullis token verify".to_owned(), status: output.status, stderr })
}
