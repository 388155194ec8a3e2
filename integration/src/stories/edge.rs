//! A proxy in front of the gate: an Envoy that does nothing but forward, under its own client certificate.

use std::net::SocketAddr;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use serde_json::json;

use super::gate::Gate;
use crate::certificates::Leaf;
use crate::environment;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::client::HOST_NAME;
use crate::report::StoryError;

/// What the edge is called, by its server certificate and by its client certificate.
pub(super) const EDGE: &str = "spiffe://acme.example/edge";

/// How the edge is set up.
pub(super) struct Edge {
    pub(super) forwarding: &'static str,
    pub(super) details: Value,
    /// Its name towards the gate.
    pub(super) name: &'static str,
}

/// An edge that runs, and where.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    /// Its certificate towards the gate.
    pub(super) leaf: Leaf,
    _envoy: Envoy,
}

impl Edge {
    pub(super) fn new(forwarding: &'static str, format: &'static str) -> Self {
        let details = json!({ "cert": true, "uri": true, "dns": true, "subject": true, "format": format });
        Self { forwarding, details, name: EDGE }
    }

    /// Starts it in front of a gate, whose own CA it shares.
    pub(super) async fn start(&self, gate: &Gate) -> Result<Running, StoryError> {
        let [address, admin] = [environment::free_port()?, environment::free_port()?];
        let leaf = gate.own.leaf().uri(self.name).issue();
        let config = self.config(gate, &leaf, address, admin)?;
        Ok(Running { address, leaf, _envoy: gate.start_envoy("edge", &config, admin).await? })
    }

    fn config(
        &self,
        gate: &Gate,
        leaf: &Leaf,
        address: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Value, EnvironmentError> {
        let both = [ExtendedKeyUsagePurpose::ServerAuth];
        let pair = |name: &str, leaf: &Leaf| {
            let (chain, key) = (gate.path(&format!("{name}.crt")), gate.path(&format!("{name}.key")));
            environment::write(&chain, &leaf.pem())?;
            environment::write(&key, leaf.key_pem())?;
            let pair = json!({ "certificate_chain": { "filename": chain }, "private_key": { "filename": key } });
            Ok::<_, EnvironmentError>(pair)
        };
        let server = pair("edge-server", &gate.own.leaf().dns(HOST_NAME).uri(EDGE).usages(&both).issue())?;
        let client = pair("edge-client", leaf)?;
        let trusted = json!({ "trusted_ca": { "filename": gate.path("upstreams/ca.crt") } });
        let socket = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
        let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        let filters = "type.googleapis.com/envoy.extensions.filters";
        Ok(json!({
            "admin": { "address": socket(admin) },
            "static_resources": {
                "listeners": [{
                    "name": "edge",
                    "address": socket(address),
                    "filter_chains": [{
                        "transport_socket": {
                            "name": "envoy.transport_sockets.tls",
                            "typed_config": {
                                "@type": format!("{tls}.DownstreamTlsContext"),
                                "require_client_certificate": false,
                                "common_tls_context": { "tls_certificates": [server], "validation_context": trusted },
                            },
                        },
                        "filters": [{
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": {
                                "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
                                "stat_prefix": "edge",
                                "forward_client_cert_details": self.forwarding,
                                "set_current_client_cert_details": self.details,
                                "http_filters": [{
                                    "name": "envoy.filters.http.router",
                                    "typed_config": { "@type": format!("{filters}.http.router.v3.Router") },
                                }],
                                "route_config": { "virtual_hosts": [{
                                    "name": "gate",
                                    "domains": ["*"],
                                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "gate" } }],
                                }] },
                            },
                        }],
                    }],
                }],
                "clusters": [{
                    "name": "gate",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "gate",
                        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(gate.address) } }] }],
                    },
                    "transport_socket": {
                        "name": "envoy.transport_sockets.tls",
                        "typed_config": {
                            "@type": format!("{tls}.UpstreamTlsContext"),
                            "sni": HOST_NAME,
                            "common_tls_context": { "tls_certificates": [client], "validation_context": trusted },
                        },
                    },
                }],
            },
        }))
    }
}
