//! The module's memory, seen from a host call.

use wasmtime::Caller;
use wasmtime::Extern;
use wasmtime::Memory;

use super::state::HostState;
use super::status::HostResult;
use super::status::Status;

/// Copies `size` bytes at `address` out of the module.
pub(crate) fn read(caller: &mut Caller<'_, HostState>, address: i32, size: i32) -> HostResult<Vec<u8>> {
    let memory = memory(caller)?;
    let (start, size) = (offset(address), offset(size));
    let end = start.checked_add(size).ok_or(Status::InvalidMemoryAccess)?;
    memory.data(&*caller).get(start..end).map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
}

/// Copies bytes into the module.
pub(crate) fn write(caller: &mut Caller<'_, HostState>, address: i32, bytes: &[u8]) -> HostResult<()> {
    memory(caller)?.write(caller, offset(address), bytes).map_err(|_| Status::InvalidMemoryAccess)
}

/// Gives bytes to the module: in memory that the module allocates, address and size at the two places it named.
///
/// Nothing is allocated for no bytes: the address is then zero, as in Envoy.
pub(crate) fn give(caller: &mut Caller<'_, HostState>, bytes: &[u8], address_at: i32, size_at: i32) -> HostResult<()> {
    let size = i32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
    let address = if bytes.is_empty() { 0 } else { allocate(caller, size)? };
    write(caller, address, bytes)?;
    write(caller, address_at, &address.to_le_bytes())?;
    write(caller, size_at, &size.to_le_bytes())
}

fn allocate(caller: &mut Caller<'_, HostState>, size: i32) -> HostResult<i32> {
    let export = ["proxy_on_memory_allocate", "malloc"].into_iter().find_map(|name| caller.get_export(name));
    let function = export.and_then(Extern::into_func).ok_or(Status::InternalFailure)?;
    let function = function.typed::<i32, i32>(&*caller).map_err(|_| Status::InternalFailure)?;
    match function.call(caller, size) {
        Ok(address) if address != 0 => Ok(address),
        _ => Err(Status::InvalidMemoryAccess),
    }
}

fn memory(caller: &mut Caller<'_, HostState>) -> HostResult<Memory> {
    caller.get_export("memory").and_then(Extern::into_memory).ok_or(Status::InvalidMemoryAccess)
}

/// Wasm's `i32` is an address without a sign.
pub(crate) fn offset(value: i32) -> usize {
    value.cast_unsigned() as usize
}
