//! The real OpenBao as a child process: a PKI engine with an intermediate, and ways to log in.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::Client;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::EnvironmentError;
use super::Process;
use super::ports;
use super::programs;
use super::wait;

const ROOT_TOKEN: &str = "root-of-the-tests";
const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(20);
/// Where the engine that signs is, and its role.
const MOUNT: &str = "pki_int";
/// The role that signs for everything below `acme.example`.
const ROLE: &str = "gateway";

/// A running OpenBao with TLS of its own. It keeps everything in memory.
#[derive(Debug)]
pub struct OpenBao {
    process: Process,
    address: String,
    client: Client,
    root_pem: String,
    directory: TempDir,
}

impl OpenBao {
    /// Starts it and sets up the engine, a policy that may use it, and AppRole and certificate logins.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], with its last words.
    pub async fn start() -> Result<Self, EnvironmentError> {
        // What its clients shake hands with; set already where another story was told before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let program = programs::openbao()?;
        let file = |doing| move |source| EnvironmentError::File { doing, path: std::env::temp_dir(), source };
        let directory = tempfile::tempdir().map_err(file("create a directory in"))?;
        // Others of a cluster come to the next port.
        let listen = ports::row(2)?;
        let mut serve = Command::new(program);
        serve.args(["server", "-dev", "-dev-tls", "-dev-no-store-token"]);
        serve.arg(format!("-dev-tls-cert-dir={}", directory.path().display()));
        serve.arg(format!("-dev-root-token-id={ROOT_TOKEN}")).arg(format!("-dev-listen-address={listen}"));
        serve.env("HOME", directory.path());
        let process = Process::start("OpenBao", &mut serve, directory.path().join("bao.log"))?;
        let mut bao = Self {
            process,
            address: format!("https://{listen}"),
            client: Client::new(),
            root_pem: String::new(),
            directory,
        };
        bao.ready().await?;
        bao.set_up().await?;
        Ok(bao)
    }

    /// `https://127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// File of the CA that vouches for its own TLS.
    pub fn server_ca(&self) -> PathBuf {
        self.directory.path().join("vault-ca.pem")
    }

    /// The root that its certificates lead to.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A directory of its own for files with secrets.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a token that may use the engine into a file.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn token_file(&self, ttl: &str) -> Result<PathBuf, EnvironmentError> {
        let body = json!({ "policies": [ROLE], "ttl": ttl, "renewable": true });
        let answer = self.ask(Method::POST, "auth/token/create", Some(body)).await?;
        self.write("token", text(&answer, "/auth/client_token"))
    }

    /// The role's identifier, and a file with its secret.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn app_role(&self) -> Result<(String, PathBuf), EnvironmentError> {
        let id = self.ask(Method::GET, "auth/approle/role/agent/role-id", None).await?;
        let secret = self.ask(Method::POST, "auth/approle/role/agent/secret-id", Some(json!({}))).await?;
        let file = self.write("secret-id", text(&secret, "/data/secret_id"))?;
        Ok((text(&id, "/data/role_id").to_owned(), file))
    }

    /// Lets in who shows this certificate.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn trust_client(&self, certificate_pem: &str) -> Result<(), EnvironmentError> {
        let body = json!({ "certificate": certificate_pem, "token_policies": [ROLE] });
        self.ask(Method::POST, "auth/cert/certs/agent", Some(body)).await.map(drop)
    }

    /// Has each login of the AppRole last so long, and so long at most.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn logins_last(&self, ttl: &str, at_most: &str) -> Result<(), EnvironmentError> {
        let body = json!({ "token_policies": [ROLE], "token_ttl": ttl, "token_max_ttl": at_most });
        self.ask(Method::POST, "auth/approle/role/agent", Some(body)).await.map(drop)
    }

    /// Ends every login of the AppRole, and all that was lent to it.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn end_logins(&self) -> Result<(), EnvironmentError> {
        self.ask(Method::PUT, "sys/leases/revoke-prefix/auth/approle/login", None).await.map(drop)
    }

    /// Writes a pair into the key-value engine, which is mounted at `secret`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn put(&self, name: &str, data: Value) -> Result<(), EnvironmentError> {
        self.ask(Method::POST, &format!("secret/data/{name}"), Some(json!({ "data": data }))).await.map(drop)
    }

    /// Mounts the database engine at `database`, with this PostgreSQL behind it and somebody there who may make roles.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn database(&self, address: SocketAddr, user: &str, password: &str) -> Result<(), EnvironmentError> {
        self.ask(Method::POST, "sys/mounts/database", Some(json!({ "type": "database" }))).await?;
        let url = format!("postgresql://{{{{username}}}}:{{{{password}}}}@{address}/postgres?sslmode=disable");
        let config = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": ["*"], "connection_url": url,
            "username": user, "password": password,
        });
        self.ask(Method::POST, "database/config/postgres", Some(config)).await.map(drop)
    }

    /// Has the database engine make accounts that last so long, and so long at most.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn lend(&self, role: &str, ttl: &str, at_most: &str) -> Result<(), EnvironmentError> {
        let make = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
        let body = json!({
            "db_name": "postgres", "creation_statements": [make], "default_ttl": ttl, "max_ttl": at_most,
        });
        self.ask(Method::POST, &format!("database/roles/{role}"), Some(body)).await.map(drop)
    }

    /// Has the database engine change an account's password again and again.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn rotate(&self, role: &str, account: &str, period: &str) -> Result<(), EnvironmentError> {
        let body = json!({ "db_name": "postgres", "username": account, "rotation_period": period });
        self.ask(Method::POST, &format!("database/static-roles/{role}"), Some(body)).await.map(drop)
    }

    /// Closes it: every request is a 503 from then on.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn seal(&self) -> Result<(), EnvironmentError> {
        self.ask(Method::PUT, "sys/seal", None).await.map(drop)
    }

    /// Opens it again.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub async fn unseal(&self) -> Result<(), EnvironmentError> {
        // It says so a moment after it answers.
        let key = wait::until("OpenBao's key", START, async || {
            let log = self.process.log();
            let key = log.lines().find_map(|line| line.trim().strip_prefix("Unseal Key: ").map(str::to_owned));
            key.ok_or("nothing")
        });
        let key = key.await?;
        self.ask(Method::PUT, "sys/unseal", Some(json!({ "key": key.trim() }))).await.map(drop)
    }

    /// Asks its API with the root's token.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Command`], with its words.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, EnvironmentError> {
        let failed = |log: String| EnvironmentError::Refused { what: format!("OpenBao refused `{path}`"), words: log };
        let request = self.client.request(method, format!("{}/v1/{path}", self.address));
        let request = request.header("X-Vault-Token", ROOT_TOKEN).json(&body.unwrap_or_else(|| json!({})));
        let answer = request.send().await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let words = answer.text().await.map_err(|error| failed(error.to_string()))?;
        if !status.is_success() {
            return Err(failed(format!("{status}: {words}")));
        }
        Ok(serde_json::from_str(&words).unwrap_or_default())
    }

    async fn ready(&mut self) -> Result<(), EnvironmentError> {
        let ca = self.server_ca();
        let mut ended = None;
        let mut client = None;
        let waited = wait::until("OpenBao to answer", START, async || {
            if let Err(error) = self.process.check_running() {
                ended = Some(error);
                return Ok::<_, EnvironmentError>(());
            }
            let file = |source| EnvironmentError::File { doing: "read", path: ca.clone(), source };
            let pem = fs::read(&ca).map_err(file)?;
            let refused =
                |words: String| EnvironmentError::Refused { what: "OpenBao is not there yet".to_owned(), words };
            let root = Certificate::from_pem(&pem).map_err(|error| refused(error.to_string()))?;
            let builder = Client::builder().no_proxy().timeout(ANSWER).tls_certs_only([root]);
            let made = builder.build().map_err(|error| refused(error.to_string()))?;
            let health = made.get(format!("{}/v1/sys/health", self.address)).send().await;
            health.and_then(reqwest::Response::error_for_status).map_err(|error| refused(error.to_string()))?;
            client = Some(made);
            Ok(())
        });
        let waited = waited.await;
        if let Some(error) = ended {
            return Err(error);
        }
        waited?;
        self.client = client.unwrap_or_default();
        Ok(())
    }

    async fn set_up(&mut self) -> Result<(), EnvironmentError> {
        let post = async |path: &str, body: Value| self.ask(Method::POST, path, Some(body)).await;
        let long = json!({ "max_lease_ttl": "87600h" });
        post("sys/mounts/pki", json!({ "type": "pki", "config": long })).await?;
        post(&format!("sys/mounts/{MOUNT}"), json!({ "type": "pki", "config": long })).await?;
        let key = json!({ "key_type": "ec", "key_bits": 256 });
        let with = |more: Value| {
            let mut body = key.clone();
            let fields = more.as_object().cloned().unwrap_or_default();
            body.as_object_mut().into_iter().for_each(|body| body.extend(fields.clone()));
            body
        };
        let root = with(json!({ "common_name": "Tests Root", "ttl": "87600h" }));
        let root = post("pki/root/generate/internal", root).await?;
        let root_pem = text(&root, "/data/certificate").to_owned() + "\n";
        let csr = with(json!({ "common_name": "Tests Intermediate" }));
        let csr = post(&format!("{MOUNT}/intermediate/generate/internal"), csr).await?;
        let sign = json!({ "csr": text(&csr, "/data/csr"), "common_name": "Tests Intermediate", "ttl": "43800h", "format": "pem" });
        let signed = post("pki/root/sign-intermediate", sign).await?;
        let bundle = format!("{}\n{root_pem}", text(&signed, "/data/certificate"));
        post(&format!("{MOUNT}/intermediate/set-signed"), json!({ "certificate": bundle })).await?;
        let role = json!({
            "allowed_domains": ["acme.example", "localhost"], "allow_subdomains": true, "allow_bare_domains": true,
            "allow_ip_sans": true, "allowed_uri_sans": ["spiffe://acme.example/*"], "require_cn": false,
            "key_type": "any", "max_ttl": "720h", "use_csr_sans": false, "use_csr_common_name": false,
        });
        post(&format!("{MOUNT}/roles/{ROLE}"), role).await?;
        let rule = |(path, may): (&str, &str)| format!("path \"{path}\" {{ capabilities = [\"{may}\"] }}\n");
        let policy: String = [
            (format!("{MOUNT}/sign/{ROLE}").as_str(), "update"),
            ("secret/data/*", "read"),
            ("database/creds/*", "read"),
            ("database/static-creds/*", "read"),
            ("sys/leases/renew", "update"),
            ("sys/leases/revoke", "update"),
        ]
        .map(rule)
        .concat();
        post(&format!("sys/policies/acl/{ROLE}"), json!({ "policy": policy })).await?;
        post("sys/auth/approle", json!({ "type": "approle" })).await?;
        post("auth/approle/role/agent", json!({ "token_policies": [ROLE], "token_ttl": "30m" })).await?;
        post("sys/auth/cert", json!({ "type": "cert" })).await?;
        self.root_pem = root_pem;
        Ok(())
    }

    fn write(&self, name: &str, secret: &str) -> Result<PathBuf, EnvironmentError> {
        let path = self.directory.path().join(name);
        let written = fs::write(&path, format!("{secret}\n"));
        written.map_err(|source| EnvironmentError::File { doing: "write", path: path.clone(), source })?;
        Ok(path)
    }
}

fn text<'a>(answer: &'a Value, pointer: &str) -> &'a str {
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
