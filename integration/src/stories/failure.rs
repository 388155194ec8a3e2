//! `failure`: what the filter needs fails, and nobody gets in who should not.
//!
//! No part of the module fails on purpose. It traps here because Envoy withholds a call that the configuration does not
//! permit, which is how a wrong `capability_restriction_config` shows.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;

use super::alone::Alone;
use super::alone::manager;
use crate::certificates::Leaf;
use crate::environment;
use crate::environment::Ask;
use crate::environment::Client;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::Protocol::Http1;
use crate::environment::chain;
use crate::environment::endless;
use crate::environment::standalone;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;

const CART: &str = "spiffe://acme.example/ns/shop/sa/cart";
const PATIENCE: Duration = Duration::from_secs(40);

/// Without this one a request traps only if it claims a name of the gate's.
const FORGERY_TRAPS: &str = "proxy_remove_header_map_value";
/// Of a certificate, in seconds: long enough for a fresh machine, short enough to wait for.
const LIFETIME: u64 = 30;
/// What has not ended by then goes on.
const QUIET: Duration = Duration::from_secs(1);

/// Calls without which nothing is decided, and what becomes of a request that everybody may send.
const WITHHELD: &[(&str, &[&str])] = &[
    ("proxy_get_header_map_pairs", &["503 "]),
    ("proxy_replace_header_map_value", &["503 "]),
    // Nothing has to be taken away from this request.
    (FORGERY_TRAPS, &["200 "]),
    ("proxy_send_local_response", &["200 "]),
    // Signatures are then verified by the module itself, and there are none here.
    ("proxy_call_foreign_function", &["200 "]),
];

fn policy(order: &str) -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": { "cart": [{ "spiffe": CART }] },
        "rules": [
            { "id": "orders", "allow": ["cart"], "paths": [order] },
            { "id": "streams", "allow": ["cart"], "paths": ["/streams/**"] },
            { "id": "health", "allow": "any", "paths": ["/healthz"] },
        ],
    })
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let stage = Alone::set().await?;
    let leaf = stage.own.leaf().uri(CART).issue();
    start_ups(&stage, report).await?;
    report.step("gates from which something is withheld");
    let mut gates = Vec::new();
    let mut traps_on_demand = None;
    // A route of streams has no end by the clock.
    let endless = (manager("route_config/virtual_hosts/0/routes/0/route/timeout"), json!("0s"));
    let mut config = stage.config(&[endless], standalone::filter(&policy("/orders/{id}").to_string())?)?;
    for (capability, expected) in WITHHELD {
        let gate = environment::free_port()?;
        let filter = withholding(capability, &policy("/orders/{id}"))?;
        add_listener(&mut config, capability, gate.port(), filter)?;
        gates.push((*capability, *expected, stage.client_at(gate, &leaf, Http1)?));
        if *capability == FORGERY_TRAPS {
            traps_on_demand = Some(gate);
        }
    }
    let envoy = stage.start(&config).await?;
    let outcome = async {
        withheld(&stage, report, &gates).await?;
        reload(&stage, &envoy, report, &stage.client(&leaf, Http1)?, &gates).await?;
        match traps_on_demand {
            Some(gate) => streams(&stage, report, gate).await,
            None => report.holds("there is a gate that traps when it is told to", false, "none"),
        }
    }
    .await;
    if outcome.is_err() {
        report.line(envoy.process().last_words());
    }
    outcome?;
    drop(envoy);
    updates(&stage, report, &leaf).await
}

/// A bad configuration keeps Envoy from starting, and so does a host that the filter cannot work in.
async fn start_ups(stage: &Alone, report: &mut Report) -> Result<(), StoryError> {
    report.step("starts that must fail");
    let mut failing = policy("/orders/{id}");
    failing["tests"] = json!([{ "name": "the cart pays", "peer": { "spiffe": CART }, "request": "POST /pay", "expect": { "allow": "orders" } }]);
    let mut unknown = policy("/orders/{id}");
    unknown["rulez"] = json!([]);
    let good = policy("/orders/{id}");
    let cases = [
        ("without a policy", standalone::filter("")?, "configuration refused: the filter has no configuration"),
        ("with an unknown field", standalone::filter(&unknown.to_string())?, "unknown field `rulez`"),
        ("with a failing test", standalone::filter(&failing.to_string())?, "1 of the policy's own tests fail"),
        ("when the policy cannot be read", withholding("proxy_get_buffer_bytes", &good)?, ""),
        ("when nothing can be counted", withholding("proxy_define_metric", &good)?, ""),
        ("without facts about connections", withholding("proxy_get_property", &good)?, "the proxy withholds"),
        ("without a clock", withholding("proxy_get_current_time_nanoseconds", &good)?, ""),
    ];
    for (claim, filter, said) in cases {
        let started = stage.start(&stage.config(&[], filter)?).await;
        let ended = matches!(started, Err(StoryError::Environment(EnvironmentError::Exited { .. })));
        let words = started.err().map(|error| chain(&error)).unwrap_or_default();
        let told = words.lines().find(|line| line.contains(said)).unwrap_or_default();
        report.holds(
            &format!("Envoy does not start {claim}"),
            ended && words.contains(said),
            if said.is_empty() { "" } else { told },
        )?;
    }
    Ok(())
}

async fn withheld(stage: &Alone, report: &mut Report, gates: &[(&str, &[&str], Client)]) -> Result<(), StoryError> {
    for (capability, expected, client) in gates {
        stage.upstream.take_seen();
        let closed = status(client, "/secret").await;
        let reached = stage.upstream.take_seen().len();
        let good = (closed.starts_with("403") || closed.starts_with("503")) && reached == 0;
        report.holds(&format!("without `{capability}` what is closed stays closed"), good, &closed)?;
        let open = wait::until("an answer", PATIENCE, async || match status(client, "/healthz").await {
            seen if expected.contains(&seen.as_str()) => Ok(seen),
            seen => Err(seen),
        })
        .await;
        let reached = stage.upstream.take_seen().len();
        let seen = open.map_err(|error| chain(&error)).unwrap_or_else(|seen| seen);
        let good = expected.contains(&seen.as_str()) && (reached > 0) == seen.starts_with("200");
        report.holds("and what everybody may have is had or not at all", good, &seen)?;
    }
    Ok(())
}

/// Without the call that marks a permitted request, each of them traps the machine; a refusal needs no mark.
async fn reload(
    stage: &Alone,
    envoy: &Envoy,
    report: &mut Report,
    good: &Client,
    gates: &[(&str, &[&str], Client)],
) -> Result<(), StoryError> {
    report.step("a machine that traps");
    let trapping = gates.iter().find(|(capability, ..)| *capability == "proxy_replace_header_map_value");
    let Some((_, _, client)) = trapping else { return report.holds("there is a gate that traps", false, "none") };
    for round in ["", ", and again"] {
        let refused = wait::until("a fresh machine", PATIENCE, async || match status(client, "/secret").await {
            seen if seen == "403 no_rule_matched" => Ok(seen),
            seen => Err(seen),
        })
        .await?;
        report.holds(&format!("a fresh machine decides{round}"), true, refused)?;
        stage.upstream.take_seen();
        let trapped = status(client, "/orders/1").await;
        let reached = stage.upstream.take_seen().len();
        report.holds("the request that traps it gets 503", trapped == "503 " && reached == 0, &trapped)?;
        let other = status(good, "/orders/1").await;
        report.holds("and the gate beside it goes on", other == "200 ", &other)?;
    }
    let stats = envoy.stats("vm_reload").await?;
    let reloads: u64 =
        stats.iter().filter(|(name, _)| name.ends_with("vm_reload_success")).map(|(_, count)| *count).sum();
    report.holds("Envoy counts the fresh machines", reloads >= 2, reloads)
}

/// Streams on both sides of a trap, with a certificate that ends soon after it.
async fn streams(stage: &Alone, report: &mut Report, gate: SocketAddr) -> Result<(), StoryError> {
    report.step("streams that are open when a machine traps, and one that begins after");
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let client = stage.client_at(gate, &stage.own.leaf().uri(CART).valid(now - 60, now + LIFETIME).issue(), Http1)?;
    let failed = |source| StoryError::Request { doing: "open a stream".to_owned(), source };
    let open = async |path: &str| {
        let mut connection = client.connect().await.map_err(failed)?;
        let mut stream = connection.open(&Ask::get(path)).await.map_err(failed)?;
        match stream.next().await {
            Some(_) if stream.status() == hyper::StatusCode::OK => Ok((connection, stream)),
            word => {
                let seen = format!("{} {word:?}", stream.status());
                Err(StoryError::Claim { claim: "a stream opens".to_owned(), seen })
            }
        }
    };
    let (_one, talking) = open("/streams/one").await?;
    let (_two, mut silent) = open(endless::SILENT).await?;
    let forged = Ask::get("/orders/1").with("x-portcullis-identity", CART);
    let trapped = client.ask(&forged).await.map_err(failed)?;
    report.holds("a request that traps the machine gets 503", trapped.status == 503, trapped.status)?;
    let ended = timeout(PATIENCE, talking.ended()).await.is_ok();
    report.holds("what is under way ends at its next bytes", ended, "")?;
    wait::until("a fresh machine", PATIENCE, async || match status(&client, "/orders/1").await {
        seen if seen == "200 " => Ok(()),
        seen => Err(seen),
    })
    .await?;
    let (_three, after) = open(endless::SILENT).await?;
    let ended = timeout(PATIENCE, after.ended()).await.is_ok();
    report.holds("a stream that begins after ends with its certificate", ended, "")?;
    let word = timeout(QUIET, silent.next()).await;
    report.holds(
        "a silent one from before is nobody's any more: it is open until its time-out",
        word.is_err(),
        format_args!("{word:?}"),
    )
}

/// The policy arrives from a file that Envoy watches (ECDS): one that the filter refuses changes nothing.
async fn updates(stage: &Alone, report: &mut Report, leaf: &Leaf) -> Result<(), StoryError> {
    report.step("updates that the filter itself refuses");
    let file = stage.directory().join("filter.json");
    let publish = |policy: &str, version: &str| -> Result<(), StoryError> {
        let filter = standalone::filter(policy)?;
        let resource = json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "portcullis",
            "typed_config": filter["typed_config"],
        });
        let draft = file.with_extension("new");
        environment::write(&draft, &json!({ "version_info": version, "resources": [resource] }).to_string())?;
        let replaced = fs::rename(&draft, &file);
        Ok(replaced.map_err(|source| EnvironmentError::File { doing: "replace", path: file.clone(), source })?)
    };
    publish(&policy("/orders/{id}").to_string(), "1")?;
    let watching = json!({
        "name": "portcullis",
        "config_discovery": {
            "config_source": { "path_config_source": { "path": file }, "resource_api_version": "V3" },
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        },
    });
    let envoy = stage.start(&stage.config(&[], watching)?).await?;
    let client = stage.client(leaf, Http1)?;
    let mut open =
        client.connect().await.map_err(|source| StoryError::Request { doing: "connect".to_owned(), source })?;
    let mut failing = policy("/other/{id}");
    failing["tests"] = json!([{ "name": "the cart pays", "peer": { "spiffe": CART }, "request": "POST /pay", "expect": { "allow": "orders" } }]);
    let refused = async |count: u64| {
        wait::until("the update to be refused", PATIENCE, async || {
            let stats = envoy.stats("extension_config_discovery").await.map_err(|error| chain(&error))?;
            let rejected =
                stats.iter().find(|(name, _)| name.ends_with("update_rejected")).map_or(0, |(_, count)| *count);
            if rejected >= count { Ok(rejected) } else { Err(format!("{stats:?}")) }
        })
        .await
    };
    for (index, (claim, text)) in [
        ("a policy that fails its own test", failing.to_string()),
        ("one that does not compile", policy("/other//{id}").to_string()),
        ("no policy at all", String::new()),
    ]
    .into_iter()
    .enumerate()
    {
        publish(&text, &format!("bad-{index}"))?;
        let count = refused(index as u64 + 1).await?;
        report.holds(&format!("{claim} is refused by the filter"), true, format_args!("{count} so far"))?;
        for (path, code) in [("/orders/1", "200 "), ("/other/1", "403 no_rule_matched")] {
            let seen = [status(&client, path).await, status_on(&mut open, path).await];
            report.holds(
                "the policy before it goes on, on old and new connections",
                seen == [code, code],
                seen.join(", "),
            )?;
        }
    }
    publish(&policy("/other/{id}").to_string(), "2")?;
    wait::until("a good update to be in force", PATIENCE, async || match status_on(&mut open, "/other/1").await {
        seen if seen == "200 " => Ok(()),
        seen => Err(seen),
    })
    .await?;
    let seen = status(&client, "/orders/1").await;
    report.holds("a good update is in force", seen == "403 no_rule_matched", &seen)
}

/// The shipped filter, but for one call.
fn withholding(capability: &str, policy: &Value) -> Result<Value, EnvironmentError> {
    let mut filter = standalone::filter(&policy.to_string())?;
    let place = "/typed_config/config/vm_config/capability_restriction_config/allowed_capabilities";
    let allowed = filter.pointer_mut(place).and_then(Value::as_object_mut);
    if allowed.is_none_or(|allowed| allowed.remove(capability).is_none()) {
        let text = format!("`{capability}` is not permitted anyway");
        return Err(EnvironmentError::Unreadable { what: "filter-static.yaml".to_owned(), text });
    }
    // Machines are told apart by this and by their code, not by what they may call.
    filter["typed_config"]["config"]["vm_config"]["vm_id"] = json!(capability);
    Ok(filter)
}

/// The same listener on another port, with another filter.
fn add_listener(config: &mut Value, name: &str, port: u16, filter: Value) -> Result<(), EnvironmentError> {
    let missing = || EnvironmentError::Unreadable { what: "envoy.yaml".to_owned(), text: "no listener".to_owned() };
    let mut beside = config.clone();
    for (place, value) in [
        ("/static_resources/listeners/0/name".to_owned(), json!(name)),
        ("/static_resources/listeners/0/address/socket_address/port_value".to_owned(), json!(port)),
        (manager("http_filters/0"), filter),
    ] {
        *beside.pointer_mut(&place).ok_or_else(missing)? = value;
    }
    let listener = beside.pointer_mut("/static_resources/listeners/0").map(Value::take).ok_or_else(missing)?;
    let listeners = config.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut);
    listeners.ok_or_else(missing)?.push(listener);
    Ok(())
}

async fn status(client: &Client, path: &str) -> String {
    match client.connect().await {
        Ok(mut connection) => status_on(&mut connection, path).await,
        Err(error) => error.kind(),
    }
}

async fn status_on(connection: &mut environment::Connection, path: &str) -> String {
    match connection.ask(&Ask::get(path)).await {
        Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()),
        Err(error) => error.kind(),
    }
}
