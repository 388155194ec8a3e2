//! Where the programs under test are.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::EnvironmentError;

/// Nothing but a measurement needs these.
const INSTALL_PEERS: &str = "./just bench-issuance";

/// The programs and files that are put together; all of them exist.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The real Envoy.
    pub envoy: PathBuf,
    /// The agent.
    pub agent: PathBuf,
    /// The filter.
    pub filter: PathBuf,
}

/// A program of a Debian package, unpacked and not installed.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What is run.
    pub run: PathBuf,
    /// What then runs.
    pub exe: PathBuf,
}

impl Programs {
    /// Finds them: `$ENVOY`, `$PORTCULLIS` and `$PORTCULLIS_WASM`, or where the recipes leave them.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::ProgramMissing`], which names the recipe.
    pub fn find() -> Result<Self, EnvironmentError> {
        Ok(Self { envoy: envoy()?, agent: agent()?, filter: filter()? })
    }
}

/// The real Envoy.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn envoy() -> Result<PathBuf, EnvironmentError> {
    find("envoy", "ENVOY", ".tools/envoy", "./just install")
}

/// The agent.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn agent() -> Result<PathBuf, EnvironmentError> {
    find("the agent", "PORTCULLIS", "dist/portcullis", "./just build")
}

/// The filter.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn filter() -> Result<PathBuf, EnvironmentError> {
    find("the filter", "PORTCULLIS_WASM", "dist/portcullis.wasm", "./just build")
}

/// The folder with PostgreSQL's programs.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn postgres() -> Result<PathBuf, EnvironmentError> {
    let folder = env::var_os("POSTGRES").map_or_else(|| checkout().join(".tools/postgres"), PathBuf::from);
    let is_whole = ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).is_file());
    let found = fs::canonicalize(&folder).ok().filter(|_| is_whole);
    found.ok_or(EnvironmentError::ProgramMissing {
        what: "PostgreSQL (a folder with `initdb`, `postgres` and `psql`)",
        path: folder,
        variable: "POSTGRES",
        remedy: "./just install",
    })
}

/// nginx.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn nginx() -> Result<Unpacked, EnvironmentError> {
    unpacked("nginx", "NGINX", ".tools/nginx", ".tools/debian/usr/sbin/nginx")
}

/// HAProxy.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn haproxy() -> Result<Unpacked, EnvironmentError> {
    unpacked("haproxy", "HAPROXY", ".tools/haproxy", ".tools/debian/usr/sbin/haproxy")
}

/// Knot DNS.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn knot() -> Result<PathBuf, EnvironmentError> {
    find("Knot DNS", "KNOT", ".tools/knot", "./just install")
}

/// OpenBao.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn openbao() -> Result<PathBuf, EnvironmentError> {
    find("OpenBao", "BAO", ".tools/bao", "./just install")
}

/// Redis.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn redis() -> Result<PathBuf, EnvironmentError> {
    find("Redis", "REDIS", ".tools/redis", "./just install")
}

/// Pebble, the ACME server.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn pebble() -> Result<PathBuf, EnvironmentError> {
    find("Pebble", "PEBBLE", ".tools/pebble/usr/bin/pebble", "./just install")
}

/// The DNS that comes with Pebble: beside it.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn challenge_server() -> Result<PathBuf, EnvironmentError> {
    let path = pebble()?.with_file_name("pebble-challtestsrv");
    let (what, variable, remedy) = ("`pebble-challtestsrv`, beside Pebble,", "PEBBLE", "./just install");
    if path.is_file() { Ok(path) } else { Err(EnvironmentError::ProgramMissing { what, path, variable, remedy }) }
}

/// lego, to measure against.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn lego() -> Result<PathBuf, EnvironmentError> {
    find("lego", "LEGO", ".tools/lego", INSTALL_PEERS)
}

/// Caddy, to measure against.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn caddy() -> Result<PathBuf, EnvironmentError> {
    find("Caddy", "CADDY", ".tools/caddy", INSTALL_PEERS)
}

/// certbot, to measure against.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn certbot() -> Result<PathBuf, EnvironmentError> {
    find("certbot", "CERTBOT", ".tools/certbot", INSTALL_PEERS)
}

/// A filter that does nothing, to measure against.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn empty_filter() -> Result<PathBuf, EnvironmentError> {
    find("the empty filter", "EMPTY_WASM", "dist/empty.wasm", "./just build")
}

/// A wall clock to preload into a program.
///
/// # Errors
///
/// [`EnvironmentError::ProgramMissing`].
pub fn stepped_clock() -> Result<PathBuf, EnvironmentError> {
    find("the clock that can be set", "STEPPED_CLOCK_LIBRARY", "dist/stepped-clock.so", "./just build")
}

/// The checkout that this was built from: where `envoy-config` and `dist` are.
pub fn checkout() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_owned()
}

fn unpacked(
    what: &'static str,
    variable: &'static str,
    place: &str,
    behind: &str,
) -> Result<Unpacked, EnvironmentError> {
    let run = find(what, variable, place, "./just install")?;
    // Somebody's own is run as it is; ours by a script that brings the libraries.
    let behind = if env::var_os(variable).is_some() { run.clone() } else { checkout().join(behind) };
    let file = |source| EnvironmentError::File { doing: "find the program behind", path: run.clone(), source };
    let exe = fs::canonicalize(behind).map_err(file)?;
    Ok(Unpacked { run, exe })
}

fn find(
    what: &'static str,
    variable: &'static str,
    place: &str,
    remedy: &'static str,
) -> Result<PathBuf, EnvironmentError> {
    let path = env::var_os(variable).map_or_else(|| checkout().join(place), PathBuf::from);
    if path.is_file() { Ok(path) } else { Err(EnvironmentError::ProgramMissing { what, path, variable, remedy }) }
}
