//! The part of WASI that Envoy's host gives a module: output, clock, random numbers, an empty environment.
//!
//! The other calls of `wasi_snapshot_preview1` can be imported; Envoy answers them with an error, and so does this host.

use wasmtime::Caller;
use wasmtime::Linker;
use wasmtime::Result;
use wasmtime::bail;

use super::memory;
use super::state::HostState;
use super::state::LogLevel;
use super::state::LogLine;
use super::status::HostResult;
use super::status::Status;

pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// Calls that can be imported and answer `ENOSYS`.
pub(crate) const UNSUPPORTED: &[&str] = &[
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_raise",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// `ENOSYS` of WASI.
pub(crate) const ENOSYS: i32 = 52;
/// `ENOTCAPABLE` of WASI: what Envoy answers for a call that the configuration does not permit.
pub(crate) const ENOTCAPABLE: i32 = 76;
const EBADF: i32 = 8;
const EFAULT: i32 = 21;
const EINVAL: i32 = 28;

/// Most random bytes that Envoy's host gives at once.
const RANDOM_MAX: usize = 64 * 1024;

type Host<'a> = Caller<'a, HostState>;

pub(crate) fn define(linker: &mut Linker<HostState>) -> Result<()> {
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap(MODULE, "environ_get", |_: i32, _: i32| 0)?;
    linker.func_wrap(MODULE, "environ_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "args_get", |_: i32, _: i32| 0)?;
    linker.func_wrap(MODULE, "args_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> Result<()> { bail!("proc_exit({code})") })?;
    Ok(())
}

fn errno(result: HostResult<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(Status::InvalidMemoryAccess) => EFAULT,
        Err(_) => EINVAL,
    }
}

fn clock_time_get(mut host: Host<'_>, clock: i32, _precision: i64, at: i32) -> i32 {
    // Realtime and monotonic; Envoy has no other.
    if !(0..=1).contains(&clock) {
        return ENOSYS;
    }
    let now = host.data().now.to_le_bytes();
    errno(memory::write(&mut host, at, &now))
}

/// Not random, so that a failure can be repeated: SplitMix64 over a counter.
fn random_get(mut host: Host<'_>, at: i32, size: i32) -> i32 {
    let size = memory::offset(size);
    if size > RANDOM_MAX {
        return EINVAL;
    }
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        let state = host.data_mut();
        state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    })
    .take(size.div_ceil(8))
    .flatten()
    .take(size)
    .collect();
    errno(memory::write(&mut host, at, &bytes))
}

fn fd_write(mut host: Host<'_>, fd: i32, vectors: i32, count: i32, written_at: i32) -> i32 {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return EBADF,
    };
    errno(write_vectors(&mut host, level, vectors, count, written_at))
}

fn write_vectors(host: &mut Host<'_>, level: LogLevel, vectors: i32, count: i32, written_at: i32) -> HostResult<()> {
    let table = memory::read(host, vectors, count.checked_mul(8).ok_or(Status::BadArgument)?)?;
    let mut text = Vec::new();
    for vector in table.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *vector;
        text.extend(memory::read(host, i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))?);
    }
    let written = u32::try_from(text.len()).map_err(|_| Status::BadArgument)?;
    host.data_mut().log.push(LogLine { level, text: String::from_utf8_lossy(&text).into_owned() });
    memory::write(host, written_at, &written.to_le_bytes())
}

/// The standard streams are character devices that one can write to.
fn fd_fdstat_get(mut host: Host<'_>, fd: i32, at: i32) -> i32 {
    if !(1..=2).contains(&fd) {
        return EBADF;
    }
    let mut stat = [0; 24];
    stat[0] = 2; // `character_device`
    stat[8] = 0x40; // `fd_write`
    errno(memory::write(&mut host, at, &stat))
}

fn no_strings(mut host: Host<'_>, count_at: i32, size_at: i32) -> i32 {
    let zero = 0_u32.to_le_bytes();
    errno(memory::write(&mut host, count_at, &zero).and_then(|()| memory::write(&mut host, size_at, &zero)))
}
