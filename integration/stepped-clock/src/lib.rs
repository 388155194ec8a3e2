//! A wall clock that a test sets: preloaded into a program (`LD_PRELOAD`), it adds to the time of day as many seconds as a
//! file says, at every look.
//!
//! The file is named by `STEPPED_CLOCK` and holds one `i64` in the machine's byte order. The other clocks (since the start of the
//! machine, of processor time) go on as they are: a step of the wall clock is just that. Absent: allocation, which may itself
//! ask for the time. Without the variable, or where the file cannot be read, nothing is added.

use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_long;
use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

/// `struct timespec`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Timeval {
    seconds: i64,
    microseconds: c_long,
}

const REALTIME: c_int = 0;
const REALTIME_COARSE: c_int = 5;

type ClockGettime = unsafe extern "C" fn(c_int, *mut Timespec) -> c_int;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn mmap(at: *mut c_void, length: usize, access: c_int, flags: c_int, file: c_int, offset: i64) -> *mut c_void;
}

/// `clock_gettime` (POSIX.1-2017), its wall clocks stepped.
///
/// # Safety
///
/// As of the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    // SAFETY: the arguments are the caller's, and the function is the C library's own.
    let answer = unsafe { original()(clock, time) };
    if answer == 0 && matches!(clock, REALTIME | REALTIME_COARSE) {
        // SAFETY: the C library has just written there.
        unsafe { (*time).seconds += step() };
    }
    answer
}

/// `gettimeofday` (POSIX.1-2017), stepped. There has been no time zone behind it for long.
///
/// # Safety
///
/// As of the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut Timeval, _zone: *mut c_void) -> c_int {
    let now = now();
    if !time.is_null() {
        // SAFETY: the caller's, and not null.
        unsafe { time.write(Timeval { seconds: now.seconds, microseconds: now.nanoseconds / 1_000 }) };
    }
    0
}

/// `time` (POSIX.1-2017), stepped.
///
/// # Safety
///
/// As of the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(seconds: *mut i64) -> i64 {
    let now = now();
    if !seconds.is_null() {
        // SAFETY: the caller's, and not null.
        unsafe { seconds.write(now.seconds) };
    }
    now.seconds
}

fn now() -> Timespec {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `now` lives here.
    unsafe { clock_gettime(REALTIME, &raw mut now) };
    now
}

/// The C library's own, behind this one.
fn original() -> ClockGettime {
    const NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
    static ORIGINAL: OnceLock<ClockGettime> = OnceLock::new();
    *ORIGINAL.get_or_init(|| {
        // SAFETY: the name ends with NUL; what is found under it is that function, and every C library of Linux has one.
        unsafe { std::mem::transmute::<*mut c_void, ClockGettime>(dlsym(NEXT, c"clock_gettime".as_ptr())) }
    })
}

fn step() -> i64 {
    static FILE: OnceLock<Option<&AtomicI64>> = OnceLock::new();
    FILE.get_or_init(map).map_or(0, |step| step.load(Ordering::Relaxed))
}

/// The number in the file, for as long as the program runs.
fn map() -> Option<&'static AtomicI64> {
    const READ_ONLY: c_int = 0;
    const READ: c_int = 1;
    const SHARED: c_int = 1;
    const NAME: &CStr = c"STEPPED_CLOCK";
    // SAFETY: the name ends with NUL, and nothing sets variables so early.
    let path = unsafe { getenv(NAME.as_ptr()) };
    if path.is_null() {
        return None;
    }
    // SAFETY: a path that ends with NUL.
    let file = unsafe { open(path, READ_ONLY) };
    if file < 0 {
        return None;
    }
    // SAFETY: a new mapping, at a place of the system's choice.
    let at = unsafe { mmap(ptr::null_mut(), size_of::<AtomicI64>(), READ, SHARED, file, 0) };
    if at.addr() == usize::MAX {
        return None;
    }
    // SAFETY: a page that begins here, is never taken away, and of which this reads one aligned number.
    Some(unsafe { &*at.cast::<AtomicI64>() })
}
