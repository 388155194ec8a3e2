//! Standard error as the log: nobody waits for whoever reads it.
//!
//! A pipe whose reader stopped, or a journal that hangs, would hold up everybody who has something to say. Lines that are not taken
//! are counted instead, and their number is told when somebody reads again.

use std::io;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::io::Errno;

/// What fits where there is any room at all: `PIPE_BUF`.
const PART: usize = 4096;
/// For a reader who is only slow.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Takes a line a write, and drops it rather than wait.
#[derive(Debug)]
pub(super) struct Unhurried<W> {
    out: W,
    lost: u64,
    /// What was written last ends within a line.
    is_cut: bool,
}

impl<W: Write + AsFd> Unhurried<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, lost: 0, is_cut: false }
    }

    fn has_room(&self) -> bool {
        let moment = if self.lost == 0 { MOMENT } else { NOW };
        match poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], Some(&moment)) {
            // By a signal: that was its moment.
            Err(Errno::INTR) => {
                poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], Some(&NOW)).is_ok_and(|ready| ready > 0)
            }
            // What cannot be asked is tried: a file has room, or an error.
            asked => asked.map_or(true, |ready| ready > 0),
        }
    }

    fn write_part(&mut self, part: &[u8]) -> io::Result<bool> {
        if !self.has_room() {
            self.lost += 1;
            return Ok(false);
        }
        self.out.write_all(part).map(|()| true)
    }
}

impl<W: Write + AsFd> Write for Unhurried<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 && self.has_room() {
            let end = if self.is_cut { "\n" } else { "" };
            let notice = format!("{end}{} lines of this log are lost: nobody read them in time\n", self.lost);
            self.out.write_all(notice.as_bytes())?;
            (self.lost, self.is_cut) = (0, false);
        }
        for (number, part) in line.chunks(PART).enumerate() {
            if !self.write_part(part)? {
                self.is_cut |= number > 0;
                break;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_nobody_reads_is_counted_and_told_later() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut log = Unhurried::new(writer);
        let line = format!("{}\n", "x".repeat(1000));
        while log.lost == 0 {
            log.write_all(line.as_bytes()).expect("taken or dropped");
        }
        log.write_all(line.as_bytes()).expect("dropped");
        let mut room = vec![0; 2 * PART];
        reader.read_exact(&mut room).expect("what was taken");
        log.write_all(b"again\n").expect("taken");
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert!(rest.ends_with("\n2 lines of this log are lost: nobody read them in time\nagain\n"), "{rest}");
    }

    #[test]
    fn what_follows_half_a_line_begins_one() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut log = Unhurried::new(writer);
        let line = format!("{}\n", "x".repeat(1 << 20));
        log.write_all(line.as_bytes()).expect("taken as far as there is room");
        assert_eq!(log.lost, 1);
        let mut taken = vec![0; 4 * PART];
        reader.read_exact(&mut taken).expect("its beginning");
        log.write_all(b"again\n").expect("taken");
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert!(
            rest.ends_with("x\n1 lines of this log are lost: nobody read them in time\nagain\n"),
            "no line of its own"
        );
    }

    #[test]
    fn a_full_disk_is_an_error_and_no_wait() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
        let error = Unhurried::new(full).write_all(b"a line\n").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
