//! `tls-alpn-01`: a certificate that says who may be certified, shown for a protocol of its own (RFC 8737).

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::Identifier;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::UnixTime;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use super::Proof;
use super::name_of;
use super::reachable;
use super::server::Answers;
use super::server::Held;
use super::server::Server;
use crate::issuer::acme::error::AcmeError;

/// The protocol's name.
const ACME_TLS: &[u8] = b"acme-tls/1";
/// For the look at ourselves.
const LOOK: Duration = Duration::from_secs(5);

/// Answers the CA's handshakes.
pub(in crate::issuer::acme) struct TlsAlpn01(Server<CertifiedKey>);

/// Chooses the certificate of the name that is asked for; no other protocol sees one.
struct Chosen(Arc<Answers<CertifiedKey>>);

/// Believes this certificate and no other.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl TlsAlpn01 {
    pub(super) fn new(listen: SocketAddr) -> Self {
        Self(Server::new(listen))
    }

    pub(super) async fn probe(&self) -> Result<(), AcmeError> {
        self.0.probe().await
    }

    pub(super) async fn present(&self, proofs: &[Proof]) -> Result<Held, AcmeError> {
        let provider = Arc::new(ring::default_provider());
        let certificates = proofs.iter().map(|proof| certificate(proof, &provider));
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(AcmeError::Csr)?;
        let expected: Vec<CertificateDer<'static>> =
            certificates.iter().filter_map(|(_, shown)| shown.cert.first().cloned()).collect();
        let acceptor = acceptor(self.0.answers(), Arc::clone(&provider));
        let visit = move |tcp| {
            let handshake = acceptor.accept(tcp);
            async move {
                // The handshake is all that there is; what breaks is the visitor's to notice.
                if let Ok(mut tls) = handshake.await {
                    let _ = tls.shutdown().await;
                }
            }
        };
        let held = self.0.hold(certificates, visit).await?;
        let address = reachable(self.0.listen());
        for (proof, certificate) in proofs.iter().zip(expected) {
            let looked = tokio::time::timeout(LOOK, look(address, proof, certificate, &provider)).await;
            let what = match looked {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "nothing came".to_owned(),
            };
            return Err(AcmeError::SelfCheck { address, what });
        }
        Ok(held)
    }
}

fn acceptor(answers: Arc<Answers<CertifiedKey>>, provider: Arc<CryptoProvider>) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Chosen(answers)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// The certificate of RFC 8737 §3, with the name that is asked for.
fn certificate(proof: &Proof, provider: &CryptoProvider) -> Result<(String, CertifiedKey), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name_of(&proof.identifier)])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&proof.digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signer = provider.key_provider.load_private_key(key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    // Not checked against the key: that check refuses the extension.
    Ok((server_name(&proof.identifier), CertifiedKey::new(vec![certificate.der().clone()], signer)))
}

/// The name in the handshake: of an address, the one of its reverse lookup (RFC 8738 §6).
fn server_name(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Ip(IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Identifier::Ip(IpAddr::V6(ip)) => {
            let digits = ip.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            format!("{}ip6.arpa", digits.collect::<String>())
        }
        other => name_of(other),
    }
}

/// Shakes hands as the CA would.
async fn look(
    address: SocketAddr,
    proof: &Proof,
    certificate: CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> std::io::Result<()> {
    let name = ServerName::try_from(server_name(&proof.identifier)).map_err(std::io::Error::other)?;
    let verifier = Arc::new(Exactly { certificate, provider: Arc::clone(provider) });
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    if tls.get_ref().1.alpn_protocol() != Some(ACME_TLS) {
        return Err(std::io::Error::other("what listens there does not speak acme-tls/1"));
    }
    // A peer that hung up first has shown everything too.
    let _ = tls.shutdown().await;
    Ok(())
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chosen(..)")
    }
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let speaks = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_TLS));
        let name = hello.server_name().filter(|_| speaks)?;
        self.0.find(&name.to_ascii_lowercase())
    }
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another answers there".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // By the bare key: whoever reads the certificate as one refuses its extension.
        let (_, certificate) =
            X509Certificate::from_der(cert).map_err(|error| rustls::Error::General(error.to_string()))?;
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_the_names_of_their_reverse_lookup() {
        let of = |text: &str| server_name(&Identifier::Ip(text.parse().expect("an address")));
        assert_eq!(of("192.0.2.7"), "7.2.0.192.in-addr.arpa");
        assert_eq!(of("2001:db8::1"), format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
        assert_eq!(server_name(&Identifier::Dns("a.example".to_owned())), "a.example");
    }
}
