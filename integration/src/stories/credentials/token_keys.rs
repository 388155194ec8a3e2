//! What the stories of injected tokens share: an application without credentials, Envoy that gives it some, the gate that
//! verifies them, and the agent that makes them.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use serde_json::json;

use crate::environment::EnvironmentError;
use crate::environment::Settings;
use crate::environment::free_port;

/// The credential that is the signing key.
pub(super) const KEY: &str = "token-key";

/// Where the application goes out, and everything that differs from what is shipped. Tokens live so long.
pub(super) fn settings(lifetime: &str) -> Result<(SocketAddr, Settings), EnvironmentError> {
    let (gate, way_out) = (free_port()?, free_port()?);
    let credentials = format!(
        "\ncredentials:
  - name: {KEY}
    source: {{ signing_key: {{ algorithm: ES256 }} }}
    lifetime: 7d
    overlap: 1s
    files: {{ directory: token-keys, mode: \"0640\", write: [{{ name: jwks.json, as: jwks }}] }}
  - name: orders-token
    consumers: [orders]
    source:
      token:
        signed_by: {KEY}
        issuer: https://acme.example
        subject: orders
        audience: [stock]
        claims: {{ scope: \"orders:read\" }}
    lifetime: {lifetime}
    sds: {{}}

bundles:
  - {{ name: gateways, ca: built-in, spiffe: [\"spiffe://acme.example/gateway\"] }}
"
    );
    // JSON is YAML.
    let policy = json!({
        "version": 1,
        "tokens": { "agent": {
            "issuer": "https://acme.example", "audience": ["stock"], "binding": "off", "clock_skew": "0s",
            "jwks": { "file": "token-keys/jwks.json" },
        } },
        "rules": [{ "id": "read", "allow": "any", "scopes": ["orders:read"], "paths": ["/orders/{id}"] }],
    });
    let port = |address: SocketAddr| format!("port_value: {}", address.port());
    let settings = Settings {
        policy: Some(policy.to_string()),
        gate: Some(gate),
        beside: Some(("egress.yaml", vec![("port_value: 10450", port(way_out)), ("port_value: 10443", port(gate))])),
        agent_config: vec![("\nbundles:\n", credentials)],
        ..Settings::default()
    };
    debug_assert_eq!(way_out.ip(), Ipv4Addr::LOCALHOST);
    Ok((way_out, settings))
}
