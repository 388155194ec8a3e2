//! Where an issuer of tokens publishes its keys: a JWK Set over https, from a CA of its own.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::DocumentServer;
use super::EnvironmentError;
use super::credentials;
use crate::certificates::Authority;

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct KeyServer {
    server: DocumentServer,
    ca_pem: String,
}

impl KeyServer {
    /// Starts one that publishes these keys.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], if there is no port or no certificate to be had.
    pub async fn start(keys: &[Value]) -> Result<Self, EnvironmentError> {
        let authority = Authority::new("the issuer's");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let leaf = authority.leaf().ip(loopback).usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
        let acceptor = TlsAcceptor::from(Arc::new(credentials::public_server(&leaf.pem(), leaf.key_pem())?));
        let server = DocumentServer::start("application/jwk-set+json", Some(acceptor)).await?;
        let server = Self { server, ca_pem: authority.pem() };
        server.publish(keys);
        Ok(server)
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, keys: &[Value]) {
        self.server.publish(json!({ "keys": keys }).to_string());
    }

    /// How often somebody asked.
    pub fn asked(&self) -> usize {
        self.server.asked()
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("https://{}/jwks", self.server.address())
    }

    /// The CA that vouches for the server, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}
