//! The Envoy that everything is measured in: an mTLS listener, one filter, and an answer of its own, so that no
//! service behind it adds noise.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

/// A whole bootstrap. `directory` holds `tls.crt`, `tls.key` and `ca.crt`; refusals are recorded in `access_log`.
pub(super) fn bootstrap(
    directory: &Path,
    listener: SocketAddr,
    admin: SocketAddr,
    filter: Option<Value>,
    access_log: Option<&Path>,
) -> Value {
    let file = |name: &str| json!({ "filename": directory.join(name) });
    let socket = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    let router = json!({
        "name": "router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" }
    });
    let filters: Vec<Value> = filter.into_iter().chain([router]).collect();
    json!({
        "admin": { "address": socket(admin) },
        "static_resources": { "listeners": [{
            "name": "bench",
            "address": socket(listener),
            "filter_chains": [{
                "transport_socket": {
                    "name": "tls",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        "require_client_certificate": true,
                        "common_tls_context": {
                            "alpn_protocols": ["http/1.1"],
                            "tls_certificates": [{ "certificate_chain": file("tls.crt"), "private_key": file("tls.key") }],
                            "validation_context": { "trusted_ca": file("ca.crt") }
                        }
                    }
                },
                "filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "bench",
                        "access_log": access_log.map_or_else(|| json!([]), refusals),
                        "http_filters": filters,
                        "route_config": { "virtual_hosts": [{
                            "name": "all",
                            "domains": ["*"],
                            "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]
                        }] }
                    }
                }]
            }]
        }] }
    })
}

/// Envoy's own record of a refusal, which says of the request and of who sent it what a decision record says.
fn refusals(file: &Path) -> Value {
    json!([{
        "name": "file",
        "filter": { "status_code_filter": {
            "comparison": { "op": "GE", "value": { "default_value": 400, "runtime_key": "unused" } }
        } },
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": file,
            "log_format": { "json_format": {
                "time": "%START_TIME%",
                "status": "%RESPONSE_CODE%",
                "reason": "%RESPONSE_CODE_DETAILS%",
                "identity": "%DOWNSTREAM_PEER_URI_SAN%",
                "method": "%REQ(:METHOD)%",
                "authority": "%REQ(:AUTHORITY)%",
                "path": "%REQ(:PATH)%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "connection": "%CONNECTION_ID%",
                "certificate": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
                "peer": {
                    "subject": "%DOWNSTREAM_PEER_SUBJECT%",
                    "issuer": "%DOWNSTREAM_PEER_ISSUER%",
                    "serial": "%DOWNSTREAM_PEER_SERIAL%",
                    "not_before": "%DOWNSTREAM_PEER_CERT_V_START%",
                    "not_after": "%DOWNSTREAM_PEER_CERT_V_END%"
                }
            } }
        }
    }])
}
