//! The policies that the table's rows are decided by.

use portcullis_policy::UnixTime;
use serde_json::Value;
use serde_json::json;

use super::Table;
use super::peers::REVOKED_SERIAL;

/// A policy of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// The usual one; it says nothing about how the proxy normalises, so everything ambiguous is refused.
    Orders,
    /// The same with `normalize_path` and `merge_slashes`, for a proxy that does both.
    Normalizing,
    /// The same with revoked certificates and a brake on those issued long ago.
    Emergency,
    /// The same with a revocation list that is too old.
    Stale,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Orders, Self::Normalizing, Self::Emergency, Self::Stale];

    /// The policy's document: JSON, which is also YAML.
    pub fn document(self, table: &Table) -> String {
        let mut policy = orders();
        let UnixTime(now) = table.now;
        match self {
            Self::Orders => {}
            Self::Normalizing => {
                policy["normalize_path"] = json!(true);
                policy["merge_slashes"] = json!(true);
            }
            Self::Emergency => {
                let leaf = &table.peers["cart"].leaf;
                policy["revoked"] = json!({
                    "serials": [REVOKED_SERIAL.map(|byte| format!("{byte:02x}")).concat()],
                    "sha256": [leaf.sha256_hex()],
                });
                policy["distrust"] = json!([{ "issued_before": instant(now - 7 * 86_400) }]);
            }
            Self::Stale => policy["revoked"] = json!({ "fresh_until": instant(now - 60) }),
        }
        policy.to_string()
    }
}

fn instant(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).expect("the instant is near now").to_string()
}

fn orders() -> Value {
    json!({
        "version": 1,
        "trust_domain": "acme.example",
        "roles": {
            "checkout": [{ "spiffe": "spiffe://acme.example/ns/pay/sa/checkout" }],
            "reader": [
                { "spiffe": "spiffe://acme.example/ns/{ns}/sa/*" },
                { "dns": "*.reader.acme.example" },
            ],
            "payments": [{ "subject": { "ou": "payments" }, "issuer": { "cn": "Portcullis clients" } }],
            "mailer": [{ "email": "ops@acme.example" }],
            "legacy": [{ "uri": "urn:acme:legacy" }],
            "machine": [{ "ip": "10.1.0.0/16" }],
            "both": [{ "dns": "both.acme.example", "eku": ["client_auth", "server_auth"] }],
            "named": [
                { "role": "reader" }, { "role": "payments" }, { "role": "mailer" }, { "role": "legacy" },
                { "role": "machine" }, { "role": "both" },
            ],
            "operator": [{ "role": "checkout" }],
        },
        "rules": [
            { "id": "read-orders", "allow": ["checkout", "reader"], "methods": ["GET", "HEAD"], "paths": ["/orders/{id}", "/orders/{id}/items/**"] },
            { "id": "write-orders", "allow": ["checkout"], "methods": ["POST"], "paths": ["/orders"] },
            { "id": "own-tenant", "allow": ["reader"], "paths": ["/tenants/{ns}/**"] },
            { "id": "named-only", "allow": ["named"], "methods": ["GET"], "paths": ["/named"] },
            { "id": "by-kind", "allow": ["payments", "mailer", "legacy", "machine", "both"], "methods": ["GET"], "paths": ["/kind"] },
            { "id": "admin", "allow": ["operator"], "hosts": ["admin.acme.example", "*.admin.acme.example"], "paths": ["/console/**"] },
            { "id": "anywhere", "allow": ["operator"], "hosts": ["**.any.acme.example"], "paths": ["/anywhere"] },
            { "id": "literal", "allow": ["checkout"], "paths": ["/v1.0/status+(all)", "/a%20b/c"] },
            { "id": "health", "allow": "any", "methods": ["GET", "OPTIONS"], "paths": ["/healthz"] },
            { "id": "everything", "allow": ["operator"], "methods": ["GET"], "paths": ["/files/**"] },
            { "id": "no-debug", "deny": "any", "paths": ["/debug/**"] },
            {
                "id": "conditions", "allow": ["checkout"], "paths": ["/conditions"],
                "headers": { "x-env": ["prod", "stage"] }, "sources": ["10.0.0.0/8", "127.0.0.0/8"],
                "tls": { "min_version": "1.2" }, "times": [{ "from": "2020-01-01T00:00:00Z" }],
            },
            { "id": "no-tests", "deny": ["checkout"], "paths": ["/conditions"], "headers": { "x-mode": "test" } },
            { "id": "from-elsewhere", "allow": ["checkout"], "paths": ["/from-elsewhere"], "sources": ["192.0.2.0/24"] },
            { "id": "not-from-elsewhere", "allow": ["checkout"], "paths": ["/not-from-elsewhere"], "not": { "sources": ["192.0.2.0/24"] } },
            { "id": "long-ago", "allow": ["checkout"], "paths": ["/long-ago"], "times": [{ "until": "2020-01-01T00:00:00Z" }] },
            { "id": "not-in-test", "allow": ["checkout"], "paths": ["/not-in-test"], "not": { "headers": { "x-mode": "test" } } },
            { "id": "tried", "deny": ["checkout"], "paths": ["/conditions", "/not-in-test"], "shadow": true },
            { "id": "no-secrets", "deny": ["operator"], "paths": ["/files/secret/**"] },
        ],
        "tests": [
            { "name": "checkout reads", "peer": { "spiffe": "spiffe://acme.example/ns/pay/sa/checkout" }, "request": "GET /orders/42", "expect": { "allow": "read-orders" } },
        ],
    })
}
