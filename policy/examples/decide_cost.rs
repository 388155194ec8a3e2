//! What a decision costs, with few rules and with many: `cargo run --release -p portcullis-policy --example decide_cost`.
//!
//! Prints a table and asserts nothing. Requests, paths and identities vary from one decision to the next, so caches see
//! what a proxy would show them.

#![expect(clippy::print_stdout, reason = "a table on standard output is all that this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::expect_used, reason = "the policies are made here and are right")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use portcullis_policy::Forwarded;
use portcullis_policy::Head;
use portcullis_policy::Leaf;
use portcullis_policy::Peer;
use portcullis_policy::Policy;
use portcullis_policy::Protocol;
use portcullis_policy::Request;
use portcullis_policy::Subject;
use portcullis_policy::Tls;
use portcullis_policy::UnixTime;
use portcullis_policy::token::Bearer;

/// Requests that are decided in turn.
const REQUESTS: usize = 4096;

/// What the rules of a policy differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Path,
    Role,
    Host,
}

fn main() {
    println!("{:<28} {:>8} {:>10} {:>10} {:>12} {:>12}", "rules", "number", "document", "compile", "allow", "deny");
    println!("{:<28} {:>8} {:>10} {:>10} {:>12} {:>12}", "", "", "KiB", "ms", "ns/decision", "ns/decision");
    for (name, shape) in [
        ("each its own path", Shape::Path),
        ("one path, each its own role", Shape::Role),
        ("one path, each its own host", Shape::Host),
    ] {
        for count in [10, 1_000, 100_000] {
            row(name, count, shape);
        }
    }
}

impl Shape {
    fn rule(self, number: usize) -> String {
        let (role, condition) = match self {
            Self::Path => ("web".to_owned(), format!(r#""paths":["/s{number}/orders/{{id}}"]"#)),
            Self::Role => (format!("role{number}"), r#""paths":["/s/orders/{id}"]"#.to_owned()),
            Self::Host => ("web".to_owned(), format!(r#""hosts":["h{number}.acme.example"],"paths":["/**"]"#)),
        };
        format!(r#"{{"id":"r{number}","allow":["{role}"],"methods":["GET"],{condition}}}"#)
    }
}

fn row(name: &str, count: usize, shape: Shape) {
    let own_roles = shape == Shape::Role;
    let mut text = r#"{"version":1,"roles":{"web":[{"spiffe":"spiffe://acme.example/web"}]"#.to_owned();
    for number in 0..if own_roles { count } else { 0 } {
        write!(text, r#","role{number}":[{{"spiffe":"spiffe://acme.example/{number}"}}]"#).expect("memory");
    }
    text.push_str(r#"},"rules":["#);
    for number in 0..count {
        text.push_str(if number > 0 { "," } else { "" });
        text.push_str(&shape.rule(number));
    }
    text.push_str("]}");

    let start = Instant::now();
    let policy = Policy::from_json(text.as_bytes()).expect("a policy");
    let compile = start.elapsed();

    let spread = |turn: usize| turn.wrapping_mul(7919) % count;
    let ids: Vec<String> = match own_roles {
        true => (0..256).map(|turn| format!("spiffe://acme.example/{}", spread(turn))).collect(),
        false => vec!["spiffe://acme.example/web".to_owned()],
    };
    let subjects: Vec<Subject> = ids.iter().map(|id| policy.subject(leaf(id))).collect();
    let heads: Vec<(String, String)> = (0..REQUESTS)
        .map(|turn| match own_roles {
            true => ("acme.example".to_owned(), format!("/s/orders/{turn}")),
            false => (format!("h{}.acme.example", spread(turn)), format!("/s{}/orders/{turn}", spread(turn))),
        })
        .collect();
    let cost = |method: &[u8], expected: bool| {
        let mut best = f64::INFINITY;
        for _ in 0..20 {
            let start = Instant::now();
            for (turn, (host, path)) in heads.iter().enumerate() {
                let subject = subjects.get(turn % subjects.len()).expect("a subject");
                let request = Request {
                    now: UnixTime(1_800_000_000),
                    peer: Peer::Presented { subject, validated: true },
                    forwarded: &Forwarded::Nothing,
                    token: &Bearer::Absent,
                    tls: Tls::default(),
                    source: None,
                    listener: None,
                    protocol: Protocol::Http,
                    head: Head {
                        method: Some(method),
                        authority: Some(host.as_bytes()),
                        path: Some(path.as_bytes()),
                        fields: Vec::new(),
                        duplicated: false,
                    },
                };
                let decision = black_box(policy.decide(black_box(&request)));
                assert_eq!(decision.is_allowed(), expected, "{method:?} {host} {path}");
            }
            best = best.min(start.elapsed().as_nanos() as f64 / heads.len() as f64);
        }
        best
    };
    let (allow, deny) = (cost(b"GET", true), cost(b"PUT", false));
    let (size, compile) = (text.len() / 1024, compile.as_secs_f64() * 1e3);
    println!("{name:<28} {count:>8} {size:>10} {compile:>10.1} {allow:>12.0} {deny:>12.0}");
}

fn leaf(id: &str) -> Leaf {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().expect("ASCII"))];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    Leaf::from_der(params.self_signed(&key).expect("a signature").der()).expect("a certificate")
}
