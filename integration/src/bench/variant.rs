//! What is measured side by side: one HTTP filter each, in an Envoy that is otherwise the same.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use super::BenchError;
use super::drive::Requests;
use super::numbers::thousands;
use super::tokens::Issuers;
use super::tokens::Kind;
use super::tokens::Sent;
use super::tokens::Signed;
use crate::environment::client::HOST_NAME;
use crate::environment::programs;
use crate::environment::standalone;

/// Identity of the client that sends the load.
pub(super) const CLIENT: &str = "spiffe://acme.example/ns/bench/sa/client";

/// One of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// No filter at all.
    Nothing,
    /// A Wasm filter that does nothing: what every Wasm filter costs.
    Empty,
    /// A Lua script that compares the client's URI SAN and the path.
    Lua,
    /// Envoy's own RBAC filter with so many policies.
    Rbac(usize),
    /// Portcullis with so many rules.
    Ours(usize),
    /// Envoy's own filter for bearer tokens.
    JwtAuthn(Kind),
    /// The same, and Envoy records who was refused, as Portcullis does.
    RecordedJwtAuthn(Kind),
    /// Portcullis with one rule that wants a scope.
    Token(Kind),
}

const CACHED: Kind = Kind::new(Signed::Es256, Sent::Cached);
const FIRST: Kind = Kind::new(Signed::Es256, Sent::First);
const FIRST_RSA: Kind = Kind::new(Signed::Rs256, Sent::First);
const FORGED: Kind = Kind::new(Signed::Es256, Sent::Forged);
const FORGED_RSA: Kind = Kind::new(Signed::Rs256, Sent::Forged);

/// All of them, in the order of the table.
pub(super) const ALL: &[Variant] = &[
    Variant::Nothing,
    Variant::Empty,
    Variant::Lua,
    Variant::Rbac(1),
    Variant::Rbac(100),
    Variant::Rbac(1_000),
    Variant::Rbac(5_000),
    Variant::Ours(1),
    Variant::Ours(100),
    Variant::Ours(1_000),
    Variant::Ours(5_000),
    Variant::Ours(100_000),
    Variant::JwtAuthn(CACHED),
    Variant::Token(CACHED),
    Variant::JwtAuthn(FIRST),
    Variant::Token(FIRST),
    Variant::JwtAuthn(FIRST_RSA),
    Variant::Token(FIRST_RSA),
    Variant::JwtAuthn(FORGED),
    Variant::RecordedJwtAuthn(FORGED),
    Variant::Token(FORGED),
    Variant::JwtAuthn(FORGED_RSA),
    Variant::RecordedJwtAuthn(FORGED_RSA),
    Variant::Token(FORGED_RSA),
];

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("no filter"),
            Self::Empty => f.write_str("empty Wasm filter"),
            Self::Lua => f.write_str("Lua, one rule"),
            Self::Rbac(1) => f.write_str("native RBAC, 1 policy"),
            Self::Rbac(count) => write!(f, "native RBAC, {} policies", thousands(*count)),
            Self::Ours(1) => f.write_str("Portcullis, 1 rule"),
            Self::Ours(count) => write!(f, "Portcullis, {} rules", thousands(*count)),
            Self::JwtAuthn(kind) => write!(f, "native jwt_authn, {kind}"),
            Self::RecordedJwtAuthn(kind) => write!(f, "native jwt_authn and access log, {kind}"),
            Self::Token(kind) => write!(f, "Portcullis, {kind}"),
        }
    }
}

impl Variant {
    /// A short name for the command line: `rbac-1000`.
    pub(super) fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Empty => "empty".to_owned(),
            Self::Lua => "lua".to_owned(),
            Self::Rbac(count) => format!("rbac-{count}"),
            Self::Ours(count) => format!("ours-{count}"),
            Self::JwtAuthn(kind) => format!("jwt-{}", kind.name()),
            Self::RecordedJwtAuthn(kind) => format!("jwt-recorded-{}", kind.name()),
            Self::Token(kind) => format!("token-{}", kind.name()),
        }
    }

    /// Whether `name` is its name, or its kind: `rbac` for all of `rbac-…`; or `tokens` for all that tokens are measured
    /// against.
    pub(super) fn is_called(self, name: &str) -> bool {
        let own = self.name();
        let of_tokens = matches!(
            self,
            Self::Nothing | Self::Ours(1) | Self::JwtAuthn(_) | Self::RecordedJwtAuthn(_) | Self::Token(_)
        );
        own == name || name == "tokens" && of_tokens || own.split_once('-').is_some_and(|(kind, _)| kind == name)
    }

    /// The requests of one measurement.
    pub(super) fn requests(self, issuers: &mut Issuers, count: u64) -> Requests {
        let path = self.path();
        match self {
            Self::JwtAuthn(kind) | Self::RecordedJwtAuthn(kind) | Self::Token(kind) => {
                issuers.requests(kind, &path, count)
            }
            _ => Requests::Same(format!("GET {path} HTTP/1.1\r\nhost: {HOST_NAME}\r\n\r\n").into_bytes().into(), count),
        }
    }

    /// The status of each answer.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::JwtAuthn(kind) | Self::RecordedJwtAuthn(kind) | Self::Token(kind) => kind.status(),
            _ => 200,
        }
    }

    /// The path that the load asks for. The rule that lets it in is the last one of the list.
    pub(super) fn path(self) -> String {
        format!("/service-{}/orders/42", self.rules().saturating_sub(1))
    }

    fn rules(self) -> usize {
        match self {
            Self::Rbac(count) | Self::Ours(count) => count,
            _ => 1,
        }
    }

    /// Whether its Envoy keeps an access log of refusals.
    pub(super) fn is_recorded(self) -> bool {
        matches!(self, Self::RecordedJwtAuthn(_))
    }

    /// The HTTP filter of its Envoy, as Envoy reads it; none for no filter.
    ///
    /// # Errors
    ///
    /// [`BenchError`], if a module or the shipped configuration is missing.
    pub(super) fn filter(self, issuers: &Issuers) -> Result<Option<Value>, BenchError> {
        Ok(match self {
            Self::Nothing => None,
            Self::Empty => Some(wasm(&programs::empty_filter()?)),
            Self::Lua => Some(lua()),
            Self::Rbac(count) => Some(rbac(count)),
            Self::Ours(count) => Some(standalone::filter(&policy(count))?),
            Self::JwtAuthn(_) | Self::RecordedJwtAuthn(_) => Some(issuers.jwt_authn()),
            Self::Token(_) => Some(standalone::filter(&issuers.policy())?),
        })
    }
}

/// Whose certificate rule number `index` of `count` wants: the client's own for the last.
fn principal(index: usize, count: usize) -> String {
    if index + 1 == count { CLIENT.to_owned() } else { format!("{CLIENT}-{index}") }
}

/// `count` roles and `count` rules; the last one lets the load in.
pub(super) fn policy(count: usize) -> String {
    let mut roles = String::new();
    let mut rules = String::new();
    for index in 0..count {
        let comma = if index == 0 { "" } else { "," };
        let spiffe = principal(index, count);
        let _ = write!(roles, r#"{comma}"role-{index}":[{{"spiffe":"{spiffe}"}}]"#);
        let _ = write!(
            rules,
            r#"{comma}{{"id":"rule-{index}","allow":["role-{index}"],"methods":["GET"],"paths":["/service-{index}/orders/{{id}}"]}}"#
        );
    }
    format!(r#"{{"version":1,"trust_domain":"acme.example","roles":{{{roles}}},"rules":[{rules}]}}"#)
}

fn wasm(module: &PathBuf) -> Value {
    json!({
        "name": "empty",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "empty",
                "vm_config": { "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } }
            }
        }
    })
}

fn lua() -> Value {
    let code = format!(
        r#"function envoy_on_request(handle)
  local tls = handle:streamInfo():downstreamSslConnection()
  local path = handle:headers():get(":path")
  local method = handle:headers():get(":method")
  if tls:uriSanPeerCertificate()[1] ~= "{CLIENT}" or method ~= "GET" or path:sub(1, 18) ~= "/service-0/orders/" then
    handle:respond({{ [":status"] = "403" }}, "")
  end
end"#
    );
    json!({
        "name": "lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": { "inline_string": code }
        }
    })
}

fn rbac(count: usize) -> Value {
    let policies: serde_json::Map<String, Value> = (0..count)
        .map(|index| {
            let prefix = format!("/service-{index}/orders/");
            let policy = json!({
                "permissions": [{ "and_rules": { "rules": [
                    { "header": { "name": ":method", "string_match": { "exact": "GET" } } },
                    { "url_path": { "path": { "prefix": prefix } } }
                ] } }],
                "principals": [{ "authenticated": { "principal_name": { "exact": principal(index, count) } } }]
            });
            // Envoy sorts by name: the last in the list stays the last.
            (format!("policy-{index:06}"), policy)
        })
        .collect();
    json!({
        "name": "rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": { "action": "ALLOW", "policies": policies }
        }
    })
}
