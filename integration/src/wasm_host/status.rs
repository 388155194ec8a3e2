//! What a host call answers (proxy-wasm ABI 0.2.1, `proxy_status_t`).

/// The statuses that this host gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    InvalidMemoryAccess = 6,
    CasMismatch = 8,
    InternalFailure = 10,
}

impl Status {
    pub(crate) fn code(self) -> i32 {
        self as i32
    }
}

/// A host call's result: `Err` is a status that the module sees, never a trap.
pub(crate) type HostResult<T> = Result<T, Status>;

/// The number that the module gets for a result.
pub(crate) fn code(result: HostResult<()>) -> i32 {
    match result {
        Ok(()) => Status::Ok.code(),
        Err(status) => status.code(),
    }
}
