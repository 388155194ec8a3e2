//! `http-01`: a file behind a URL of the name (RFC 8555 §8.3).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Proof;
use super::name_of;
use super::reachable;
use super::server::Answers;
use super::server::Held;
use super::server::Server;
use crate::issuer::acme::error::AcmeError;

const PLACE: &str = "/.well-known/acme-challenge/";
/// For the look at ourselves.
const LOOK: Duration = Duration::from_secs(5);
/// The longest answer to it that is read.
const LONGEST: u64 = 4_096;

/// Answers the CA's requests.
pub(in crate::issuer::acme) struct Http01(Server<String>);

impl Http01 {
    pub(super) fn new(listen: SocketAddr) -> Self {
        Self(Server::new(listen))
    }

    pub(super) async fn probe(&self) -> Result<(), AcmeError> {
        self.0.probe().await
    }

    pub(super) async fn present(&self, proofs: &[Proof]) -> Result<Held, AcmeError> {
        let answers = proofs.iter().map(|proof| (proof.token.clone(), proof.key_authorization.clone())).collect();
        let given = self.0.answers();
        let held = self.0.hold(answers, move |tcp| visit(tcp, Arc::clone(&given))).await?;
        let address = reachable(self.0.listen());
        for proof in proofs {
            check(address, proof).await?;
        }
        Ok(held)
    }
}

/// Whether the CA would find there what it looks for.
async fn check(address: SocketAddr, proof: &Proof) -> Result<(), AcmeError> {
    let what = match tokio::time::timeout(LOOK, look(address, proof)).await {
        Ok(Ok(body)) if body == proof.key_authorization => return Ok(()),
        Ok(Ok(_)) => "another answers there".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "nothing came".to_owned(),
    };
    Err(AcmeError::SelfCheck { address, what })
}

async fn visit(tcp: TcpStream, given: Arc<Answers<String>>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, &given);
        async { Ok::<_, Infallible>(response) }
    });
    let mut connection = http1::Builder::new();
    connection.keep_alive(false).max_buf_size(16 * 1024).timer(TokioTimer::new());
    // What breaks is the visitor's to notice.
    let _ = connection.serve_connection(TokioIo::new(tcp), service).await;
}

fn answer(request: &Request<Incoming>, given: &Answers<String>) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(PLACE).filter(|_| request.method() == Method::GET);
    let mut response = Response::default();
    match token.and_then(|token| given.find(token)) {
        Some(answer) => {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            *response.body_mut() = Full::from(Bytes::copy_from_slice(answer.as_bytes()));
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

/// Asks as the CA would, and returns the body of a 200.
async fn look(address: SocketAddr, proof: &Proof) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect(address).await?;
    let name = name_of(&proof.identifier);
    let request = format!("GET {PLACE}{} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n", proof.token);
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tcp.take(LONGEST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(if head.starts_with("HTTP/1.1 200 ") { body.to_owned() } else { String::new() })
}

#[cfg(test)]
mod tests {
    use instant_acme::Identifier;
    use tokio::net::TcpListener;

    use super::*;

    /// Somebody who answers every request with this text.
    async fn answering(text: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let _ = tcp.read(&mut [0; 4_096]).await;
                let _ = tcp.write_all(text.as_bytes()).await;
                let _ = tcp.shutdown().await;
            }
        });
        address
    }

    #[tokio::test]
    async fn what_somebody_in_front_answers_is_not_taken_for_ours() {
        let proof = Proof {
            identifier: Identifier::Dns("a.acme.example".to_owned()),
            token: "token".to_owned(),
            key_authorization: "token.thumbprint".to_owned(),
            digest: Vec::new(),
            dns_value: String::new(),
        };
        for (name, head, body, is_good) in [
            ("what it should be", "HTTP/1.1 200 OK", "token.thumbprint", true),
            ("another account's", "HTTP/1.1 200 OK", "token.other", false),
            ("another token's, as a cache has it", "HTTP/1.1 200 OK", "before.thumbprint", false),
            ("more than that", "HTTP/1.1 200 OK", "token.thumbprint2", false),
            ("a page", "HTTP/1.1 404 Not Found", "token.thumbprint", false),
            ("another place", "HTTP/1.1 302 Found", "token.thumbprint", false),
            ("no HTTP", "220 mail.acme.example", "", false),
        ] {
            let address = answering(format!("{head}\r\ncontent-type: text/plain\r\n\r\n{body}")).await;
            match check(address, &proof).await {
                Ok(()) => assert!(is_good, "{name}"),
                Err(AcmeError::SelfCheck { address: found, what }) => {
                    assert!(!is_good && found == address && what == "another answers there", "{name}: {what}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}
