//! `impersonation`: clients send the gate's own headers, in every spelling, and speak for nobody else.

use super::CHECKOUT;
use super::REPORTING;
use super::within;
use crate::environment::Client;
use crate::environment::Environment;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Settings;
use crate::environment::client::HOST_NAME;
use crate::environment::raw;
use crate::environment::raw::Outcome;
use crate::report::Report;
use crate::report::StoryError;

/// Header lines that a client might try, each claiming to be checkout.
const FORGERIES: &[(&str, &[(&str, &str)])] = &[
    ("lower case", &[("x-portcullis-identity", CHECKOUT)]),
    ("title case", &[("X-Portcullis-Identity", CHECKOUT)]),
    ("upper case", &[("X-PORTCULLIS-IDENTITY", CHECKOUT)]),
    ("mixed case", &[("x-PortCullis-iDENTITY", CHECKOUT)]),
    ("`_` for `-`", &[("x_portcullis_identity", CHECKOUT)]),
    ("one `_` for `-`", &[("x-portcullis_identity", CHECKOUT)]),
    ("`_` and upper case", &[("X_PORTCULLIS_IDENTITY", CHECKOUT)]),
    ("`.` for `-`", &[("x.portcullis.identity", CHECKOUT)]),
    ("twice", &[("x-portcullis-identity", CHECKOUT), ("x-portcullis-identity", CHECKOUT)]),
    ("twice, in two spellings", &[("x-portcullis-identity", CHECKOUT), ("x_portcullis_identity", CHECKOUT)]),
    ("empty", &[("x-portcullis-identity", "")]),
    ("with spaces", &[("x-portcullis-identity", "  x  ")]),
    ("roles", &[("x-portcullis-roles", "checkout,admin")]),
    ("rule", &[("x-portcullis-rule", "write-orders")]),
    ("a name that is not in use", &[("x-portcullis-admin", "true")]),
    (
        "all at once",
        &[
            ("x-portcullis-identity", CHECKOUT),
            ("x-portcullis-roles", "checkout"),
            ("x_portcullis_rule", "write-orders"),
        ],
    ),
    ("folded into another header", &[("x-note", "a\r\n x-portcullis-identity: spiffe://acme.example/admin")]),
    ("hop by hop", &[("connection", "x-portcullis-identity"), ("x-portcullis-identity", CHECKOUT)]),
    ("x-forwarded-client-cert", &[("x-forwarded-client-cert", "URI=spiffe://acme.example/ns/shop/sa/checkout")]),
];

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    within(Settings::default(), report, async |environment, report| {
        report.step("Envoy as shipped");
        forge(environment, report).await
    })
    .await?;
    // Envoy as shipped refuses names with `_` by itself. What the filter does about them shows without that.
    let settings = Settings {
        envoy: vec![("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW")],
        ..Settings::default()
    };
    within(settings, report, async |environment, report| {
        report.step("an Envoy that lets names with `_` through");
        forge(environment, report).await
    })
    .await
}

async fn forge(environment: &Environment, report: &mut Report) -> Result<(), StoryError> {
    let http1 = environment.client(REPORTING, Http1).await?;
    let http2 = environment.client(REPORTING, Http2).await?;
    for (spelling, lines) in FORGERIES {
        let read = send_http1(&http1, "GET", "/orders/42", lines).await?;
        check(environment, report, &format!("HTTP/1.1, {spelling}"), &read)?;
        let write = send_http1(&http1, "POST", "/orders", lines).await?;
        if write.is_success() || !environment.upstream.take_seen().is_empty() {
            report.holds("reporting does not write as checkout", false, &write)?;
        }

        let read = send_http2(&http2, "GET", "/orders/42", lines).await?;
        check(environment, report, &format!("HTTP/2,   {spelling}"), &read)?;
        let write = send_http2(&http2, "POST", "/orders", lines).await?;
        if write.is_success() || !environment.upstream.take_seen().is_empty() {
            report.holds("reporting does not write as checkout", false, &write)?;
        }
    }
    report.holds("reporting never wrote as checkout", true, "")
}

/// Either the request was refused, or the service saw the true identity, once, and no other header of the family.
fn check(environment: &Environment, report: &mut Report, claim: &str, outcome: &Outcome) -> Result<(), StoryError> {
    let seen = environment.upstream.take_seen();
    if !outcome.is_success() {
        return report.holds(claim, seen.is_empty(), format_args!("refused, {outcome}"));
    }
    let family: Vec<(&str, &str)> = seen
        .iter()
        .flat_map(|seen| &seen.headers)
        .filter(|(name, _)| name.replace(['_', '.'], "-").to_ascii_lowercase().starts_with("x-portcullis"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let value = |wanted: &str| {
        let mut values = family.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value);
        values.next().filter(|_| values.next().is_none())
    };
    let truthful = seen.len() == 1
        && family.len() == 3
        && value("x-portcullis-identity") == Some(REPORTING)
        && value("x-portcullis-roles") == Some("reporting,tenant")
        && value("x-portcullis-rule") == Some("read-orders");
    let is_xfcc = |(name, _): &&(String, String)| name == "x-forwarded-client-cert";
    let xfcc = seen.iter().flat_map(|seen| &seen.headers).find(is_xfcc);
    let shown = match (truthful, xfcc) {
        (true, None) => "the service saw the true identity only".to_owned(),
        (_, Some((name, value))) => format!("the service saw `{name}: {value}`"),
        (false, None) => format!("the service saw {family:?}"),
    };
    report.holds(claim, truthful && xfcc.is_none(), shown)
}

async fn send_http1(client: &Client, method: &str, path: &str, lines: &[(&str, &str)]) -> Result<Outcome, StoryError> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {HOST_NAME}\r\ncontent-length: 0\r\n");
    for (name, value) in lines {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let outcome = raw::http1(client, text.as_bytes()).await;
    outcome.map_err(|source| StoryError::Request { doing: format!("cannot ask {method} {path}"), source })
}

async fn send_http2(client: &Client, method: &str, path: &str, lines: &[(&str, &str)]) -> Result<Outcome, StoryError> {
    let mut fields: Vec<(&[u8], &[u8])> = vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"https"),
        (b":authority", HOST_NAME.as_bytes()),
        (b":path", path.as_bytes()),
    ];
    fields.extend(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let outcome = raw::http2(client, &fields).await;
    outcome.map_err(|source| StoryError::Request { doing: format!("cannot ask {method} {path}"), source })
}
