//! Decision records on their way to the proxy's log: at once, and several at a time while they come in a flood.
//!
//! A proxy writes its log while a request waits, and each line costs more than the decision that it tells of. So only so many
//! lines between two ticks go out one by one; what comes beyond is gathered, and goes out as one message of many lines: with
//! the tick, when there is enough of it, or before a line of another level. No record is left out, unless the VM traps or the
//! proxy is killed before the tick.

use std::cell::RefCell;

use proxy_wasm::types::LogLevel;

use crate::host;

/// Messages between two ticks that are written at once.
const AT_ONCE: u32 = 16;
/// What is gathered until it is written without waiting for the tick, in bytes.
const GATHERED_ENOUGH: usize = 16 * 1024;

thread_local! {
    /// Of the VM, as the proxy's log is.
    static GATHERED: RefCell<Gathered> = const { RefCell::new(Gathered::new()) };
}

struct Gathered {
    /// Messages since the last tick.
    written: u32,
    level: LogLevel,
    lines: String,
}

impl Gathered {
    const fn new() -> Self {
        Self { written: 0, level: LogLevel::Info, lines: String::new() }
    }

    fn take(&mut self, level: LogLevel, line: impl FnOnce(&mut String)) {
        if level != self.level {
            self.write();
            self.level = level;
        }
        if !self.lines.is_empty() {
            self.lines.push('\n');
        }
        line(&mut self.lines);
        if self.written < AT_ONCE || self.lines.len() >= GATHERED_ENOUGH {
            self.write();
        }
    }

    fn write(&mut self) {
        if !self.lines.is_empty() {
            self.written = self.written.saturating_add(1);
            host::log(self.level, &self.lines);
            self.lines.clear();
        }
    }
}

/// Writes a line, which `line` appends to a text, now or with those that follow.
pub(crate) fn line(level: LogLevel, line: impl FnOnce(&mut String)) {
    GATHERED.with_borrow_mut(|gathered| gathered.take(level, line));
}

/// Writes what was gathered. Call it from each tick.
pub(crate) fn flush() {
    GATHERED.with_borrow_mut(|gathered| {
        gathered.write();
        gathered.written = 0;
    });
}
