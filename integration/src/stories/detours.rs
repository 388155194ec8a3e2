//! `detours`: ways around the one decision at the head of a request. Trailers, redirects that Envoy follows by itself, upgrades
//! and tunnels, and connections that were opened for another host.

use serde_json::Value;
use serde_json::json;

use super::alone::Alone;
use super::alone::manager;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::ELSEWHERE;
use crate::environment::Protocol::Http1;
use crate::environment::Protocol::Http2;
use crate::environment::Seen;
use crate::environment::client::HOST_NAME;
use crate::environment::raw;
use crate::environment::raw::Outcome;
use crate::report::Report;
use crate::report::StoryError;

const CART: &str = "spiffe://acme.example/ns/shop/sa/cart";

fn policy() -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": { "cart": [{ "spiffe": CART }] },
        "rules": [
            { "id": "orders", "allow": ["cart"], "paths": ["/orders/**"] },
            { "id": "files", "allow": ["cart"], "paths": ["/files/**"] },
            { "id": "console", "allow": ["cart"], "hosts": ["console.acme.example"], "paths": ["/console"] },
            {
                "id": "vault",
                "allow": ["cart"],
                "hosts": ["vault.acme.example"],
                "sni": ["vault.acme.example"],
                "paths": ["/vault"],
            },
        ],
    })
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let stage = Alone::set().await?;
    report.step("an Envoy that follows redirects by itself, upgrades connections and opens tunnels");
    let followed = json!({ "cluster": "upstream", "internal_redirect_policy": { "max_internal_redirects": 3 } });
    let tunnels = json!([{ "upgrade_type": "CONNECT", "connect_config": {} }]);
    let routes = json!([
        { "match": { "connect_matcher": {} }, "route": { "cluster": "upstream", "upgrade_configs": tunnels } },
        { "match": { "prefix": "/" }, "route": followed },
    ]);
    let changes = [
        (manager("route_config/virtual_hosts/0/routes"), routes),
        (manager("upgrade_configs"), json!([{ "upgrade_type": "websocket" }, { "upgrade_type": "CONNECT" }])),
        (manager("http2_protocol_options"), json!({ "allow_connect": true })),
    ];
    let envoy = stage.start_with(&policy(), &changes).await?;
    let leaf = stage.own.leaf().uri(CART).issue();
    let outcome = async {
        let clients = [stage.client(&leaf, Http1)?, stage.client(&leaf, Http2)?];
        trailers(&stage, report, &clients[1]).await?;
        for client in &clients {
            redirects(&stage, report, client).await?;
        }
        upgrades(&stage, report, &clients).await?;
        other_hosts(&stage, report, &clients[1]).await
    }
    .await;
    if outcome.is_err() {
        report.line(envoy.process().last_words());
    }
    outcome
}

/// Each of the gate's own headers once, and true.
fn is_truthful(seen: &Seen, rule: &str) -> bool {
    let own = [("x-portcullis-identity", CART), ("x-portcullis-roles", "cart"), ("x-portcullis-rule", rule)];
    let family = seen.headers.iter().filter(|(name, _)| name.starts_with("x-portcullis"));
    family.count() == own.len() && own.iter().all(|(name, value)| seen.values(name) == [*value])
}

async fn trailers(stage: &Alone, report: &mut Report, http2: &Client) -> Result<(), StoryError> {
    report.step("words about who asks, after the body");
    let forged: [(&[u8], &[u8]); 7] = [
        (b"x-portcullis-identity", b"spiffe://acme.example/admin"),
        (b"x-portcullis-roles", b"admin"),
        (b"x-portcullis-later", b"1"),
        (b"x-forwarded-client-cert", b"URI=spiffe://acme.example/admin"),
        (b"client-cert", b":AA==:"),
        (b"x-checksum", b"7"),
        (b"x-portcullis-identity", b"again"),
    ];
    let outcome = raw::http2_with_trailers(http2, &pseudo("POST", HOST_NAME, "/orders/1"), &forged).await;
    let outcome = outcome.map_err(|source| failed("a request with trailers", source))?;
    let seen = stage.upstream.take_seen();
    let arrived: Vec<_> = seen.iter().flat_map(|seen| &seen.trailers).map(|(name, _)| name.as_str()).collect();
    let truthful = seen.len() == 1 && seen.iter().all(|seen| is_truthful(seen, "orders"));
    report.holds("such a request is let in as who sends it", outcome.is_success() && truthful, &outcome)?;
    report.holds("and of its trailers only the others arrive", arrived == ["x-checksum"], arrived.join(", "))
}

/// Envoy sends the request once more through all filters, with the header as they left it.
async fn redirects(stage: &Alone, report: &mut Report, client: &Client) -> Result<(), StoryError> {
    report.step(format_args!("a service that sends its callers elsewhere, over {}", client.protocol()));
    let go = async |to: &str| client.ask(&Ask::get("/orders/1").with(ELSEWHERE, to)).await;
    let answer = go("/files/a").await.map_err(|source| failed("a redirect", source))?;
    let seen = stage.upstream.take_seen();
    let good = matches!(&seen[..], [one, other] if is_truthful(one, "orders") && is_truthful(other, "files"));
    let rules: Vec<_> = seen.iter().flat_map(|seen| seen.values("x-portcullis-rule")).collect();
    report.holds(
        "where they may go: decided again, by another rule",
        answer.status == 200 && good,
        rules.join(", "),
    )?;

    let answer = go("/secret").await.map_err(|source| failed("a redirect", source))?;
    let seen = stage.upstream.take_seen();
    let shown = format!("{} {}, {} request at the service", answer.status.as_u16(), answer.code(), seen.len());
    let good = answer.status == 403 && answer.code() == "no_rule_matched" && seen.len() == 1;
    report.holds("where they may not: refused", good, shown)
}

async fn upgrades(stage: &Alone, report: &mut Report, [http1, http2]: &[Client; 2]) -> Result<(), StoryError> {
    report.step("upgrades and tunnels");
    let socket = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: {HOST_NAME}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n"
        )
    };
    let extended = |path: &'static str| {
        let mut fields = pseudo("CONNECT", HOST_NAME, path);
        fields.push((b":protocol", b"websocket"));
        fields
    };
    let connect = format!("CONNECT {HOST_NAME}:443 HTTP/1.1\r\nhost: {HOST_NAME}:443\r\n\r\n");
    let tunnel: [(&[u8], &[u8]); 2] = [(b":method", b"CONNECT"), (b":authority", b"orders.acme.example:443")];
    // Whether the service speaks WebSocket is another question.
    let allowed = raw::http1(http1, socket("/orders/1").as_bytes()).await;
    let allowed = allowed.map_err(|source| failed("a WebSocket", source))?;
    report.holds(
        "a WebSocket to where the caller may is not the gate's to refuse",
        allowed.code().is_empty(),
        &allowed,
    )?;
    stage.upstream.take_seen();
    for (claim, outcome) in [
        ("a WebSocket to where it may not", raw::http1(http1, socket("/secret").as_bytes()).await),
        ("the same over HTTP/2", raw::http2(http2, &extended("/secret")).await),
        ("a tunnel", raw::http1(http1, connect.as_bytes()).await),
        ("a tunnel over HTTP/2", raw::http2(http2, &tunnel).await),
    ] {
        let outcome = outcome.map_err(|source| failed(claim, source))?;
        report.holds(&format!("{claim} is refused"), !outcome.code().is_empty(), &outcome)?;
    }
    let reached = stage.upstream.take_seen().len();
    report.holds("and none of these reached the service", reached == 0, reached)
}

/// A client that holds a connection for one host may ask for every other whose name is in the server's certificate.
async fn other_hosts(stage: &Alone, report: &mut Report, http2: &Client) -> Result<(), StoryError> {
    report.step(format_args!("a connection for {HOST_NAME} (SNI) that is used for other hosts"));
    for (claim, host, path, code) in [
        ("the rules of the other host decide: its console", "console.acme.example", "/console", ""),
        ("and nothing of this one's", "console.acme.example", "/vault", "no_rule_matched"),
        ("nor the other's for this one", HOST_NAME, "/console", "no_rule_matched"),
        ("a policy may want a connection for the very host", "vault.acme.example", "/vault", "no_rule_matched"),
    ] {
        let outcome: Outcome =
            raw::http2(http2, &pseudo("GET", host, path)).await.map_err(|source| failed(claim, source))?;
        let reached = !stage.upstream.take_seen().is_empty();
        let good = outcome.code() == code && outcome.is_success() == code.is_empty() && reached == code.is_empty();
        report.holds(claim, good, &outcome)?;
    }
    Ok(())
}

fn pseudo<'a>(method: &'a str, host: &'a str, path: &'a str) -> Vec<(&'a [u8], &'a [u8])> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"https"),
        (b":authority", host.as_bytes()),
        (b":path", path.as_bytes()),
    ]
}

fn failed(what: &str, source: crate::environment::ClientError) -> StoryError {
    StoryError::Request { doing: format!("no outcome: {what}"), source }
}
