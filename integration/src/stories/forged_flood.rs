//! `forged-flood`: ten thousand tokens, no two alike and none of them good. All are refused for what is wrong with them, the
//! client beside them never is, nothing of them is remembered, and every count is right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

use super::CHECKOUT;
use super::gate::Difference;
use super::gate::Gate;
use super::gate::no_trap;
use super::rotation::carry;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::ClientError;
use crate::environment::Load;
use crate::environment::Plan;
use crate::environment::Protocol::Http1;
use crate::environment::chain;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::tokens;
use crate::tokens::TokenIssuer;
use crate::tokens::no_signature;

/// Tokens of the flood.
const FLOOD: usize = 10_000;
/// Of these so many go before the memory is looked at for the first time.
const WARM: usize = 2_000;
/// Longer than a tick takes to come.
const TOLD: Duration = Duration::from_secs(10);
/// Connections that they come over.
const CONNECTIONS: usize = 4;
/// Characters in each that say nothing, so that tokens which are kept would show.
const WEIGHT: usize = 3_000;
/// What Envoy's memory may grow by, in bytes, while the rest of the flood goes by: far less than the texts alone come to.
const GROWTH: u64 = 12 << 20;

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let issuers = [TokenIssuer::new("ec", "ES256"), TokenIssuer::new("rsa", "RS256")];
    let policy = json!({
        "version": 1,
        "tokens": { "corp": tokens::provider(&issuers.each_ref(), "off") },
        "rules": [{ "id": "read", "allow": "any", "scopes": ["read"], "paths": ["/orders/{id}"] }],
    });
    report.step("Envoy with the filter, and a client with a good token");
    let gate = Gate::start(&policy.to_string(), &Difference::default()).await?;
    let client = gate.client(Some(&gate.own.leaf().uri(CHECKOUT).issue()), Http1)?;
    let now = jiff::Timestamp::now().as_second();
    let mut claims = tokens::claims(now);
    // Good for as long as a slow machine needs.
    claims["exp"] = json!(now + 86_400);
    let good = Ask::get("/orders/1").with("authorization", format!("Bearer {}", issuers[0].sign(&claims)));
    let plan = Plan { kept: 2, fresh: 1, every: Duration::from_millis(20), ask: good };
    let load = Load::start(&[client], &plan);
    carry(&load).await?;

    report.step(format_args!("{FLOOD} bad tokens, half of them with a forged signature under a known key"));
    let attacker = gate.client(Some(&gate.own.leaf().uri("spiffe://acme.example/ns/x/sa/y").issue()), Http1)?;
    let mut answers = flood(&attacker, 0..WARM, now).await?;
    let early = gate.envoy.process().resident().unwrap_or_default();
    for (answer, count) in flood(&attacker, WARM..FLOOD, now).await? {
        *answers.entry(answer).or_default() += count;
    }
    let late = gate.envoy.process().resident().unwrap_or_default();
    carry(&load).await?;
    let tally = load.stop().await;

    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..FLOOD {
        *expected.entry(format!("401 {}", Bad::of(number).code())).or_default() += 1;
    }
    for (answer, count) in &answers {
        report.saw(format_args!("{count} × {answer}"));
    }
    report.holds("each was refused for what is wrong with it", answers == expected, format_args!("{FLOOD} answers"))?;
    report.holds("the good client beside them was never refused", tally.failures() == 0, &tally)?;
    let grown = late.saturating_sub(early);
    let texts = (FLOOD - WARM) * WEIGHT * 4 / 3;
    let seen = format!("{} KiB in {} tokens of {} KiB", grown / 1024, FLOOD - WARM, texts / 1024);
    report.holds("Envoy remembers none of them", early > 0 && grown < GROWTH, seen)?;

    let requests = tally.succeeded();
    let flood = FLOOD as u64;
    let mut counts: Vec<(String, u64)> = [
        ("requests.allowed", requests),
        ("requests.denied", flood),
        ("tokens.refused", flood),
        ("tokens.verified", 1),
        ("tokens.cached", requests - 1),
        ("signatures.by_host", flood / 2 + 1),
        ("signatures.by_filter", 0),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .to_vec();
    let reasons =
        expected.iter().map(|(answer, count)| (format!("denied.{}", answer.trim_start_matches("401 ")), *count));
    counts.extend(reasons);
    // In a flood each VM tells its counts a tick later.
    wait::until("every count of the flood", TOLD, async || {
        let counters = gate.counters().await.map_err(|error| chain(&error))?;
        let seen = |name: &str| counters.get(name).copied().unwrap_or_default();
        let wrong = counts.iter().find(|(name, count)| seen(name) != *count);
        wrong.map_or(Ok(()), |(name, count)| Err(format!("`{name}` is {} and not {count}", seen(name))))
    })
    .await?;
    report.holds("every count is exact", true, format_args!("{} counters", counts.len()))?;
    no_trap(&gate.envoy, report).await
}

/// Sends these tokens over a few connections, and counts the answers.
async fn flood(
    client: &Client,
    numbers: std::ops::Range<usize>,
    now: i64,
) -> Result<BTreeMap<String, u64>, StoryError> {
    let numbers = Arc::new(numbers.collect::<Vec<_>>());
    let mut workers = JoinSet::new();
    for worker in 0..CONNECTIONS {
        let (client, numbers) = (client.clone(), Arc::clone(&numbers));
        workers.spawn(async move {
            let mut connection = client.connect().await?;
            let mut answers: BTreeMap<String, u64> = BTreeMap::new();
            for number in numbers.iter().skip(worker).step_by(CONNECTIONS) {
                let value = format!("Bearer {}", Bad::of(*number).token(*number, now));
                let answer = connection.ask(&Ask::get("/orders/1").with("authorization", value)).await?;
                *answers.entry(format!("{} {}", answer.status.as_u16(), answer.code())).or_default() += 1;
            }
            Ok::<_, ClientError>(answers)
        });
    }
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for answers in workers.join_all().await {
        let answers =
            answers.map_err(|source| StoryError::Request { doing: "a token of the flood".to_owned(), source })?;
        for (answer, count) in answers {
            *all.entry(answer).or_default() += count;
        }
    }
    Ok(all)
}

/// What is wrong with a token.
#[derive(Clone, Copy)]
enum Bad {
    Signature(&'static str),
    Audience,
    Claims,
    CriticalHeader,
    Expired,
    Issuer,
    Key,
    Nested,
    NoAlgorithm,
    Parts,
    Thing,
}

impl Bad {
    /// Of a number: every other one has a forged signature, and all other kinds take turns.
    fn of(number: usize) -> Self {
        const OTHERS: [Bad; 10] = [
            Bad::Audience,
            Bad::Claims,
            Bad::CriticalHeader,
            Bad::Expired,
            Bad::Issuer,
            Bad::Key,
            Bad::Nested,
            Bad::NoAlgorithm,
            Bad::Parts,
            Bad::Thing,
        ];
        match number % 4 {
            0 => Self::Signature("ES256"),
            2 => Self::Signature("RS256"),
            _ => OTHERS[number / 2 % OTHERS.len()],
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Signature(_) => "token_signature_invalid",
            Self::Audience => "token_audience_mismatch",
            Self::Claims => "token_claims_invalid",
            Self::CriticalHeader => "token_critical_header",
            Self::Expired => "token_expired",
            Self::Issuer => "token_issuer_mismatch",
            Self::Key => "token_key_unknown",
            Self::Nested => "token_nested",
            Self::NoAlgorithm => "token_algorithm_not_allowed",
            Self::Parts | Self::Thing => "token_malformed",
        }
    }

    /// The token with this number; no other number has the same.
    fn token(self, number: usize, now: i64) -> String {
        let mut header = json!({ "alg": "ES256", "kid": "ec" });
        let mut claims = tokens::claims(now);
        claims["exp"] = json!(now + 86_400);
        claims["jti"] = json!(number);
        claims["note"] = json!("x".repeat(WEIGHT));
        match self {
            Self::Signature("RS256") => header = json!({ "alg": "RS256", "kid": "rsa" }),
            Self::Audience => claims["aud"] = json!(format!("orders-{number}")),
            Self::CriticalHeader => header["crit"] = json!(["exp"]),
            Self::Expired => claims["exp"] = json!(now - 1),
            Self::Issuer => claims["iss"] = json!(format!("https://{number}.example")),
            Self::Key => header["kid"] = json!(format!("ec-{number}")),
            Self::NoAlgorithm => header["alg"] = json!("none"),
            _ => {}
        }
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let mut payload = encode(&claims);
        if matches!(self, Self::Claims) {
            payload = BASE64_URL_SAFE_NO_PAD.encode(format!("{claims},"));
        }
        let signature = no_signature(number, if matches!(self, Self::Signature("RS256")) { 256 } else { 64 });
        match self {
            Self::Nested => format!("{}.{payload}.{signature}.a.b", encode(&header)),
            Self::Parts => format!("{}.{payload}", encode(&header)),
            Self::Thing => format!("{number}-{payload}"),
            _ => format!("{}.{payload}.{signature}", encode(&header)),
        }
    }
}
