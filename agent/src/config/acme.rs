//! How an ACME server is to be asked, as far as a configuration says.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::check::Check;
use super::raw;
use crate::issuer::acme::Challenge;
use crate::issuer::acme::Directory;
use crate::issuer::acme::ExternalAccount;
use crate::issuer::acme::Limits;
use crate::issuer::acme::Settings;
use crate::issuer::acme::SettingsError;
use crate::issuer::acme::Staging;
use crate::secret::Secret;
use crate::yaml::Located;

/// One ACME server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    directory: Directory,
    /// Where orders are rehearsed, and PEM of who vouches for it.
    staging: Option<(Directory, Option<String>)>,
    /// PEM.
    server_ca: Option<String>,
    contact: Vec<String>,
    external_account: Option<ExternalAccount>,
    profile: Option<String>,
    preferred_chain: Option<String>,
    resolver: Option<SocketAddr>,
    challenge: Challenge,
    limits: Limits,
}

impl Acme {
    /// For a client.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Roots`].
    pub(crate) fn settings(&self) -> Result<Settings, SettingsError> {
        let staging = self.staging.as_ref();
        let staging = staging.map(|(directory, pem)| Staging::new(directory.clone(), pem.as_deref())).transpose()?;
        let settings = Settings {
            staging,
            contact: self.contact.clone(),
            external_account: self.external_account.clone(),
            profile: self.profile.clone(),
            preferred_chain: self.preferred_chain.clone(),
            resolver: self.resolver,
            limits: self.limits,
            ..Settings::new(self.directory.clone(), self.challenge.clone())
        };
        match &self.server_ca {
            Some(pem) => settings.trusting(pem),
            None => Ok(settings),
        }
    }
}

impl Check<'_> {
    pub(super) fn acme(&self, raw: raw::Acme, field: &str) -> Result<Acme, Located> {
        let refuse = |name: &str, error: &SettingsError| self.bad(&format!("{field}.{name}"), &error.to_string());
        let directory = Directory::parse(&raw.directory).map_err(|error| refuse("directory", &error))?;
        let server_ca = self.server_ca(raw.server_ca.as_deref(), &format!("{field}.server_ca"))?;
        let staging = match raw.staging {
            None => None,
            Some(staging) => {
                let directory =
                    Directory::parse(&staging.directory).map_err(|error| refuse("staging.directory", &error))?;
                let place = format!("{field}.staging.server_ca");
                // Where nothing is said, whoever vouches for the one server does for the other.
                let pem = self.server_ca(staging.server_ca.as_deref(), &place)?.or_else(|| server_ca.clone());
                Some((directory, pem))
            }
        };
        if staging.as_ref().is_some_and(|(other, _)| *other == directory) {
            let message = "it is another server than `directory`: what is tried there is not to count here";
            return Err(self.bad(&format!("{field}.staging.directory"), message));
        }
        for (at, contact) in raw.contact.iter().enumerate() {
            // RFC 8555 §7.3: a URL; servers take mail.
            if !contact.starts_with("mailto:") || !contact.contains('@') {
                let message = format!("`{contact}` is not a contact, as in `mailto:ops@acme.example`");
                return Err(self.bad(&format!("{field}.contact[{at}]"), &message));
            }
        }
        let external_account = match raw.external_account {
            None => None,
            Some(account) => {
                let path = self.path(&account.key_file);
                let place = format!("{field}.external_account.key_file");
                let key = Secret::read(&path)
                    .map_err(|error| self.bad(&place, &format!("`{}` cannot be read: {error}", path.display())))?;
                let account = ExternalAccount::new(account.key_id, key.expose());
                Some(account.map_err(|error| self.bad(&place, &error.to_string()))?)
            }
        };
        let challenge = self.challenge(raw.challenge, &format!("{field}.challenge"))?;
        let resolver = raw.resolver.map(|given| self.server_at(&given, &format!("{field}.resolver"))).transpose()?;
        let mut limits = Limits::default();
        if let Some(certificates) = raw.certificates_a_week {
            limits.certificates = certificates;
        }
        let acme = Acme {
            directory,
            staging,
            server_ca,
            contact: raw.contact,
            external_account,
            profile: raw.profile,
            preferred_chain: raw.preferred_chain,
            resolver,
            challenge,
            limits,
        };
        acme.settings().map_err(|error| refuse("server_ca", &error))?;
        Ok(acme)
    }

    fn server_ca(&self, file: Option<&Path>, field: &str) -> Result<Option<String>, Located> {
        let Some(file) = file else { return Ok(None) };
        let path = self.path(file);
        let pem = fs::read_to_string(&path)
            .map_err(|error| self.bad(field, &format!("`{}` cannot be read: {error}", path.display())))?;
        Ok(Some(pem))
    }

    fn challenge(&self, raw: raw::Challenge, field: &str) -> Result<Challenge, Located> {
        let listen = |given: &str, name: &str| -> Result<SocketAddr, Located> {
            given.parse().map_err(|_| {
                let message = format!("`{given}` is not an IP address with a port, as in `0.0.0.0:80`");
                self.bad(&format!("{field}.{name}"), &message)
            })
        };
        Ok(match raw {
            raw::Challenge::Http01(given) => Challenge::Http01 { listen: listen(&given, "http01")? },
            raw::Challenge::TlsAlpn01(given) => Challenge::TlsAlpn01 { listen: listen(&given, "tls_alpn01")? },
            raw::Challenge::Dns01(given) => self.dns01(given, &format!("{field}.dns01"))?,
        })
    }
}
