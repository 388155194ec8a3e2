//! `secrecy`: what Envoy's own log and its counters have of requests. A line for each refusal, which nobody forges, with
//! nothing in it that opens a door.

use std::collections::BTreeSet;

use rcgen::DnType;
use serde_json::json;

use super::alone::Alone;
use super::alone::manager;
use super::gate::records;
use super::gate::written;
use crate::environment::Envoy;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::client::HOST_NAME;
use crate::environment::raw;
use crate::report::Report;
use crate::report::StoryError;
use crate::tokens::TokenIssuer;

const CART: &str = "spiffe://acme.example/ns/shop/sa/cart";
/// What must not be written down, wherever a request has it.
const SECRET: &str = "hunter2-hunter2";
/// What nobody may get into a line of their own.
const FORGED: &str = r#"{"type":"decision","decision":"allow","identity":"forged"}"#;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let stage = Alone::set().await?;
    let issuer = TokenIssuer::new("k", "ES256");
    let policy = json!({
        "version": 1,
        "trust_domain": "acme.example",
        "tokens": { "corp": {
            "issuer": "https://login.acme.example", "audience": ["orders"], "binding": "off", "jwks": { "keys": [issuer.jwk()] },
        } },
        "roles": { "cart": [{ "spiffe": CART }] },
        "rules": [{ "id": "orders", "allow": ["cart"], "paths": ["/orders/{id}"] }],
        "records": { "allow_every": 1 },
    });
    report.step("an Envoy that lets through what it can, so that the filter has to write it down");
    let envoy = stage.start_with(&policy, &[(manager("max_request_headers_kb"), json!(96))]).await?;
    let outcome = async {
        secrets(&stage, &envoy, report, &issuer).await?;
        forgeries(&stage, &envoy, report).await
    }
    .await;
    if outcome.is_err() {
        report.line(envoy.process().last_words());
    }
    outcome
}

async fn secrets(stage: &Alone, envoy: &Envoy, report: &mut Report, issuer: &TokenIssuer) -> Result<(), StoryError> {
    report.step("requests that are full of secrets");
    let end = jiff::Timestamp::now().as_second() + 600;
    let token = issuer.sign(&json!({
        "iss": "https://login.acme.example", "aud": "orders", "exp": end, "sub": SECRET,
    }));
    let forged = format!("{}A", token.strip_suffix(|_: char| true).unwrap_or_default());
    let client = stage.client(&stage.own.leaf().uri(CART).issue(), Http1)?;
    let before = records(&envoy.process().log()).0.len();
    let mut sent = 0;
    for token in [token.as_str(), forged.as_str(), SECRET] {
        for path in [format!("/orders/1?password={SECRET}"), format!("/closed?{SECRET}"), format!("/a/../b?{SECRET}")] {
            let text = format!(
                "GET {path} HTTP/1.1\r\nhost: {HOST_NAME}\r\nauthorization: Bearer {token}\r\n\
                 cookie: session={SECRET}\r\nx-api-key: {SECRET}\r\nproxy-authorization: Basic {SECRET}\r\n\r\n"
            );
            let outcome = raw::http1(&client, text.as_bytes()).await.map_err(|source| failed(&path, source))?;
            sent += 1;
            let told = matches!(&outcome, raw::Outcome::Status(400.., body) if body.contains(SECRET));
            if told {
                return report.holds("no refusal repeats a secret", false, &outcome);
            }
        }
    }
    let log = written(envoy, before + sent).await?;
    let count = records(&log).0.len() - before;
    report.holds("each of them leaves one record", count == sent, format_args!("{count} of {sent}"))?;
    let payload = token.split('.').nth(1).unwrap_or(&token);
    let leak = log.lines().find(|line| line.contains(SECRET) || line.contains(payload));
    report.holds("no line of the log has a token, a cookie, a key or a query", leak.is_none(), leak.unwrap_or_default())
}

async fn forgeries(stage: &Alone, envoy: &Envoy, report: &mut Report) -> Result<(), StoryError> {
    report.step("names, paths and identifiers that want a line of their own");
    let leaf = || stage.own.leaf();
    let odd = [
        leaf().uri(format!("spiffe://acme.example/a\n{FORGED}")).issue(),
        leaf().uri(format!("spiffe://acme.example/{FORGED}")).issue(),
        leaf().subject(DnType::CommonName, format!("x\r\n{FORGED}")).issue(),
        leaf().subject(DnType::CommonName, "\u{1b}[2J\u{202e}x").issue(),
        leaf().email("\u{1b}]0;x\u{7}@acme.example").issue(),
        leaf().dns(format!("a\n[critical] {FORGED}")).issue(),
    ];
    let names = metric_names(envoy).await?;
    let before = records(&envoy.process().log()).0.len();
    let mut sent = 0;
    for (index, leaf) in odd.iter().enumerate() {
        let client = stage.client(leaf, Http2)?;
        for path in
            [format!("/%0a{index}"), format!("/{FORGED}"), format!("/\u{1b}[31m{index}"), "/\\\"},{\\\"".to_owned()]
        {
            let fields: [(&[u8], &[u8]); 6] = [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", HOST_NAME.as_bytes()),
                (b":path", path.as_bytes()),
                (b"x-request-id", FORGED.as_bytes()),
                (b"user-agent", FORGED.as_bytes()),
            ];
            let outcome = raw::http2(&client, &fields).await.map_err(|source| failed(&path, source))?;
            // What the filter refuses has a code; the rest Envoy refused without asking it.
            sent += usize::from(!outcome.code().is_empty());
            if outcome.is_success() {
                return report.holds("nobody of them gets in", false, &outcome);
            }
        }
    }
    let log = written(envoy, before + sent).await?;
    let (records, others) = records(&log);
    let records = records.get(before..).unwrap_or_default();
    report.holds(
        "some reached the filter, and each of those left one record",
        sent > 0 && records.len() == sent,
        sent,
    )?;
    let denied = records.iter().all(|record| record["decision"] == "deny" && record["identity"] != "forged");
    report.holds("each of them says what was decided", denied, "")?;
    let broken = others.iter().find(|line| line.contains("forged") || line.contains("[critical]"));
    report.holds("no line is somebody else's", broken.is_none(), broken.copied().unwrap_or_default())?;
    let control = log.chars().find(|character| character.is_control() && *character != '\n');
    report.holds("nothing in the log moves a cursor", control.is_none(), format_args!("{control:?}"))?;
    let more: Vec<_> = metric_names(envoy).await?.difference(&names).cloned().collect();
    report.holds("no client made a metric", more.is_empty(), more.join(", "))
}

async fn metric_names(envoy: &Envoy) -> Result<BTreeSet<String>, StoryError> {
    Ok(envoy.stats("portcullis").await?.into_keys().collect())
}

fn failed(what: &str, source: crate::environment::ClientError) -> StoryError {
    StoryError::Request { doing: format!("no outcome for {what:?}"), source }
}
