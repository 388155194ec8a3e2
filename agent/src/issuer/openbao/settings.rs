//! Where a PKI engine is, and how to get in.

use reqwest::Url;
use rustls::pki_types::CertificateDer;

use crate::openbao::Login;
use crate::openbao::Server;

/// One PKI engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `https://bao.acme.example:8200`; `http` to loopback only.
    pub address: Url,
    /// Authorities that may vouch for the server; the system's where there is none.
    pub server_roots: Option<Vec<CertificateDer<'static>>>,
    /// Namespace (`X-Vault-Namespace`).
    pub namespace: Option<String>,
    /// Where the engine is mounted.
    pub mount: String,
    /// Its role.
    pub role: String,
    /// How to get in.
    pub login: Login,
}

impl Settings {
    /// The server.
    pub(super) fn server(&self) -> Server {
        Server {
            address: self.address.clone(),
            roots: self.server_roots.clone(),
            namespace: self.namespace.clone(),
            login: self.login.clone(),
        }
    }
}
