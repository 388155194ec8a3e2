//! Keys of token providers on their way from a server and a file into the configuration that a proxy gets.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::StringValue;
use prost::Message as _;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::support::Agent;
use crate::support::Desk;
use crate::support::PATIENCE;

const REST: &str = "certificates: []\npolicy: policy.yaml\nfilter: { name: portcullis, wasm: filter.wasm }\n";

/// What the provider publishes; nothing is an error of its server.
type Published = Arc<Mutex<Option<String>>>;

async fn answer(State(published): State<Published>) -> (StatusCode, String) {
    match published.lock().unwrap().clone() {
        Some(text) => (StatusCode::OK, text),
        None => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}

fn set(kid: &str) -> String {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let point = pair.public_key_raw();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..]) }] })
        .to_string()
}

/// A proxy that takes every configuration of the filter.
struct Proxy<'a> {
    runtime: &'a Runtime,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl<'a> Proxy<'a> {
    fn connect(runtime: &'a Runtime, desk: &Desk) -> Self {
        let socket = desk.path("run/xds.sock");
        let (requests, receiver) = mpsc::channel(16);
        let responses = runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
            let mut client = ExtensionConfigDiscoveryServiceClient::new(endpoint.connect().await.unwrap());
            requests.send(asking("", "")).await.unwrap();
            client.stream_extension_configs(ReceiverStream::new(receiver)).await.unwrap().into_inner()
        });
        Self { runtime, requests, responses }
    }

    /// The key ids of the next configuration.
    fn kids(&mut self) -> BTreeSet<String> {
        self.runtime.block_on(async {
            let response =
                tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("in time").unwrap().unwrap();
            self.requests.send(asking(&response.version_info, &response.nonce)).await.unwrap();
            kids(&response)
        })
    }

    /// Takes configurations until one has these key ids.
    fn until(&mut self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|kid| (*kid).to_owned()).collect();
        while self.kids() != wanted {}
    }
}

fn asking(version: &str, nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: "envoy-1".to_owned(), ..Node::default() }),
        resource_names: vec!["portcullis".to_owned()],
        version_info: version.to_owned(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn kids(response: &DiscoveryResponse) -> BTreeSet<String> {
    let extension = TypedExtensionConfig::decode(response.resources[0].value.as_slice()).unwrap();
    let wasm = Wasm::decode(extension.typed_config.unwrap().value.as_slice()).unwrap();
    let configuration = wasm.config.unwrap().configuration.unwrap();
    let policy: Value =
        serde_json::from_str(&StringValue::decode(configuration.value.as_slice()).unwrap().value).unwrap();
    let providers = policy["tokens"].as_object().expect("providers").values();
    let keys = providers.flat_map(|provider| provider["jwks"]["keys"].as_array().expect("keys inline").clone());
    keys.map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

fn started(desk: &Desk) -> Agent {
    let mut agent = desk.start();
    desk.until(&mut agent, "a policy", |status| status.policy.version.is_some());
    agent
}

#[test]
fn keys_reach_the_proxy_whenever_they_change() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let published = Published::default();
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&published));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    });
    let publish = |text: Option<String>| *published.lock().unwrap() = text;
    let policy = format!(
        "version: 1\ntrust_domain: acme.example\nrules: []\ntokens:\n  \
         corp: {{ issuer: \"https://login.acme.example\", audience: [orders], jwks: {{ url: \"http://{address}/jwks\" }} }}\n  \
         shop: {{ issuer: \"https://shop.acme.example\", audience: [orders], jwks: {{ file: shop.json }} }}\n"
    );
    let desk = Desk::new(REST);
    desk.write("filter.wasm", "\0asm\u{1}\0\0\0");
    desk.write("policy.yaml", &policy);
    desk.write("shop.json", &set("shop-1"));

    // Nobody answers yet: the policy is in force, and the provider's tokens are not taken.
    let mut agent = started(&desk);
    let status = desk.until(&mut agent, "a failure", |status| status.providers.iter().any(|one| one.failures > 0));
    assert!(status.reasons.iter().any(|reason| reason.contains("`corp` has no keys")), "{:?}", status.reasons);
    let mut proxy = Proxy::connect(&runtime, &desk);
    assert_eq!(proxy.kids(), BTreeSet::from(["shop-1".to_owned()]));
    publish(Some(set("corp-1")));
    proxy.until(&["corp-1", "shop-1"]);
    let status = desk.until(&mut agent, "well", |status| status.ready);
    assert_eq!((status.providers[0].name.as_str(), status.providers[0].keys), ("corp", 1));

    // A file is followed like the policy; one without keys changes nothing.
    desk.write("shop.json", &set("shop-2"));
    proxy.until(&["corp-1", "shop-2"]);
    desk.write("shop.json", "{\"keys\":[]}");
    desk.until(&mut agent, "refused", |status| {
        status
            .policy
            .error
            .as_ref()
            .is_some_and(|error| error.contains("policy.yaml:6:") && error.contains("shop.json"))
    });
    desk.write("shop.json", &set("shop-3"));
    proxy.until(&["corp-1", "shop-3"]);
    desk.until_audit("the keys", |line| line["event"] == "keys_changed" && line["name"] == "corp");

    // A start without the server goes on with the keys that were kept.
    drop(proxy);
    assert!(agent.terminate().success());
    publish(None);
    let mut agent = started(&desk);
    let mut proxy = Proxy::connect(&runtime, &desk);
    assert_eq!(proxy.kids(), BTreeSet::from(["corp-1".to_owned(), "shop-3".to_owned()]));
    desk.until(&mut agent, "a failure", |status| status.providers.iter().any(|one| one.failures > 0 && one.keys == 1));
    drop(proxy);
    assert!(agent.terminate().success());

    // Other keys reach the last good policy, also while the file is bad.
    fs::write(desk.path("policy.yaml"), policy.replace("version: 1", "version: 1\nrulez: []")).expect("written");
    publish(Some(set("corp-2")));
    let mut agent = started(&desk);
    let mut proxy = Proxy::connect(&runtime, &desk);
    proxy.until(&["corp-2", "shop-3"]);
    let status = desk.status().expect("answers");
    assert!(status.policy.error.is_some_and(|error| error.contains("rulez")), "what is wrong with the file stays said");
    agent.must_run();
}
