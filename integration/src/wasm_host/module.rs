//! A module, compiled once.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Cache;
use wasmtime::CacheConfig;
use wasmtime::Config;
use wasmtime::Engine;
use wasmtime::ExternType;
use wasmtime::InstancePre;
use wasmtime::Linker;
use wasmtime::OptLevel;
use wasmtime::Store;
use wasmtime::Val;

use super::capabilities::Capabilities;
use super::capabilities::CapabilityError;
use super::imports;
use super::state::HostState;
use super::status::Status;
use super::wasi;

/// The export by which a module says that it speaks the ABI of this host.
const ABI: &str = "proxy_abi_version_0_2_1";

/// A compiled module, ready to be started any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    instance: InstancePre<HostState>,
    capabilities: Arc<Capabilities>,
}

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there or cannot be read.
    #[error("cannot read the module `{}`: build it with `./just build-filter`, or name another one in PORTCULLIS_WASM", path.display())]
    Read {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: io::Error,
    },
    /// Not a Wasm module, or one that wasmtime refuses.
    #[error("the module does not compile")]
    Compile(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The shipped configuration does not say what the module may call.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// It speaks another ABI.
    #[error("the module does not export `{ABI}`")]
    Abi,
    /// It wants what a proxy-wasm host does not have.
    #[error("the module imports what no proxy-wasm host has: `{}`", .0.join("`, `"))]
    UnknownImports(Vec<String>),
}

impl Module {
    /// The filter under test: `PORTCULLIS_WASM`, else `dist/portcullis.wasm` of this checkout. It has the capabilities that
    /// the shipped configuration gives it.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which says how to build the module if it is missing.
    pub fn under_test() -> Result<Self, LoadError> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
        let capabilities = Capabilities::from_envoy_config(&checkout.join("envoy-config/filter-static.yaml"))?;
        let path = env::var_os("PORTCULLIS_WASM").map_or_else(|| checkout.join("dist/portcullis.wasm"), PathBuf::from);
        let bytes = fs::read(&path).map_err(|source| LoadError::Read { path, source })?;
        Self::new(&bytes, capabilities)
    }

    /// Compiles a module, or finds it in the cache of an earlier run.
    ///
    /// # Errors
    ///
    /// [`LoadError`], of those kinds that are about the module's bytes.
    pub fn new(bytes: &[u8], capabilities: Capabilities) -> Result<Self, LoadError> {
        let compile = |error: wasmtime::Error| LoadError::Compile(error.into_boxed_dyn_error());
        let engine = engine().map_err(compile)?;
        let module = wasmtime::Module::new(&engine, bytes).map_err(compile)?;
        if module.get_export(ABI).is_none() {
            return Err(LoadError::Abi);
        }
        let capabilities = Arc::new(capabilities);
        let linker = linker(&engine, &module, &capabilities)?;
        let instance = linker.instantiate_pre(&module).map_err(compile)?;
        Ok(Self { instance, capabilities })
    }

    pub(crate) fn instance(&self) -> &InstancePre<HostState> {
        &self.instance
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// Compiled code is kept below `target`, so that only the first run after a build compiles; it is compiled fast and runs
/// slowly, because the stories run little of it.
fn engine() -> Result<Engine, wasmtime::Error> {
    let mut cache = CacheConfig::new();
    cache.with_directory(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasmtime-cache"));
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::None).cache(Some(Cache::new(cache)?));
    Engine::new(&config)
}

/// Gives each import of the module what it is in Envoy: the call, a refusal, or nothing.
fn linker(
    engine: &Engine,
    module: &wasmtime::Module,
    capabilities: &Arc<Capabilities>,
) -> Result<Linker<HostState>, LoadError> {
    let compile = |error: wasmtime::Error| LoadError::Compile(error.into_boxed_dyn_error());
    let mut supported = Linker::new(engine);
    imports::define(&mut supported).map_err(compile)?;
    wasi::define(&mut supported).map_err(compile)?;
    supported.allow_shadowing(true);
    let mut scratch = Store::new(engine, HostState::new(0));
    let known: BTreeSet<(String, String)> =
        supported.iter(&mut scratch).map(|(from, name, _)| (from.to_owned(), name.to_owned())).collect();
    let mut unknown = BTreeSet::new();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let (unsupported, refusal) = match from {
            imports::MODULE => (imports::UNSUPPORTED, Status::InternalFailure.code()),
            wasi::MODULE => (wasi::UNSUPPORTED, wasi::ENOTCAPABLE),
            _ => (&[][..], 0),
        };
        let ExternType::Func(function) = import.ty() else {
            unknown.insert(format!("{from}.{name}"));
            continue;
        };
        let is_unsupported = unsupported.contains(&name);
        if !is_unsupported && !known.contains(&(from.to_owned(), name.to_owned())) {
            unknown.insert(format!("{from}.{name}"));
            continue;
        }
        let is_permitted = capabilities.permit(name);
        if is_permitted && !is_unsupported {
            continue;
        }
        let violation = if is_permitted {
            format!("the module calls `{name}`, which this host does not have")
        } else {
            format!("the module calls `{name}`, which the capability restriction does not permit")
        };
        // Envoy gives WASI calls without a file system an error, and no module can be blamed for trying.
        let is_violation = !is_permitted || from == imports::MODULE;
        let is_last_word = from == wasi::MODULE;
        let answer = if is_permitted && from == wasi::MODULE { wasi::ENOSYS } else { refusal };
        supported
            .func_new(from, name, function, move |mut caller, _, results| {
                let state: &mut HostState = caller.data_mut();
                if is_violation && !(is_last_word && state.is_starved) {
                    state.violation(violation.clone());
                }
                results.iter_mut().for_each(|result| *result = Val::I32(answer));
                Ok(())
            })
            .map_err(compile)?;
    }
    if unknown.is_empty() { Ok(supported) } else { Err(LoadError::UnknownImports(unknown.into_iter().collect())) }
}
