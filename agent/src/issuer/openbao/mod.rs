//! The PKI engine of OpenBao or HashiCorp Vault: a certificate request goes there, a chain comes back. The key stays here.

mod settings;

use portcullis_policy::UnixTime;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

pub use settings::Settings;

use super::Request;
use super::csr;
use super::csr::CsrError;
use crate::leaf;
use crate::openbao;
pub use crate::openbao::BaoError;
pub use crate::openbao::Login;

/// One PKI engine and how to get in.
pub struct OpenBao {
    settings: Settings,
    bao: openbao::OpenBao,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The server, or the way there.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// The request could not be made.
    #[error(transparent)]
    Csr(#[from] CsrError),
}

impl SignError {
    /// Until when the server asked to be left alone.
    pub fn retry_after(&self) -> Option<UnixTime> {
        if let Self::Bao(error) = self { error.retry_after() } else { None }
    }
}

impl OpenBao {
    /// Reads the server's roots, and asks nobody.
    ///
    /// # Errors
    ///
    /// [`BaoError`].
    pub fn new(settings: Settings) -> Result<Self, BaoError> {
        Ok(Self { bao: openbao::OpenBao::new(settings.server())?, settings })
    }

    /// Has a request signed. Asked again after a crash it signs again: the engine has no orders to come back to, and the first
    /// certificate is used by nobody.
    ///
    /// # Errors
    ///
    /// [`SignError`].
    pub async fn sign(&self, request: &Request) -> Result<String, SignError> {
        let path = format!("{}/sign/{}", self.settings.mount, self.settings.role);
        let answer = self.bao.ask(Method::POST, &path, Some(&sign_body(request)?)).await?;
        let wanted = "a certificate in `data.certificate`";
        Ok(chain(&answer.body).ok_or(BaoError::Malformed { path, wanted })?)
    }

    /// Asks for its health, whatever that is, and says by how many seconds its clock is ahead of ours; none if it does not say.
    ///
    /// # Errors
    ///
    /// [`BaoError::Connect`].
    pub async fn ask_clock(&self) -> Result<Option<i64>, SignError> {
        Ok(self.bao.ask_clock().await?)
    }
}

/// The body of `sign`: the engine takes names from here or from the request, and uses from itself, as its role says.
fn sign_body(request: &Request) -> Result<Value, CsrError> {
    let names = &request.names;
    let alternative: Vec<&str> = names.dns().iter().map(String::as_str).collect();
    let addresses: Vec<String> = names.ip().iter().map(ToString::to_string).collect();
    Ok(json!({
        "csr": csr::pem(request)?,
        "common_name": names.dns().first().map_or("", String::as_str),
        "alt_names": alternative.join(","),
        "ip_sans": addresses.join(","),
        "uri_sans": names.spiffe().unwrap_or_default(),
        // The name is asked for once, as an alternative name.
        "exclude_cn_from_sans": true,
        "ttl": format!("{}s", request.lifetime),
        "format": "pem",
    }))
}

/// Leaf and intermediates; a CA that signed itself is the root, which peers have.
fn chain(answer: &Value) -> Option<String> {
    let data = answer.get("data")?;
    let mut chain = data.get("certificate")?.as_str()?.trim().to_owned();
    chain.push('\n');
    let above = data.get("ca_chain").and_then(Value::as_array).cloned().unwrap_or_default();
    for certificate in above.iter().filter_map(Value::as_str) {
        let der = leaf::chain(certificate).ok()?;
        if der.iter().all(|der| leaf::is_self_issued(der)) {
            continue;
        }
        chain.push_str(certificate.trim());
        chain.push('\n');
    }
    Some(chain)
}
