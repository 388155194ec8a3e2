//! gRPC around the subscriptions: messages in, messages out, and who may connect.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::envoy::service::discovery::v3::Resource as DeltaResource;
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryService;
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryServiceServer;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use futures::stream;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;

use super::COMING;
use super::Publisher;
use super::StreamId;
use super::catalogue::Kind;
use super::encode;
use super::subscription::Change;
use super::subscription::Item;
use super::subscription::Request;
use super::subscription::Response;
use super::subscription::Subscription;
use crate::peer;

const STREAMS_OF_A_CONNECTION: u32 = 65_536;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the xDS server ended")]
pub struct ServeError(#[source] tonic::transport::Error);

/// Serves proxies on the socket until `shutdown` is done. Only root and the agent's own user are let in.
///
/// Publish what is stored before this is called: a proxy that asks for a name not yet published is told so, and does
/// not wait for it at its start.
///
/// # Errors
///
/// [`ServeError`], if the transport fails as a whole; a single bad connection only ends itself.
pub async fn serve(
    publisher: Publisher,
    listener: UnixListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    if publisher.is_expecting() {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            tokio::time::sleep(COMING).await;
            publisher.expect_no_more();
        });
    }
    let ended = CancellationToken::new();
    let service = Service { publisher, ended: ended.clone() };
    // Without errors: the first would be the end of the server.
    let admitted = stream::unfold(listener, |listener| async move {
        let (connection, _) = peer::accept(&listener, "xDS").await;
        Some((Ok::<_, Infallible>(connection), listener))
    });
    Server::builder()
        // Two hundred, if nothing is said: less than the names of one listener may be.
        .max_concurrent_streams(Some(STREAMS_OF_A_CONNECTION))
        .add_service(SecretDiscoveryServiceServer::new(service.clone()))
        .add_service(ExtensionConfigDiscoveryServiceServer::new(service))
        .serve_with_incoming_shutdown(admitted, async move {
            shutdown.await;
            // Streams never end by themselves; without this the server would wait for its proxies to leave.
            ended.cancel();
        })
        .await
        .map_err(ServeError)
}

#[derive(Clone, Debug)]
struct Service {
    publisher: Publisher,
    ended: CancellationToken,
}

/// A protocol of the discovery services: how its messages map to requests and responses.
trait Protocol: 'static {
    type Incoming: Send + 'static;
    type Outgoing: Send + 'static;

    fn subscription(kind: Kind) -> Subscription;
    fn decode(message: Self::Incoming) -> Decoded;
    fn encode(kind: Kind, response: Response) -> Self::Outgoing;
}

struct Decoded {
    node: Option<Node>,
    type_url: String,
    request: Request,
}

struct StateOfTheWorld;

struct Delta;

impl Protocol for StateOfTheWorld {
    type Incoming = DiscoveryRequest;
    type Outgoing = DiscoveryResponse;

    fn subscription(kind: Kind) -> Subscription {
        Subscription::state_of_the_world(kind)
    }

    fn decode(message: DiscoveryRequest) -> Decoded {
        let change = Change::Exactly { names: message.resource_names, version: message.version_info };
        let error = message.error_detail.map(|status| status.message);
        let request = Request { nonce: message.response_nonce, error, change };
        Decoded { node: message.node, type_url: message.type_url, request }
    }

    fn encode(kind: Kind, response: Response) -> DiscoveryResponse {
        let (version_info, resources) = match response.item {
            Item::Absent(_) => (String::new(), Vec::new()),
            Item::Present(published) => (published.resource.version.clone(), vec![encode::any(&published.resource)]),
        };
        DiscoveryResponse {
            version_info,
            resources,
            type_url: encode::type_url(kind),
            nonce: response.nonce,
            ..DiscoveryResponse::default()
        }
    }
}

impl Protocol for Delta {
    type Incoming = DeltaDiscoveryRequest;
    type Outgoing = DeltaDiscoveryResponse;

    fn subscription(kind: Kind) -> Subscription {
        Subscription::delta(kind)
    }

    fn decode(message: DeltaDiscoveryRequest) -> Decoded {
        let change = Change::Delta {
            subscribe: message.resource_names_subscribe,
            unsubscribe: message.resource_names_unsubscribe,
            versions: message.initial_resource_versions,
        };
        let error = message.error_detail.map(|status| status.message);
        let request = Request { nonce: message.response_nonce, error, change };
        Decoded { node: message.node, type_url: message.type_url, request }
    }

    fn encode(kind: Kind, response: Response) -> DeltaDiscoveryResponse {
        let mut message = DeltaDiscoveryResponse {
            type_url: encode::type_url(kind),
            nonce: response.nonce,
            ..DeltaDiscoveryResponse::default()
        };
        match response.item {
            Item::Absent(name) => message.removed_resources.push(name),
            Item::Present(published) => {
                let resource = &published.resource;
                message.system_version_info.clone_from(&resource.version);
                message.resources.push(DeltaResource {
                    name: resource.name.clone(),
                    version: resource.version.clone(),
                    resource: Some(encode::any(resource)),
                    ..DeltaResource::default()
                });
            }
        }
        message
    }
}

impl Service {
    fn run<P: Protocol>(
        &self,
        kind: Kind,
        request: tonic::Request<Streaming<P::Incoming>>,
    ) -> Result<tonic::Response<ResponseStream<P::Outgoing>>, Status> {
        let credentials = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let (id, wake) = self
            .publisher
            .open(P::subscription(kind), credentials.and_then(|credentials| credentials.pid()))
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        // One place: a response is made only when the transport has room for it, so that it is the newest.
        let (responses, outgoing) = mpsc::channel(1);
        let stream = OpenStream { publisher: self.publisher.clone(), id };
        tokio::spawn(carry::<P>(stream, wake, kind, request.into_inner(), responses, self.ended.clone()));
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// A stream that is closed when it is dropped, however it ended.
struct OpenStream {
    publisher: Publisher,
    id: StreamId,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.publisher.close(self.id);
    }
}

async fn carry<P: Protocol>(
    stream: OpenStream,
    wake: Arc<Notify>,
    kind: Kind,
    mut requests: Streaming<P::Incoming>,
    responses: mpsc::Sender<Result<P::Outgoing, Status>>,
    ended: CancellationToken,
) {
    let OpenStream { publisher, id } = &stream;
    loop {
        loop {
            let permit = tokio::select! {
                permit = responses.reserve() => permit,
                () = ended.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            let Some(response) = publisher.poll(*id) else { break };
            permit.send(Ok(P::encode(kind, response)));
        }
        let message = tokio::select! {
            message = requests.message() => message,
            () = wake.notified() => continue,
            () = ended.cancelled() => return,
        };
        let Ok(Some(message)) = message else { return };
        let Decoded { node, type_url, request } = P::decode(message);
        let refusal = if type_url.is_empty() || type_url == encode::type_url(kind) {
            publisher
                .receive(*id, node.map(|node| node.id), request)
                .err()
                .map(|error| Status::resource_exhausted(error.to_string()))
        } else {
            Some(Status::invalid_argument(format!("type `{type_url}` is not served here")))
        };
        if let Some(status) = refusal {
            // The proxy may be gone already.
            let _ = responses.send(Err(status)).await;
            return;
        }
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type DeltaSecretsStream = ResponseStream<DeltaDiscoveryResponse>;
    type StreamSecretsStream = ResponseStream<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaSecretsStream>, Status> {
        self.run::<Delta>(Kind::Secret, request)
    }

    async fn stream_secrets(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamSecretsStream>, Status> {
        self.run::<StateOfTheWorld>(Kind::Secret, request)
    }

    async fn fetch_secrets(
        &self,
        _: tonic::Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("secrets are only streamed: a single answer cannot be acknowledged"))
    }
}

#[tonic::async_trait]
impl ExtensionConfigDiscoveryService for Service {
    type DeltaExtensionConfigsStream = ResponseStream<DeltaDiscoveryResponse>;
    type StreamExtensionConfigsStream = ResponseStream<DiscoveryResponse>;

    async fn delta_extension_configs(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaExtensionConfigsStream>, Status> {
        self.run::<Delta>(Kind::Filter, request)
    }

    async fn stream_extension_configs(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamExtensionConfigsStream>, Status> {
        self.run::<StateOfTheWorld>(Kind::Filter, request)
    }

    async fn fetch_extension_configs(
        &self,
        _: tonic::Request<DiscoveryRequest>,
    ) -> Result<tonic::Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("extensions are only streamed: a single answer cannot be acknowledged"))
    }
}
