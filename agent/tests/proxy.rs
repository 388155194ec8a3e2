//! The agent as a proxy meets it that does not simply take what it is sent.
//!
//! One that refuses a certificate is sent another one, never the same bytes again, and keeps the last good one.

mod support;

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use prost::Name as _;
use rustix::process::Signal;
use support::Desk;
use support::PATIENCE;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

const ONE: &str = "certificates:\n  - { name: gateway, dns: [localhost] }\n";

/// A proxy that asks for one certificate, and says to each what the test tells it to.
struct Proxy {
    runtime: Runtime,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    nonce: String,
}

impl Proxy {
    fn connect(desk: &Desk) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = desk.path("run/xds.sock");
        let (requests, receiver) = mpsc::channel(16);
        let responses = runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
            let mut client = SecretDiscoveryServiceClient::new(endpoint.connect().await.unwrap());
            let request = DeltaDiscoveryRequest {
                node: Some(Node { id: "envoy-1".to_owned(), ..Node::default() }),
                type_url: Secret::type_url(),
                resource_names_subscribe: vec!["gateway".to_owned()],
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(request).await.unwrap();
            client.delta_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner()
        });
        Self { runtime, requests, responses, nonce: String::new() }
    }

    /// The version sent next, which is to be answered.
    fn next(&mut self) -> String {
        loop {
            let response = self.runtime.block_on(async {
                tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("in time").unwrap().unwrap()
            });
            self.nonce = response.nonce;
            match response.resources.first() {
                Some(resource) => return resource.version.clone(),
                // Asked before there was one.
                None => self.answer(None),
            }
        }
    }

    fn answer(&self, refusal: Option<&str>) {
        let error = |message: &str| rpc::Status { code: 13, message: message.to_owned(), details: Vec::new() };
        let request = DeltaDiscoveryRequest {
            type_url: Secret::type_url(),
            response_nonce: self.nonce.clone(),
            error_detail: refusal.map(error),
            ..DeltaDiscoveryRequest::default()
        };
        self.runtime.block_on(self.requests.send(request)).unwrap();
    }
}

#[test]
fn a_refused_certificate_is_replaced_and_never_sent_again() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut proxy = Proxy::connect(&desk);
    let good = proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready);

    let renewal = std::thread::scope(|scope| {
        let renewal = scope.spawn(|| desk.renew("gateway"));
        let refused = proxy.next();
        assert_ne!(refused, good);
        proxy.answer(Some("KEY_VALUES_MISMATCH"));
        (refused, renewal.join().unwrap())
    });
    let (first, answer) = renewal;
    let error = answer.expect_err("refused").to_string();
    assert!(error.contains("install failed") && error.contains("KEY_VALUES_MISMATCH"), "{error}");

    // What the proxy is sent from now on: the last good one, and new ones, each once.
    let mut refused = BTreeSet::from([first]);
    while refused.len() < 4 {
        let version = proxy.next();
        if version == good {
            proxy.answer(None);
            continue;
        }
        assert!(refused.insert(version.clone()), "{version} was sent again after its refusal");
        proxy.answer(Some("KEY_VALUES_MISMATCH"));
    }
    let status = desk.until(&mut agent, "the last good one is stored", |status| status.certificates[0].failures == 4);
    let gateway = &status.certificates[0];
    assert_eq!(gateway.stored.as_ref().map(|leaf| leaf.serial.as_str()), Some(good.as_str()));
    assert_eq!(gateway.installed.as_deref(), Some(good.as_str()));
    assert!(!status.ready);

    // A restart does not forget it either.
    drop(proxy);
    agent.signal(Signal::KILL);
    agent.ended();
    let mut agent = desk.start();
    desk.until(&mut agent, "started", |_| true);
    let mut proxy = Proxy::connect(&desk);
    let version = loop {
        let version = proxy.next();
        assert!(!refused.contains(&version), "{version} was sent again after a restart");
        proxy.answer(None);
        if version != good {
            break version;
        }
    };
    let status = desk.until(&mut agent, "well again", |status| status.ready);
    assert_eq!(status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone()), Some(version));
    assert_eq!(status.certificates[0].failures, 0);
}

#[test]
fn a_proxy_that_refuses_what_another_took_gets_another_certificate() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut one = Proxy::connect(&desk);
    let first = one.next();
    one.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready);
    let mut other = Proxy::connect(&desk);
    assert_eq!(other.next(), first);
    other.answer(Some("too short a key"));
    let second = one.next();
    assert_ne!(second, first);
    one.answer(None);
    assert_eq!(other.next(), second, "not the one that it refused");
    other.answer(None);
    let status = desk.until(&mut agent, "well again", |status| status.ready);
    assert_eq!(status.certificates[0].stored.as_ref().map(|leaf| leaf.serial.clone()), Some(second));
}

#[test]
fn an_ask_for_a_certificate_that_a_reload_removed_is_answered() {
    let desk = Desk::new(ONE);
    let mut agent = desk.start();
    desk.until(&mut agent, "issued", |status| status.certificates.iter().any(|one| one.stored.is_some()));
    let mut proxy = Proxy::connect(&desk);
    proxy.next();
    proxy.answer(None);
    desk.until(&mut agent, "ready", |status| status.ready);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| desk.renew("gateway"));
        // It is waited for the proxy's answer, which does not come.
        proxy.next();
        let second = scope.spawn(|| desk.renew("gateway"));
        desk.status().expect("the second one was taken before this");
        desk.configure("certificates: []\n");
        agent.signal(Signal::HUP);
        let error = first.join().unwrap().expect_err("not answered by the proxy").to_string();
        assert!(error.contains("not every proxy took it"), "{error}");
        let error = second.join().unwrap().expect_err("removed").to_string();
        assert!(error.contains("left the configuration") || error.contains("no certificate is called"), "{error}");
    });
    desk.until(&mut agent, "nothing left to do", |status| status.ready && status.certificates.is_empty());
}
