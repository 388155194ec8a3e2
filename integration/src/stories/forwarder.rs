//! `forwarder`: two Envoys in a row. What the first one says of its clients is believed if it is trusted and if the
//! certificates that it forwards prove it; names that try to forge its word are refused.

use std::net::SocketAddr;
use std::path::Path;

use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use serde_json::json;

use super::CHECKOUT;
use super::REPORTING;
use super::four_ways::certificates;
use crate::certificates::Authority;
use crate::certificates::Leaf;
use crate::environment;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::EnvironmentError;
use crate::environment::Envoy;
use crate::environment::EnvoyCommand;
use crate::environment::Programs;
use crate::environment::Protocol::Http1;
use crate::environment::Upstream;
use crate::environment::client::HOST_NAME;
use crate::environment::raw;
use crate::environment::standalone;
use crate::report::Report;
use crate::report::StoryError;

/// What the edge is called, by its server certificate and by its client certificate.
const EDGE: &str = "spiffe://acme.example/edge";
/// A proxy that nobody trusts to forward.
const OTHER_EDGE: &str = "spiffe://acme.example/other-edge";

/// How the edge is set up.
struct Edge {
    forwarding: &'static str,
    details: Value,
    /// Its name towards the gate.
    name: &'static str,
}

impl Edge {
    fn new(forwarding: &'static str, format: &'static str) -> Self {
        let details = json!({ "cert": true, "uri": true, "dns": true, "subject": true, "format": format });
        Self { forwarding, details, name: EDGE }
    }
}

/// Somebody at the edge, what they send along, and what becomes of it: the identity that the service sees, or the code.
type Case<'a> = (&'a str, Option<&'a Leaf>, Option<String>, Result<&'a str, &'a str>);

struct Stage {
    programs: Programs,
    directory: tempfile::TempDir,
    own: Authority,
    gate: SocketAddr,
    upstream: Upstream,
}

pub(super) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    let directory = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let own = Authority::new("the gate's own");
    certificates(directory.path(), &own, &own.pem())?;
    let [gate, service] = [environment::free_port()?, environment::free_port()?];
    let upstream = Upstream::start(service, directory.path().join("upstream")).await?;
    let stage = Stage { programs: Programs::find()?, directory, own, gate, upstream };
    report.step("the gate: Envoy with the filter, which believes one forwarder");
    let _gate = stage.start_gate().await?;

    let checkout = stage.own.leaf().uri(CHECKOUT).issue();
    let reporting =
        stage.own.leaf().uri(REPORTING).dns("daily.acme.example").subject(DnType::CommonName, "a \"b\", c\\").issue();
    let sly = stage.own.leaf().uri(format!("{REPORTING},URI={CHECKOUT}")).issue();
    let whole = format!(
        "{REPORTING},By={EDGE};Hash={};Cert=\"{}\";URI={CHECKOUT}",
        checkout.sha256_hex(),
        url_encoded(&checkout)
    );
    let forger = stage.own.leaf().uri(&whole).issue();
    let dns_forger = stage.own.leaf().uri(REPORTING).dns(&whole).issue();
    let claim =
        || Some(format!("By={EDGE};Hash={};Cert=\"{}\";URI={CHECKOUT}", checkout.sha256_hex(), url_encoded(&checkout)));
    let harmless = || Some(format!("URI={CHECKOUT}"));
    let json_claim = || Some(json!([{ "uri": [CHECKOUT] }]).to_string());

    report.step("an edge that replaces what clients send (`SANITIZE_SET`)");
    let sanitizing: Vec<Case<'_>> = vec![
        ("checkout is known behind the edge", Some(&checkout), None, Ok(CHECKOUT)),
        ("so is reporting, with every kind of name", Some(&reporting), None, Ok(REPORTING)),
        ("who claims to be checkout is not", Some(&reporting), claim(), Ok(REPORTING)),
        ("who claims it in JSON is not", Some(&reporting), json_claim(), Ok(REPORTING)),
        ("nobody behind the edge is nobody", None, None, Err("no_certificate")),
        ("a name that begins another element", Some(&sly), None, Err("forwarded_certificate_missing")),
        ("a name that is a whole element", Some(&forger), None, Err("forwarded_names_mismatch")),
        ("a DNS name that is one", Some(&dns_forger), None, Err("forwarded_names_mismatch")),
    ];
    stage.tell(report, &Edge::new("SANITIZE_SET", "TEXT"), &sanitizing).await?;

    report.step("an edge that appends to what clients send (`APPEND_FORWARD`)");
    let appending: Vec<Case<'_>> = vec![
        ("checkout is known", Some(&checkout), None, Ok(CHECKOUT)),
        ("what a client sent stands left and is not believed", Some(&reporting), harmless(), Ok(REPORTING)),
        ("nor in JSON", Some(&reporting), json_claim(), Ok(REPORTING)),
        ("a client that plays the edge is refused", Some(&reporting), claim(), Err("forwarded_by_mismatch")),
        ("a quote that is left open", Some(&reporting), Some("URI=\"".to_owned()), Err("forwarded_unparsable")),
        ("a chain that is left open", Some(&forger), Some("Chain=\"".to_owned()), Err("forwarded_unparsable")),
        ("a name that begins another element", Some(&sly), harmless(), Err("forwarded_certificate_missing")),
        ("a name that is a whole element", Some(&forger), harmless(), Err("forwarded_names_mismatch")),
    ];
    stage.tell(report, &Edge::new("APPEND_FORWARD", "TEXT"), &appending).await?;

    report.step("an edge that writes JSON, where no name forges anything");
    let json: Vec<Case<'_>> = vec![
        ("checkout is known", Some(&checkout), None, Ok(CHECKOUT)),
        ("reporting is known", Some(&reporting), None, Ok(REPORTING)),
        ("a name with a comma is one name, and nobody's", Some(&sly), None, Err("no_rule_matched")),
        ("a name that is a whole element is too", Some(&forger), None, Err("no_rule_matched")),
    ];
    stage.tell(report, &Edge::new("SANITIZE_SET", "JSON"), &json).await?;

    report.step("an edge that forwards no certificate");
    let bare = Edge { details: json!({ "uri": true }), ..Edge::new("SANITIZE_SET", "TEXT") };
    let unproven: Vec<Case<'_>> = vec![
        ("a name alone proves nothing", Some(&checkout), None, Err("forwarded_certificate_missing")),
        ("nor does one that brings a certificate", Some(&forger), None, Err("forwarded_by_mismatch")),
    ];
    stage.tell(report, &bare, &unproven).await?;

    report.step("the same edge under a name that nobody trusts to forward");
    let stranger = Edge { name: OTHER_EDGE, ..Edge::new("SANITIZE_SET", "TEXT") };
    let untrusted: Vec<Case<'_>> = vec![
        ("checkout is refused behind it", Some(&checkout), None, Err("forwarder_untrusted")),
        ("and it speaks for itself only", None, None, Err("no_rule_matched")),
    ];
    stage.tell(report, &stranger, &untrusted).await
}

impl Stage {
    /// The shipped Envoy, which hands over what proxies in front of it wrote.
    async fn start_gate(&self) -> Result<Envoy, StoryError> {
        let root = self.directory.path();
        let admin = environment::free_port()?;
        let mut text = environment::shipped("envoy.yaml")?;
        for (place, ours) in [(10443, self.gate), (10444, self.upstream.address()), (9901, admin)] {
            text = text.replace(&format!("port_value: {place}"), &format!("port_value: {}", ours.port()));
        }
        let details = "forward_client_cert_details: SANITIZE";
        text = text.replace(details, "forward_client_cert_details: FORWARD_ONLY");
        let policy = json!({
            "version": 1,
            "trust_domain": "acme.example",
            "forwarders": [{ "spiffe": EDGE }],
            "roles": { "checkout": [{ "spiffe": CHECKOUT }], "reporting": [{ "spiffe": REPORTING }] },
            "rules": [{ "id": "read", "allow": ["checkout", "reporting"], "methods": ["GET"], "paths": ["/orders/**"] }],
        });
        let filter = standalone::filter(&policy.to_string())?;
        let config = root.join("gate.json");
        environment::write(&config, &standalone::without_agent(&text, root, filter)?.to_string())?;
        self.start(config.as_path(), admin, "gate.log").await
    }

    async fn start(&self, config: &Path, admin: SocketAddr, log: &str) -> Result<Envoy, StoryError> {
        let mut envoy = Envoy::start(&EnvoyCommand {
            program: self.programs.envoy.clone(),
            config: config.to_owned(),
            admin,
            log: self.directory.path().join(log),
            concurrency: 1,
            core: None,
        })?;
        envoy.ready().await?;
        Ok(envoy)
    }

    /// Starts an edge and asks every case through it.
    async fn tell(&self, report: &mut Report, edge: &Edge, cases: &[Case<'_>]) -> Result<(), StoryError> {
        let [port, admin] = [environment::free_port()?, environment::free_port()?];
        let config = self.directory.path().join("edge.json");
        environment::write(&config, &self.edge(edge, port, admin)?.to_string())?;
        let _edge = self.start(&config, admin, "edge.log").await?;
        for (claim, who, header, expected) in cases {
            let credentials = who.map(|leaf| Credentials {
                chain_pem: leaf.pem(),
                key_pem: leaf.key_pem().to_owned(),
                ca_pem: self.own.pem(),
            });
            let client = Client::new(port, &self.own.pem(), credentials.as_ref(), Http1)?;
            let mut text = format!("GET /orders/1 HTTP/1.1\r\nhost: {HOST_NAME}\r\n");
            if let Some(header) = header {
                text.push_str(&format!("x-forwarded-client-cert: {header}\r\n"));
            }
            text.push_str("\r\n");
            self.upstream.take_seen();
            let outcome = raw::http1(&client, text.as_bytes()).await;
            let outcome =
                outcome.map_err(|source| StoryError::Request { doing: format!("no outcome: {claim}"), source })?;
            let seen = self.upstream.take_seen();
            let good = match expected {
                Ok(identity) => {
                    let one = if let [seen] = seen.as_slice() { Some(seen) } else { None };
                    outcome.is_success()
                        && one.is_some_and(|seen| {
                            seen.values("x-portcullis-identity") == [*identity]
                                && seen.values("x-forwarded-client-cert").is_empty()
                        })
                }
                Err(code) => outcome.code() == *code && seen.is_empty(),
            };
            let told = seen.first().map(|seen| seen.values("x-portcullis-identity").join(", ")).unwrap_or_default();
            report.holds(claim, good, format_args!("{outcome}{}{told}", if told.is_empty() { "" } else { ", as " }))?;
        }
        Ok(())
    }

    /// An Envoy that does nothing but forward to the gate, under its own client certificate.
    fn edge(&self, edge: &Edge, port: SocketAddr, admin: SocketAddr) -> Result<Value, StoryError> {
        let root = self.directory.path();
        let both = [ExtendedKeyUsagePurpose::ServerAuth];
        let pair = |name: &str, leaf: &Leaf| {
            let (chain, key) = (root.join(format!("{name}.crt")), root.join(format!("{name}.key")));
            environment::write(&chain, &leaf.pem())?;
            environment::write(&key, leaf.key_pem())?;
            let pair = json!({ "certificate_chain": { "filename": chain }, "private_key": { "filename": key } });
            Ok::<_, EnvironmentError>(pair)
        };
        let server = pair("edge-server", &self.own.leaf().dns(HOST_NAME).uri(EDGE).usages(&both).issue())?;
        let client = pair("edge-client", &self.own.leaf().uri(edge.name).issue())?;
        let trusted = json!({ "trusted_ca": { "filename": root.join("upstreams/ca.crt") } });
        let address = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
        let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        let filters = "type.googleapis.com/envoy.extensions.filters";
        Ok(json!({
            "admin": { "address": address(admin) },
            "static_resources": {
                "listeners": [{
                    "name": "edge",
                    "address": address(port),
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
                                "forward_client_cert_details": edge.forwarding,
                                "set_current_client_cert_details": edge.details,
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
                        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(self.gate) } }] }],
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

/// PEM as Envoy writes it into the header.
fn url_encoded(leaf: &Leaf) -> String {
    let escapes = [('\n', "%0A"), (' ', "%20"), ('+', "%2B"), ('/', "%2F"), ('=', "%3D")];
    escapes.iter().fold(leaf.pem(), |text, (character, escape)| text.replace(*character, escape))
}
