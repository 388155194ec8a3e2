//! What the stories with a database share: accounts that rotate, in the agent's configuration.

use std::path::PathBuf;

use crate::environment;
use crate::environment::Environment;
use crate::environment::EnvironmentError;
use crate::environment::Postgres;
use crate::environment::Settings;

/// Who sets passwords; no superuser.
pub(super) const ADMINISTRATOR: &str = "keeper";
pub(super) const PASSWORD: &str = "keeper of the story";

/// A database whose accounts `NAME_a` and `NAME_b` belong to the administrator, for each name.
pub(super) async fn postgres(names: &[String]) -> Result<Postgres, EnvironmentError> {
    let server = Postgres::start_with_passwords().await?;
    server.ask(&format!("CREATE ROLE {ADMINISTRATOR} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")).await?;
    for name in names {
        let roles = format!("SET ROLE {ADMINISTRATOR}; CREATE ROLE {name}_a LOGIN; CREATE ROLE {name}_b LOGIN");
        server.ask(&roles).await?;
    }
    Ok(server)
}

/// The agent's configuration with these credentials in it, and a file with the administrator's password beside it.
pub(super) fn settings(credentials: &str, more: &[(&'static str, String)]) -> Settings {
    let mut agent_config =
        vec![("\nbundles:\n", format!("\nverify_every: 1s\ncredentials:\n{credentials}\nbundles:\n"))];
    agent_config.extend(more.iter().cloned());
    Settings { agent_config, ..Settings::default() }
}

/// Two accounts that alternate, in PostgreSQL.
pub(super) fn alternating(name: &str, server: &Postgres, password: &str, retire: &str) -> String {
    format!(
        "  - name: {name}
    source: {{ password: {{}} }}
    set_on: {{ postgres: {{ address: \"{}\", user: {ADMINISTRATOR}, password_file: \"{password}\" }} }}
    accounts: [{name}_a, {name}_b]
    {retire}
{}",
        server.address(),
        login_file(name),
    )
}

/// A file for a consumer.
pub(super) fn login_file(name: &str) -> String {
    format!(
        "    files:
      directory: logins/{name}
      write: [{{ name: login.json, as: {{ json: {{ account: \"{{account}}\", secret: \"{{secret}}\" }} }} }}]
"
    )
}

/// Where it is.
pub(super) fn file_of(environment: &Environment, name: &str) -> PathBuf {
    environment.directory().join(format!("logins/{name}/login.json"))
}

/// A file with a secret, and the directory that it goes with.
pub(super) fn secret_file(text: &str) -> Result<(tempfile::TempDir, String), EnvironmentError> {
    let directory = tempfile::tempdir().map_err(|source| EnvironmentError::File {
        doing: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    let file = directory.path().join("secret");
    environment::write(&file, text)?;
    let shown = file.display().to_string();
    Ok((directory, shown))
}
