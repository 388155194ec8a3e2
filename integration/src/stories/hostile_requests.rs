//! `hostile-requests`: malformed and oversized requests neither get through nor break the filter.
//!
//! Told three times: by Envoy as shipped, which refuses some of them by itself; by one whose limits were raised, so that
//! more of them come as far as the filter; and by one that rewrites paths before the filter looks.

use super::CHECKOUT;
use super::gate::no_trap;
use super::within;
use crate::environment::Ask;
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

/// Wide open but for one door: whatever slips past the checks of form comes through.
const POLICY: &str = r#"
version: 1
trust_domain: acme.example
roles:
  checkout: [{ spiffe: "spiffe://acme.example/ns/shop/sa/checkout" }]
rules:
  - { id: orders, allow: [checkout], paths: ["/orders/{id}"] }
  - { id: files, allow: [checkout], paths: ["/files/**"] }
  - { id: no-secrets, deny: any, paths: ["/files/secret/**"] }
"#;

/// Paths that two programs could read in two ways, or that go where no rule leads.
const PATHS: &[(&str, &[u8])] = &[
    ("two slashes in front", b"//files/secret/a"),
    ("two slashes inside", b"/files//secret/a"),
    ("two slashes at the end", b"/orders/42//"),
    ("dot segment", b"/files/./secret/a"),
    ("dot segment in front", b"/./files/secret/a"),
    ("two dots", b"/files/x/../secret/a"),
    ("two dots to the root", b"/files/../../files/secret/a"),
    ("two dots at the end", b"/files/secret/.."),
    ("escaped dots", b"/files/x/%2e%2e/secret/a"),
    ("half escaped dots", b"/files/x/.%2E/secret/a"),
    ("escaped slash", b"/files%2fsecret%2fa"),
    ("escaped slash in upper case", b"/files/x%2F..%2Fsecret/a"),
    ("escaped backslash", b"/files/x%5c..%5csecret/a"),
    ("backslash", b"/files/x\\..\\secret\\a"),
    ("path parameter", b"/files/secret;x=1/a"),
    ("path parameter after dots", b"/files/x/..;/secret/a"),
    ("escaped NUL", b"/files/a%00.html"),
    ("NUL", b"/files/a\0b"),
    ("control character", b"/files/a\x01b"),
    ("DEL", b"/files/a\x7fb"),
    ("escaped line break", b"/files/a%0d%0ax-admin:%20true"),
    ("double escape", b"/files/x/%252e%252e/secret/a"),
    ("double escaped slash", b"/files%252fsecret"),
    ("bad escape", b"/files/%zz"),
    ("cut escape", b"/files/%2"),
    ("fragment", b"/files/a#/../secret"),
    ("fragment in the query", b"/files/a?b#c"),
    ("question mark first", b"?/files/a"),
    ("overlong slash", b"/files/x%c0%af..%c0%afsecret/a"),
    ("overlong dot", b"/files/%c0%ae%c0%ae/secret/a"),
    ("not UTF-8", b"/files/%ff%fe"),
    ("raw bytes above ASCII", b"/files/\xc3\xbc"),
    ("raw bytes that are not UTF-8", b"/files/\xff\xfe"),
    ("trailing slash", b"/orders/42/"),
    ("case", b"/FILES/secret/a"),
    ("absolute form", b"https://orders.acme.example/files/a"),
    ("absolute form, another host", b"http://evil.example/files/secret/a"),
    ("asterisk", b"*"),
    ("no slash", b"files/a"),
    ("deny rule, as it is", b"/files/secret/a"),
];

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let settings = |envoy: &[(&'static str, &'static str)]| Settings {
        policy: Some(POLICY.to_owned()),
        envoy: envoy.to_vec(),
        ..Settings::default()
    };
    within(settings(&[]), report, async |environment, report| {
        report.step("Envoy as shipped");
        attack(environment, report, Rewriting::Off).await
    })
    .await?;
    let raised = [
        ("max_headers_count: 100", "max_headers_count: 2000"),
        ("max_request_headers_kb: 60", "max_request_headers_kb: 96"),
        ("headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW"),
    ];
    within(settings(&raised), report, async |environment, report| {
        report.step("an Envoy whose limits were raised, so that the filter sees more of it");
        attack(environment, report, Rewriting::Off).await
    })
    .await?;
    let rewriting =
        [("normalize_path: false", "normalize_path: true"), ("merge_slashes: false", "merge_slashes: true")];
    within(settings(&rewriting), report, async |environment, report| {
        report.step("an Envoy that rewrites paths before the filter looks");
        attack(environment, report, Rewriting::On).await
    })
    .await
}

/// Whether Envoy rewrites paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rewriting {
    On,
    Off,
}

async fn attack(environment: &Environment, report: &mut Report, rewriting: Rewriting) -> Result<(), StoryError> {
    let http1 = environment.client(CHECKOUT, Http1).await?;
    let http2 = environment.client(CHECKOUT, Http2).await?;
    still_works(report, &http1, "before").await?;
    environment.upstream.take_seen();

    for (name, path) in PATHS {
        let outcome = raw::http1(&http1, &line(b"GET", path, &[])).await.map_err(|source| failed(name, source))?;
        check(environment, report, &format!("HTTP/1.1, {name}"), &outcome, rewriting)?;
        let fields = pseudo(b"GET", path);
        let outcome = raw::http2(&http2, &fields).await.map_err(|source| failed(name, source))?;
        check(environment, report, &format!("HTTP/2,   {name}"), &outcome, rewriting)?;
    }
    for (name, bytes) in odd_http1() {
        let outcome = raw::http1(&http1, &bytes).await.map_err(|source| failed(name, source))?;
        check(environment, report, &format!("HTTP/1.1, {name}"), &outcome, Rewriting::Off)?;
    }
    for (name, fields) in odd_http2() {
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let outcome = raw::http2(&http2, &fields).await.map_err(|source| failed(name, source))?;
        check(environment, report, &format!("HTTP/2,   {name}"), &outcome, Rewriting::Off)?;
    }

    for client in [&http1, &http2] {
        large_value(environment, report, client).await?;
        still_works(report, client, &client.protocol().to_string()).await?;
    }
    no_trap(&environment.envoy, report).await
}

fn failed(name: &str, source: crate::environment::ClientError) -> StoryError {
    StoryError::Request { doing: format!("no outcome for: {name}"), source }
}

/// Refused, and the service saw nothing of it. Behind an Envoy that rewrites, what comes through must be clean: the
/// filter has decided about the very path that the service sees.
fn check(
    environment: &Environment,
    report: &mut Report,
    claim: &str,
    outcome: &Outcome,
    rewriting: Rewriting,
) -> Result<(), StoryError> {
    let seen = environment.upstream.take_seen();
    if rewriting == Rewriting::On && outcome.is_success() {
        let clean = |path: &str| {
            let path = path.to_ascii_lowercase();
            let plain =
                ["//", "/.", "\\", ";", "%2e", "%2f", "%5c", "%00", "%25"].iter().all(|odd| !path.contains(odd));
            plain && (path.starts_with("/files/") || path.starts_with("/orders/")) && !path.contains("secret")
        };
        let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
        return report.holds(claim, paths.iter().all(|path| clean(path)), format_args!("rewritten to {paths:?}"));
    }
    report.holds(claim, !outcome.is_success() && seen.is_empty(), outcome)
}

fn line(method: &[u8], path: &[u8], rest: &[u8]) -> Vec<u8> {
    let host = format!(" HTTP/1.1\r\nhost: {HOST_NAME}\r\n");
    [method, b" ", path, host.as_bytes(), rest, b"\r\n"].concat()
}

fn pseudo<'a>(method: &'a [u8], path: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    vec![(b":method", method), (b":scheme", b"https"), (b":authority", HOST_NAME.as_bytes()), (b":path", path)]
}

/// HTTP/1.1 requests that are odd in something else than the path.
fn odd_http1() -> Vec<(&'static str, Vec<u8>)> {
    let many =
        |count: usize| (0..count).flat_map(|index| format!("x-h{index}: {index}\r\n").into_bytes()).collect::<Vec<_>>();
    let path = b"/files/a";
    vec![
        ("1,000 headers", line(b"GET", path, &many(1_000))),
        // More than other hosts of Wasm hand over.
        ("1,100 headers", line(b"GET", path, &many(1_100))),
        ("a path of 60 KB", line(b"GET", &[&b"/files/"[..], &[b'a'; 60_000]].concat(), b"")),
        ("NUL in a value", line(b"GET", path, b"x-note: a\0b\r\n")),
        ("space before the colon", line(b"GET", path, b"x-note : a\r\n")),
        ("two hosts", line(b"GET", path, b"host: evil.example\r\n")),
        ("host with a user", b"GET /files/a HTTP/1.1\r\nhost: admin@orders.acme.example\r\n\r\n".to_vec()),
        ("no host", b"GET /files/a HTTP/1.1\r\n\r\n".to_vec()),
        ("connect", b"CONNECT orders.acme.example:443 HTTP/1.1\r\nhost: orders.acme.example:443\r\n\r\n".to_vec()),
        ("no such method", line(b"G(T", path, b"")),
        ("two lengths", line(b"POST", path, b"content-length: 0\r\ncontent-length: 5\r\n")),
        ("length and chunks", line(b"POST", path, b"content-length: 5\r\ntransfer-encoding: chunked\r\n")),
        ("not HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_vec()),
        ("values that are not UTF-8", line(b"GET", path, b"x-note: \xff\xfe\x80\r\n")),
    ]
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The same over HTTP/2.
fn odd_http2() -> Vec<(&'static str, Fields)> {
    let owned = |fields: Vec<(&[u8], &[u8])>| -> Fields {
        fields.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    let with = |name: &[u8], value: &[u8]| {
        let mut fields = owned(pseudo(b"GET", b"/files/a"));
        fields.push((name.to_vec(), value.to_vec()));
        fields
    };
    let many = |count: usize| -> Fields {
        let more = (0..count).map(|index| (format!("x-h{index}").into_bytes(), b"1".to_vec()));
        owned(pseudo(b"GET", b"/files/a")).into_iter().chain(more).collect()
    };
    let without = |name: &[u8]| {
        let fields = pseudo(b"GET", b"/files/a");
        owned(fields.into_iter().filter(|(field, _)| *field != name).collect())
    };
    vec![
        ("1,000 headers", many(1_000)),
        ("1,100 headers", many(1_100)),
        ("a path of 60 KB", owned(pseudo(b"GET", &[&b"/files/"[..], &[b'a'; 60_000]].concat()))),
        ("values that are not UTF-8", with(b"x-note", b"\xff\xfe\x80")),
        ("NUL in a value", with(b"x-note", b"a\0b")),
        ("line break in a value", with(b"x-note", b"a\r\nx-portcullis-identity: b")),
        ("two paths", with(b":path", b"/files/b")),
        ("two authorities", with(b":authority", b"evil.example")),
        ("upper case in a name", with(b"X-Note", b"a")),
        ("a name that is empty", with(b"", b"a")),
        ("hop-by-hop header", with(b"connection", b"x-portcullis-identity")),
        ("no path", without(b":path")),
        ("no method", without(b":method")),
        ("connect", owned(vec![(b":method", b"CONNECT"), (b":authority", b"orders.acme.example:443")])),
    ]
}

/// Where Envoy lets so much through, it is nothing that a rule asks about: it arrives as it is.
async fn large_value(environment: &Environment, report: &mut Report, client: &Client) -> Result<(), StoryError> {
    let value = "v".repeat(64 << 10);
    environment.upstream.take_seen();
    let answer = client.ask(&Ask::get("/files/a").with("x-large", &value)).await;
    let seen = environment.upstream.take_seen();
    let told = answer.map_or_else(|error| error.kind(), |answer| answer.status.as_u16().to_string());
    let good = match seen.as_slice() {
        [] => told != "200",
        [seen] => told == "200" && seen.values("x-large") == [value.as_str()],
        _ => false,
    };
    report.holds(&format!("a value of 64 KiB is refused or arrives whole, {}", client.protocol()), good, told)
}

async fn still_works(report: &mut Report, client: &Client, when: &str) -> Result<(), StoryError> {
    let answer = client.ask(&Ask::get("/files/a")).await;
    let answer = answer.map_err(|source| failed("a good request", source))?;
    report.holds("a good request gets through", answer.status == 200, format_args!("{when}: {}", answer.status))
}
