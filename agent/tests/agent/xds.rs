//! The xDS server as a proxy sees it: gRPC over a Unix socket, with the messages that Envoy sends.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret;
use envoy_types::pb::envoy::extensions::wasm::v3::FailurePolicy;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::StringValue;
use envoy_types::pb::google::rpc;
use portcullis::resource::Body;
use portcullis::resource::Outcome;
use portcullis::resource::Resource;
use portcullis::xds;
use portcullis::xds::Publisher;
use portcullis_policy::Protocol;
use prost::Message;
use prost::Name;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use zeroize::Zeroizing;

use crate::support::PATIENCE;

const SOCKET: &str = "xds.sock";

/// A publisher, its server, and a connection to it.
struct Server {
    publisher: Publisher,
    outcomes: broadcast::Receiver<Outcome>,
    channel: Channel,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), xds::ServeError>>,
    directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let publisher = Publisher::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(xds::serve(publisher.clone(), listener, async {
            let _ = stopped.await;
        }));
        let channel = connect(&directory).await;
        let outcomes = publisher.outcomes();
        Self { publisher, outcomes, channel, stop, ended, directory }
    }

    async fn secrets(&self) -> StateOfTheWorld {
        Self::secrets_over(self.channel.clone()).await
    }

    /// As another process.
    async fn secrets_of_another(&self) -> StateOfTheWorld {
        Self::secrets_over(connect(&self.directory).await).await
    }

    async fn secrets_over(channel: Channel) -> StateOfTheWorld {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = SecretDiscoveryServiceClient::new(channel);
        let responses = client.stream_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        StateOfTheWorld { requests, responses }
    }

    async fn delta_secrets(&self) -> Delta {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = SecretDiscoveryServiceClient::new(self.channel.clone());
        let responses = client.delta_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Delta { requests, responses }
    }

    /// Waits until `condition` holds of what proxies do.
    async fn eventually(&self, what: &str, condition: impl Fn(&Publisher) -> bool) {
        let mut activity = self.publisher.activity();
        let seen = async {
            while !condition(&self.publisher) {
                activity.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect(what);
    }

    async fn outcome(&mut self) -> Outcome {
        within(self.outcomes.recv()).await.unwrap()
    }
}

/// The proxy's end of a stream. Every request is sent with the names that the proxy is subscribed to.
struct StateOfTheWorld {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl StateOfTheWorld {
    async fn ask(&self, names: &[&str], version: &str, nonce: &str, error: Option<&str>) {
        let request = DiscoveryRequest {
            version_info: version.to_owned(),
            node: Some(node()),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            type_url: Secret::type_url(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(refusal),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DiscoveryResponse {
        within(self.responses.message()).await.unwrap().unwrap()
    }
}

struct Delta {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    async fn subscribe(&self, names: &[&str], versions: &[(&str, &str)]) {
        let versions: HashMap<_, _> =
            versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        let request = DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: Secret::type_url(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: versions,
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn answer(&self, nonce: &str, error: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: Secret::type_url(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(refusal),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        within(self.responses.message()).await.unwrap().unwrap()
    }
}

async fn connect(directory: &TempDir) -> Channel {
    let socket = directory.path().join(SOCKET);
    Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await.unwrap()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn node() -> Node {
    Node { id: "envoy-1".to_owned(), ..Node::default() }
}

fn refusal(message: &str) -> rpc::Status {
    rpc::Status { code: 13, message: message.to_owned(), details: Vec::new() }
}

fn pem() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
}

fn certificate(name: &str, version: &str) -> Resource {
    let key_pem = Zeroizing::new(format!("key of {version}"));
    let body = Body::TlsCertificate { chain_pem: pem(), key_pem };
    Resource { name: name.to_owned(), version: version.to_owned(), body }
}

fn secret_of(any: &Any) -> Secret {
    assert_eq!(any.type_url, Secret::type_url());
    Secret::decode(any.value.as_slice()).unwrap()
}

fn acknowledged(name: &str, version: &str) -> Outcome {
    Outcome::Acknowledged { node: "envoy-1".to_owned(), name: name.to_owned(), version: version.to_owned() }
}

fn refused(name: &str, version: &str, detail: &str) -> Outcome {
    Outcome::Refused {
        node: "envoy-1".to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        detail: detail.to_owned(),
    }
}

#[tokio::test]
async fn a_certificate_is_pushed_acknowledged_and_replaced() {
    let mut server = Server::start().await;
    let first = certificate("gateway", "1");
    server.publisher.publish(first.clone()).unwrap();
    assert_eq!(server.publisher.acknowledged("gateway"), None, "nobody subscribed");

    let mut stream = server.secrets().await;
    stream.ask(&["gateway"], "", "", None).await;
    let response = stream.next().await;
    assert_eq!((response.version_info.as_str(), response.type_url), ("1", Secret::type_url()));
    let secret = secret_of(&response.resources[0]);
    assert_eq!(secret.name, "gateway");
    let (Some(secret::Type::TlsCertificate(pushed)), Body::TlsCertificate { chain_pem, key_pem }) =
        (secret.r#type, first.body)
    else {
        panic!("a certificate went in");
    };
    let bytes = |source: Option<_>| match source {
        Some(envoy_types::pb::envoy::config::core::v3::DataSource {
            specifier: Some(Specifier::InlineBytes(bytes)),
            ..
        }) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes(pushed.certificate_chain), chain_pem);
    assert_eq!(bytes(pushed.private_key), *key_pem);

    assert_eq!(server.publisher.acknowledged("gateway"), Some(false));
    stream.ask(&["gateway"], "1", &response.nonce, None).await;
    assert_eq!(server.outcome().await, acknowledged("gateway", "1"));
    assert_eq!(server.publisher.acknowledged("gateway"), Some(true));

    server.publisher.publish(certificate("gateway", "2")).unwrap();
    assert_eq!(server.publisher.acknowledged("gateway"), Some(false));
    let response = stream.next().await;
    assert_eq!(response.version_info, "2");
    stream.ask(&["gateway"], "2", &response.nonce, None).await;
    assert_eq!(server.outcome().await, acknowledged("gateway", "2"));
}

#[tokio::test]
async fn a_refused_version_is_reported_and_not_sent_again() {
    let mut server = Server::start().await;
    let mut stream = server.delta_secrets().await;
    stream.subscribe(&["gateway"], &[]).await;
    let response = stream.next().await;
    assert_eq!(response.removed_resources, ["gateway"], "a proxy does not wait for what nobody published");
    stream.answer(&response.nonce, None).await;

    for (version, error) in [("1", None), ("2", Some("KEY_VALUES_MISMATCH"))] {
        server.publisher.publish(certificate("gateway", version)).unwrap();
        let response = stream.next().await;
        assert_eq!(response.resources[0].version, version);
        stream.answer(&response.nonce, error).await;
        let want = error.map_or_else(|| acknowledged("gateway", version), |error| refused("gateway", version, error));
        assert_eq!(server.outcome().await, want);
    }
    assert_eq!(server.publisher.acknowledged("gateway"), Some(false));
    assert_eq!(server.publisher.proxies()[0].nacks, 1);
    let response = stream.next().await;
    assert_eq!(response.resources[0].version, "1", "back to the one it took");
    stream.answer(&response.nonce, None).await;
    assert_eq!(server.outcome().await, acknowledged("gateway", "1"));
    assert_eq!(server.publisher.acknowledged("gateway"), Some(false), "not what the agent wants");

    // Another proxy is given the version before as well; both are next given what is published next.
    let mut other = server.secrets().await;
    other.ask(&["gateway"], "", "", None).await;
    assert_eq!(other.next().await.version_info, "1");
    server.publisher.publish(certificate("gateway", "3")).unwrap();
    assert_eq!(stream.next().await.resources[0].version, "3");
}

#[tokio::test]
async fn a_reconnecting_proxy_is_sent_only_what_differs() {
    let mut server = Server::start().await;
    server.publisher.publish(certificate("gateway", "2")).unwrap();
    server.publisher.publish(certificate("upstream-client", "2")).unwrap();

    let mut stream = server.delta_secrets().await;
    stream.subscribe(&["gateway", "upstream-client"], &[("gateway", "2"), ("upstream-client", "1")]).await;
    assert_eq!(server.outcome().await, acknowledged("gateway", "2"));
    let response = stream.next().await;
    assert_eq!((response.resources[0].name.as_str(), response.resources.len()), ("upstream-client", 1));
    drop(stream);

    let mut stream = server.secrets().await;
    stream.ask(&["gateway"], "2", "", None).await;
    assert_eq!(server.outcome().await, acknowledged("gateway", "2"));
    server.publisher.publish(certificate("gateway", "3")).unwrap();
    assert_eq!(stream.next().await.version_info, "3", "the second version was not sent");
}

#[tokio::test]
async fn an_agent_that_starts_after_its_proxy_learns_what_the_proxy_has() {
    let mut server = Server::start().await;
    let stream = server.secrets().await;
    stream.ask(&["gateway"], "1", "", None).await;
    server.eventually("connected", |publisher| !publisher.proxies().is_empty()).await;
    server.publisher.publish(certificate("gateway", "1")).unwrap();
    assert_eq!(server.outcome().await, acknowledged("gateway", "1"));
    assert_eq!(server.publisher.acknowledged("gateway"), Some(true));
}

#[tokio::test]
async fn an_unknown_name_leaves_the_stream_open() {
    let server = Server::start().await;
    server.publisher.publish(certificate("gateway", "1")).unwrap();
    let mut stream = server.secrets().await;
    stream.ask(&["nobody", "gateway"], "", "", None).await;
    assert_eq!(stream.next().await.version_info, "1");
    server.publisher.publish(certificate("nobody", "n1")).unwrap();
    assert_eq!(stream.next().await.version_info, "n1");
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_version_only() {
    let mut server = Server::start().await;
    server.publisher.publish(certificate("gateway", "0")).unwrap();
    let mut stream = server.delta_secrets().await;
    stream.subscribe(&["gateway"], &[]).await;
    server.eventually("subscribed", |publisher| publisher.acknowledged("gateway").is_some()).await;
    for version in 1..=500 {
        server.publisher.publish(certificate("gateway", &version.to_string())).unwrap();
    }
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("500") {
        let response = stream.next().await;
        seen.push(response.resources[0].version.clone());
        stream.answer(&response.nonce, None).await;
        server.outcome().await;
    }
    assert!(seen.len() <= 2, "one on its way and the newest, not {seen:?}");
}

#[tokio::test]
async fn a_bundle_is_matched_exactly_and_never_empty() {
    let server = Server::start().await;
    let bundle = |trusted_ca_pem, version: &str| Resource {
        name: "upstreams".to_owned(),
        version: version.to_owned(),
        body: Body::ValidationContext {
            trusted_ca_pem,
            match_uri: vec!["spiffe://a.example/upstream".to_owned()],
            crl_pem: Some("a list".to_owned()),
        },
    };
    let good = pem();
    server.publisher.publish(bundle(good.clone(), "1")).unwrap();
    server.publisher.publish(bundle(String::new(), "2")).unwrap_err();
    let mut stream = server.secrets().await;
    stream.ask(&["upstreams"], "", "", None).await;
    let response = stream.next().await;
    assert_eq!(response.version_info, "1", "what was good stays");
    let Some(secret::Type::ValidationContext(context)) = secret_of(&response.resources[0]).r#type else {
        panic!("a bundle went in");
    };
    let text = format!("{:?}", context.match_typed_subject_alt_names);
    assert!(text.contains("Exact(\"spiffe://a.example/upstream\")"), "{text}");
    assert!(context.crl.is_some() && context.only_verify_leaf_cert_crl, "a list for the leaf's issuer is enough");
}

#[tokio::test]
async fn the_filter_is_pushed_with_its_policy() {
    let server = Server::start().await;
    let module = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(module.path(), b"\0asm\x01\0\0\0").unwrap();
    let path = module.path().to_str().unwrap().to_owned();
    let body = Body::WasmFilter {
        protocol: Protocol::Http,
        module: path.clone(),
        configuration: "{\"version\":1}".to_owned(),
        root_id: "1".to_owned(),
    };
    let resource = Resource { name: "portcullis".to_owned(), version: "p1".to_owned(), body };
    server.publisher.publish(resource).unwrap();

    let (requests, receiver) = mpsc::channel(1);
    let mut client = ExtensionConfigDiscoveryServiceClient::new(server.channel.clone());
    let mut responses = client.stream_extension_configs(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let names = vec!["portcullis".to_owned()];
    requests.send(DiscoveryRequest { node: Some(node()), resource_names: names, ..Default::default() }).await.unwrap();
    let response = within(responses.message()).await.unwrap().unwrap();
    assert_eq!(response.type_url, TypedExtensionConfig::type_url());
    let extension = TypedExtensionConfig::decode(response.resources[0].value.as_slice()).unwrap();
    assert_eq!(extension.name, "portcullis");
    let wasm = extension.typed_config.unwrap();
    assert_eq!(wasm.type_url, Wasm::type_url());
    let plugin = Wasm::decode(wasm.value.as_slice()).unwrap().config.unwrap();
    let policy = StringValue::decode(plugin.configuration.as_ref().unwrap().value.as_slice()).unwrap();
    assert_eq!(policy.value, "{\"version\":1}");
    assert_eq!(plugin.failure_policy(), FailurePolicy::FailReload);
    assert!(format!("{:?}", plugin.vm).contains(&path));

    // The secret service does not know it.
    let mut stream = server.delta_secrets().await;
    stream.subscribe(&["portcullis"], &[]).await;
    assert_eq!(stream.next().await.removed_resources, ["portcullis"]);
}

#[tokio::test]
async fn another_type_and_a_single_fetch_are_refused() {
    let server = Server::start().await;
    let mut stream = server.secrets().await;
    let request = DiscoveryRequest { type_url: Wasm::type_url(), ..DiscoveryRequest::default() };
    stream.requests.send(request).await.unwrap();
    let status = within(stream.responses.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let mut client = SecretDiscoveryServiceClient::new(server.channel.clone());
    let status = client.fetch_secrets(DiscoveryRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn proxies_come_and_go() {
    let server = Server::start().await;
    let one = server.secrets().await;
    let two = server.delta_secrets().await;
    one.ask(&["a"], "", "", None).await;
    two.subscribe(&["b"], &[]).await;
    server.eventually("one proxy for its two streams", |publisher| publisher.proxies().len() == 1).await;
    let proxy = server.publisher.proxies().remove(0);
    assert_eq!((proxy.node.as_str(), proxy.pid), ("envoy-1", i32::try_from(std::process::id()).ok()));
    drop(one);
    drop(two);
    server.eventually("gone", |publisher| publisher.proxies().is_empty()).await;
}

/// Says which version it has, until there is another, which it takes.
async fn take(stream: &mut StateOfTheWorld, had: &str) -> String {
    stream.ask(&["gateway"], had, "", None).await;
    let response = stream.next().await;
    stream.ask(&["gateway"], &response.version_info, &response.nonce, None).await;
    response.version_info
}

#[tokio::test]
async fn two_processes_of_one_node_are_counted_apart() {
    let mut server = Server::start().await;
    server.publisher.publish(certificate("gateway", "1")).unwrap();
    let (mut old, mut new) = (server.secrets_of_another().await, server.secrets_of_another().await);
    assert_eq!(take(&mut old, "").await, "1");
    assert_eq!(server.outcome().await, acknowledged("gateway", "1"));
    // What the one took, the other one does not have.
    new.ask(&["gateway"], "", "", None).await;
    let response = new.next().await;
    assert_eq!((response.version_info.as_str(), server.publisher.acknowledged("gateway")), ("1", Some(false)));
    new.ask(&["gateway"], "1", &response.nonce, None).await;
    server.eventually("taken by both", |publisher| publisher.acknowledged("gateway") == Some(true)).await;

    // The old one goes without an answer.
    server.publisher.publish(certificate("gateway", "2")).unwrap();
    assert_eq!((old.next().await.version_info, take(&mut new, "1").await), ("2".to_owned(), "2".to_owned()));
    while server.outcome().await != acknowledged("gateway", "2") {}
    assert_eq!(server.publisher.acknowledged("gateway"), Some(false), "the old one has not");
    drop(old);
    server.eventually("nobody is waited for", |publisher| publisher.acknowledged("gateway") == Some(true)).await;
    assert_eq!(server.publisher.proxies().len(), 1);

    server.publisher.publish(certificate("gateway", "3")).unwrap();
    assert_eq!((take(&mut new, "2").await.as_str(), server.publisher.proxies()[0].nacks), ("3", 0));
    server.eventually("taken", |publisher| publisher.acknowledged("gateway") == Some(true)).await;
}

#[tokio::test]
async fn a_storm_of_streams_leaves_nothing_behind() {
    const STREAMS: usize = 100;

    let server = Server::start().await;
    server.publisher.publish(certificate("gateway", "1")).unwrap();
    let mut all = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        // Every other goes before it reads what it is sent.
        let (kept, gone) = (server.secrets_of_another().await, server.delta_secrets().await);
        kept.ask(&["gateway"], "", "", None).await;
        gone.subscribe(&["gateway"], &[]).await;
        all.push(kept);
    }
    for stream in &mut all {
        let response = stream.next().await;
        assert_eq!(response.version_info, "1");
        stream.ask(&["gateway"], "1", &response.nonce, None).await;
    }
    server.eventually("taken by those who stayed", |publisher| publisher.acknowledged("gateway") == Some(true)).await;
    drop(all);
    server.eventually("all gone", |publisher| publisher.proxies().is_empty()).await;
    assert_eq!(server.publisher.acknowledged("gateway"), None, "nobody asks any more");
    let mut last = server.secrets().await;
    assert_eq!(take(&mut last, "").await, "1");
    server.eventually("served as ever", |publisher| publisher.acknowledged("gateway") == Some(true)).await;
}

#[tokio::test]
async fn open_streams_end_when_the_server_is_told_to_stop() {
    let Server { publisher, channel, stop, ended, outcomes: _, directory: _directory } = Server::start().await;
    let (_requests, receiver) = mpsc::channel(1);
    let mut client = SecretDiscoveryServiceClient::new(channel);
    let mut stream =
        client.stream_secrets(ReceiverStream::<DiscoveryRequest>::new(receiver)).await.unwrap().into_inner();
    stop.send(()).unwrap();
    assert!(within(stream.message()).await.unwrap().is_none());
    within(ended).await.unwrap().unwrap();
    drop(publisher);
}
