//! A proxy as far as the agent sees one.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use prost::Name as _;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::support::Desk;
use crate::support::PATIENCE;

/// A proxy that asks for one secret, and says to each what the test tells it to.
pub(crate) struct Proxy {
    runtime: Runtime,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    nonce: String,
}

impl Proxy {
    /// Asks for the certificate.
    pub(crate) fn connect(desk: &Desk) -> Self {
        Self::asking(desk, "gateway")
    }

    pub(crate) fn asking(desk: &Desk, name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = desk.path("run/xds.sock");
        let (requests, receiver) = mpsc::channel(16);
        let responses = runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
            let mut client = SecretDiscoveryServiceClient::new(endpoint.connect().await.unwrap());
            let request = DeltaDiscoveryRequest {
                node: Some(Node { id: "envoy-1".to_owned(), ..Node::default() }),
                type_url: Secret::type_url(),
                resource_names_subscribe: vec![name.to_owned()],
                ..DeltaDiscoveryRequest::default()
            };
            requests.send(request).await.unwrap();
            client.delta_secrets(ReceiverStream::new(receiver)).await.unwrap().into_inner()
        });
        Self { runtime, requests, responses, nonce: String::new() }
    }

    /// The version sent next, which is to be answered.
    pub(crate) fn next(&mut self) -> String {
        loop {
            match self.hear().resources.first() {
                Some(resource) => return resource.version.clone(),
                // Asked before there was one.
                None => self.answer(None),
            }
        }
    }

    /// Whatever is sent next, which is to be answered.
    pub(crate) fn hear(&mut self) -> DeltaDiscoveryResponse {
        let response = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("in time").unwrap().unwrap()
        });
        self.nonce.clone_from(&response.nonce);
        response
    }

    pub(crate) fn answer(&self, refusal: Option<&str>) {
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
