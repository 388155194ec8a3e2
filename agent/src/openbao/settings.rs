//! Where a server is, and how to get in.

use std::path::PathBuf;

use reqwest::Url;
use rustls::pki_types::CertificateDer;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `https://bao.acme.example:8200`; `http` to loopback only.
    pub address: Url,
    /// Authorities that may vouch for it; the system's where there is none.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Namespace (`X-Vault-Namespace`).
    pub namespace: Option<String>,
    /// How to get in.
    pub login: Login,
}

/// How the agent shows who it is. Secrets stay in their files, which are read anew with each login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A role and its secret (`auth/approle`).
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// Identifies the role; not a secret.
        role_id: String,
        /// The file that holds the secret.
        secret_id: PathBuf,
    },
    /// A TLS client certificate (`auth/cert`).
    Certificate {
        /// Where the method is mounted.
        mount: String,
        /// Which of the engine's certificate roles; it looks for one itself where there is none.
        role: Option<String>,
        /// Chain in PEM.
        certificate: PathBuf,
        /// Key in PEM.
        key: PathBuf,
    },
    /// A token that somebody else made.
    Token {
        /// The file that holds it.
        file: PathBuf,
    },
}
