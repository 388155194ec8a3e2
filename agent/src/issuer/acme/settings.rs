//! How a CA is to be asked: checked once.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Certificate;
use reqwest::Url;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Rehearsals of a set of names within the times of the limits: such servers count more, and nothing is in use of theirs.
const REHEARSALS: usize = 60;

/// How one CA is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it begins.
    pub directory: Directory,
    /// Where whole orders are tried of which nothing is taken into use.
    pub staging: Option<Staging>,
    /// Who vouches for the server's own TLS instead of the system's roots.
    pub server_roots: Option<Vec<Certificate>>,
    /// Where the CA may write to: `mailto:` URLs.
    pub contact: Vec<String>,
    /// The account elsewhere that ours is bound to (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// One of the kinds of certificates that the CA offers.
    pub profile: Option<String>,
    /// Common name of who signed the last certificate of the chain that is wanted, where the CA offers several
    /// (RFC 8555 §7.4.2). Where none is so, the first that it offers is taken.
    pub preferred_chain: Option<String>,
    /// Who is asked, before an order, whether names have addresses; nobody, if none.
    pub resolver: Option<SocketAddr>,
    /// How names are proven.
    pub challenge: Challenge,
    /// What is asked for at most.
    pub limits: Limits,
    /// How long is waited.
    pub patience: Patience,
}

/// A server that issues what nobody trusts, and does not mind being asked often.
#[derive(Clone, Debug)]
pub struct Staging {
    /// Where it begins.
    pub directory: Directory,
    /// Who vouches for the server's own TLS instead of the system's roots.
    pub server_roots: Option<Vec<Certificate>>,
}

/// URL of an ACME directory (RFC 8555 §7.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(Url);

/// An account that the CA knows from elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    key_id: String,
    key: Zeroizing<Vec<u8>>,
}

/// How names are proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A program that puts records into the DNS (RFC 8555 §8.4).
    Dns01Hook {
        /// The program and its first arguments. `present` or `cleanup`, the record's name and its value follow; none of
        /// these is secret. It returns when the CA can see the record.
        argv: Vec<String>,
        /// How long it may take; then it and everything that it started is killed.
        within: Duration,
        /// Servers that have to show the record before the CA is asked.
        check: Check,
    },
    /// Changes to a zone (RFC 2136).
    Dns01Update {
        /// Which, and where.
        update: Update,
        /// Servers that have to show the record before the CA is asked.
        check: Check,
    },
    /// A file behind a URL of the name (RFC 8555 §8.3). The CA comes to port 80 of the name.
    Http01 {
        /// Where to listen for the time of the proof.
        listen: SocketAddr,
    },
    /// A certificate that the name shows (RFC 8737). The CA comes to port 443 of the name.
    TlsAlpn01 {
        /// Where to listen for the time of the proof.
        listen: SocketAddr,
    },
}

/// Who has to show a record before the CA is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nobody.
    Off,
    /// Each of these, within the time.
    Servers(Vec<SocketAddr>, Duration),
    /// Each server that the zone names, within the time. Nobody for a hook, of which no zone is known.
    OfZone(Duration),
}

/// A zone that may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its primary server.
    pub server: SocketAddr,
    /// Its name.
    pub zone: String,
    /// What changes are signed with (RFC 8945).
    pub tsig: Option<Tsig>,
    /// Who is asked where a name of another zone leads to; `server` if nobody is named.
    pub resolver: Option<SocketAddr>,
}

/// A key that signs changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tsig {
    /// Its name, which both sides know.
    pub name: String,
    /// How it signs.
    pub algorithm: TsigAlgorithm,
    /// The key, base64.
    pub secret: Secret,
}

/// How changes are signed (RFC 8945 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    /// What every server can.
    #[default]
    HmacSha256,
    /// Longer.
    HmacSha384,
    /// The longest.
    HmacSha512,
}

impl Update {
    pub(super) fn resolver(&self) -> SocketAddr {
        self.resolver.unwrap_or(self.server)
    }
}

/// What is asked for at most. What goes beyond is refused here, before the CA refuses it for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many certificates with exactly the same names...
    pub certificates: usize,
    /// ...within so many seconds.
    pub certificates_within: i64,
    /// So many proofs of one name that failed...
    pub failures: usize,
    /// ...within so many seconds.
    pub failures_within: i64,
}

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For an answer, from the first byte sent to the last one read.
    pub answer: Duration,
    /// For the CA to come and validate, or to sign. What takes longer goes on with the next attempt.
    pub work: Duration,
}

/// Why a setting cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not the URL of a directory.
    #[error("`{url}` {why}")]
    Directory {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a key. It is not repeated.
    #[error("the key of the external account `{key_id}` is not base64url without padding, as CAs hand them out")]
    ExternalKey {
        /// Which.
        key_id: String,
    },
    /// Not a program.
    #[error("the hook `{}` is not an absolute path", path.display())]
    Hook {
        /// The program.
        path: PathBuf,
    },
    /// Not PEM.
    #[error("the roots of the CA's server are not certificates in PEM")]
    Roots,
}

impl Settings {
    /// These, and for the rest what suits a public CA.
    pub fn new(directory: Directory, challenge: Challenge) -> Self {
        Self {
            directory,
            staging: None,
            server_roots: None,
            contact: Vec::new(),
            external_account: None,
            profile: None,
            preferred_chain: None,
            resolver: None,
            challenge,
            limits: Limits::default(),
            patience: Patience::default(),
        }
    }

    /// The same at the server where it is tried, with an account of its own.
    pub(super) fn for_staging(&self) -> Option<Self> {
        let Staging { directory, server_roots } = self.staging.clone()?;
        let limits = Limits { certificates: REHEARSALS, failures: REHEARSALS, ..self.limits };
        // The account elsewhere and the names of roots are those of the other server.
        let (external_account, preferred_chain, staging) = (None, None, None);
        Some(Self { directory, server_roots, external_account, preferred_chain, staging, limits, ..self.clone() })
    }

    /// Trusts the roots of this PEM for the server's own TLS, and no others.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Roots`], also if there is none.
    pub fn trusting(self, pem: &str) -> Result<Self, SettingsError> {
        Ok(Self { server_roots: Some(roots(pem)?), ..self })
    }
}

impl Staging {
    /// At this directory. The roots of the PEM are trusted for the server's own TLS, or those of the system.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Roots`].
    pub fn new(directory: Directory, server_pem: Option<&str>) -> Result<Self, SettingsError> {
        Ok(Self { directory, server_roots: server_pem.map(roots).transpose()? })
    }
}

fn roots(pem: &str) -> Result<Vec<Certificate>, SettingsError> {
    let roots = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| SettingsError::Roots)?;
    if roots.is_empty() { Err(SettingsError::Roots) } else { Ok(roots) }
}

impl Directory {
    /// Takes an `https` URL.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Directory`].
    pub fn parse(url: &str) -> Result<Self, SettingsError> {
        let refused = |why| SettingsError::Directory { url: url.to_owned(), why };
        let parsed = Url::parse(url).map_err(|_| refused("is not a URL"))?;
        if parsed.scheme() != "https" {
            return Err(refused("is not `https`: accounts and orders go over TLS only (RFC 8555 §6.1)"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
            return Err(refused("has a user, a password or a fragment: only host, path and query are taken"));
        }
        Ok(Self(parsed))
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl ExternalAccount {
    /// Takes identifier and key (base64url) as the CA hands them out.
    ///
    /// # Errors
    ///
    /// [`SettingsError::ExternalKey`].
    pub fn new(key_id: String, key: &str) -> Result<Self, SettingsError> {
        match URL_SAFE_NO_PAD.decode(key.trim().trim_end_matches('=')) {
            Ok(key) if !key.is_empty() => Ok(Self { key_id, key: Zeroizing::new(key) }),
            _ => Err(SettingsError::ExternalKey { key_id }),
        }
    }

    /// For signing.
    pub(super) fn key(&self) -> instant_acme::ExternalAccountKey {
        instant_acme::ExternalAccountKey::new(self.key_id.clone(), &self.key)
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Challenge {
    /// A program that puts records into the DNS.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Hook`].
    pub fn dns_hook(argv: Vec<String>) -> Result<Self, SettingsError> {
        let path = PathBuf::from(argv.first().map(String::as_str).unwrap_or_default());
        if path.is_absolute() {
            Ok(Self::Dns01Hook { argv, within: Duration::from_secs(120), check: Check::Off })
        } else {
            Err(SettingsError::Hook { path })
        }
    }
}

impl Default for Limits {
    /// Those of Let's Encrypt.
    fn default() -> Self {
        Self { certificates: 5, certificates_within: 7 * 86_400, failures: 5, failures_within: 3_600 }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), answer: Duration::from_secs(30), work: Duration::from_secs(120) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_https_without_credentials() {
        for good in ["https://acme.example/directory", "https://127.0.0.1:14000/dir", "https://ca.example/x?y=z"] {
            assert_eq!(Directory::parse(good).map(|found| found.url().to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "acme.example", "http://127.0.0.1/dir", "https://u@ca.example/", "https://ca.example/#x"] {
            assert!(Directory::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_of_an_external_account_is_never_shown() {
        let account = ExternalAccount::new("kid-1".to_owned(), "c2VjcmV0IGtleQ").expect("a key");
        assert_eq!(format!("{account:?}"), r#"ExternalAccount { key_id: "kid-1", .. }"#);
        let error = ExternalAccount::new("kid-1".to_owned(), "s3cret!").expect_err("not base64url");
        assert!(!error.to_string().contains("s3cret"));
    }
}
