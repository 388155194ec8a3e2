//! What is measured side by side: one HTTP filter each, in an Envoy that is otherwise the same.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use super::BenchError;
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
}

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
        }
    }

    /// Whether `name` is its name, or its kind: `rbac` for all of `rbac-…`.
    pub(super) fn is_called(self, name: &str) -> bool {
        let own = self.name();
        own == name || own.split_once('-').is_some_and(|(kind, _)| kind == name)
    }

    /// The path that the load asks for. The rule that lets it in is the last one of the list.
    pub(super) fn path(self) -> String {
        format!("/service-{}/orders/42", self.rules().saturating_sub(1))
    }

    fn rules(self) -> usize {
        match self {
            Self::Nothing | Self::Empty | Self::Lua => 1,
            Self::Rbac(count) | Self::Ours(count) => count,
        }
    }

    /// The HTTP filter of its Envoy, as Envoy reads it; none for no filter.
    ///
    /// # Errors
    ///
    /// [`BenchError`], if a module or the shipped configuration is missing.
    pub(super) fn filter(self) -> Result<Option<Value>, BenchError> {
        Ok(match self {
            Self::Nothing => None,
            Self::Empty => Some(wasm(&programs::empty_filter()?)),
            Self::Lua => Some(lua()),
            Self::Rbac(count) => Some(rbac(count)),
            Self::Ours(count) => Some(standalone::filter(&policy(count))?),
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

/// A number with commas.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
