//! What Envoy says that it holds: the administration endpoints `/certs` and `/config_dump`. It is the second-best proof, for certificates
//! that no listener shows, such as those for upstreams.
//!
//! Envoy names no secret there, so a certificate is found by its serial. A serial comes as OpenSSL prints it, with or
//! without leading zeros, and is compared as a number. Certificates chosen per connection (`on_demand_secret`) are
//! missing from the list.

mod fixed;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::net::TcpStream;

pub use fixed::Fixed;

const CERTS: &str = "/certs";
const CONFIG_DUMP: &str = "/config_dump";

/// Most bytes of an answer: a certificate takes about 300.
const MAX_ANSWER: usize = 64 << 20;

/// Envoy's administration endpoint.
#[derive(Clone, Copy, Debug)]
pub struct EnvoyAdmin {
    address: SocketAddr,
}

/// A leaf certificate that Envoy holds in some TLS context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Lower-case hex without leading zeros.
    pub serial: String,
    /// End of validity.
    pub not_after: Timestamp,
}

/// Why Envoy could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nobody listens there.
    #[error("cannot connect to Envoy's administration at `{address}`")]
    Connect {
        /// The endpoint.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("Envoy's administration at `{address}` broke off the connection")]
    Interrupted {
        /// The endpoint.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not what is to be there.
    #[error("`http://{address}{path}` does not answer as Envoy does")]
    Malformed {
        /// The endpoint.
        address: SocketAddr,
        /// What was asked for.
        path: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is an error.
    #[error("`http://{address}{path}` answered {status}")]
    Refused {
        /// The endpoint.
        address: SocketAddr,
        /// What was asked for.
        path: &'static str,
        /// The status.
        status: StatusCode,
    },
    /// No answer in time.
    #[error("Envoy's administration at `{address}` did not answer within {timeout:?}")]
    TimedOut {
        /// The endpoint.
        address: SocketAddr,
        /// How long was waited.
        timeout: Duration,
    },
}

impl EnvoyAdmin {
    /// The endpoint at this address. Connects anew for each question.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The leaf certificates that Envoy holds now, of listeners and upstreams alike.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn held(&self, timeout: Duration) -> Result<Vec<Held>, AdminError> {
        let address = self.address;
        let answer = self.get(CERTS, timeout).await?;
        parse(&answer).map_err(|source| AdminError::Malformed { address, path: CERTS, source })
    }

    /// The TLS contexts whose certificate nobody can replace while Envoy runs.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn fixed(&self, timeout: Duration) -> Result<Vec<Fixed>, AdminError> {
        let address = self.address;
        let answer = self.get(CONFIG_DUMP, timeout).await?;
        let dump = serde_json::from_slice(&answer);
        let dump = dump.map_err(|source| AdminError::Malformed { address, path: CONFIG_DUMP, source })?;
        Ok(fixed::find(&dump))
    }

    async fn get(&self, path: &'static str, timeout: Duration) -> Result<Bytes, AdminError> {
        let address = self.address;
        let answer = tokio::time::timeout(timeout, self.ask(path)).await;
        answer.map_err(|_| AdminError::TimedOut { address, timeout })?
    }

    async fn ask(&self, path: &'static str) -> Result<Bytes, AdminError> {
        let address = self.address;
        let interrupted = |source: hyper::Error| AdminError::Interrupted { address, source: source.into() };

        let stream = TcpStream::connect(address).await.map_err(|source| AdminError::Connect { address, source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(interrupted)?;
        // Ends with the request; its error is the request's as well.
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
        let request = request.expect("an address is a header value");
        let response = sender.send_request(request).await.map_err(interrupted)?;
        if !response.status().is_success() {
            return Err(AdminError::Refused { address, path, status: response.status() });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|source| AdminError::Interrupted { address, source })?.to_bytes())
    }
}

impl Held {
    /// Whether its validity is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after.as_second() < now.as_second()
    }
}

#[derive(Deserialize)]
struct Certs {
    #[serde(default)]
    certificates: Vec<Context>,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    cert_chain: Vec<Details>,
}

#[derive(Deserialize)]
struct Details {
    serial_number: String,
    expiration_time: Timestamp,
}

fn parse(answer: &[u8]) -> Result<Vec<Held>, serde_json::Error> {
    let certs: Certs = serde_json::from_slice(answer)?;
    let leaves = certs.certificates.into_iter().flat_map(|context| context.cert_chain);
    Ok(leaves.map(|leaf| Held { serial: numeric(&leaf.serial_number), not_after: leaf.expiration_time }).collect())
}

/// The serial as the agent writes serials.
fn numeric(serial: &str) -> String {
    let digits = serial.trim_start_matches('0').to_ascii_lowercase();
    if digits.is_empty() { "0".to_owned() } else { digits }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// As Envoy 1.40 writes it, shortened.
    const ANSWER: &str = r#"{"certificates":[
        {"ca_cert":[{"path":"<inline>","serial_number":"47808ee7","subject_alt_names":[],"days_until_expiration":"755726",
            "valid_from":"1975-01-01T00:00:00Z","expiration_time":"4096-01-01T00:00:00Z"}],
         "cert_chain":[{"path":"<inline>","serial_number":"0015D7","subject_alt_names":[{"dns":"localhost"}],
            "days_until_expiration":"0","valid_from":"2026-01-01T00:00:00Z","expiration_time":"2026-01-02T00:00:00Z"}]},
        {"ca_cert":[]}]}"#;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn answering(answer: String) -> EnvoyAdmin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = EnvoyAdmin::new(listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /certs HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        admin
    }

    fn response(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn leaves_are_listed_with_their_serials_as_numbers() {
        let held = answering(response("200 OK", ANSWER)).await.held(PATIENCE).await.unwrap();
        assert_eq!(held, [Held { serial: "15d7".to_owned(), not_after: "2026-01-02T00:00:00Z".parse().unwrap() }]);
        assert!(!held[0].is_expired("2026-01-02T00:00:00Z".parse().unwrap()));
        assert!(held[0].is_expired("2026-01-02T00:00:01Z".parse().unwrap()));
    }

    #[tokio::test]
    async fn answers_that_are_no_list_are_errors() {
        for (name, answer, want) in [
            ("an error", response("503 Service Unavailable", ""), "answered 503"),
            ("no JSON", response("200 OK", "<html>"), "does not answer as Envoy"),
            ("not HTTP", "SSH-2.0\r\n".to_owned(), "broke off"),
            ("nothing", String::new(), "broke off"),
        ] {
            let error = answering(answer).await.held(PATIENCE).await.unwrap_err();
            assert!(error.to_string().contains(want), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn silence_and_absence_are_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = EnvoyAdmin::new(listener.local_addr().unwrap());
        let error = admin.held(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, AdminError::TimedOut { .. }), "{error}");
        drop(listener);
        let error = admin.held(PATIENCE).await.unwrap_err();
        assert!(matches!(error, AdminError::Connect { .. }), "{error}");
    }
}
