//! Ctrl-C, and readers and writers at the other end of a pipe.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Result, Stop};

/// How often somebody who waits for something else looks whether to stop, in milliseconds.
const LOOK_MILLIS: i32 = 100;

/// Whether a signal has asked for an end. The first one is heeded at the next good moment, the second
/// ends the process.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    pub(crate) fn install() -> Result<Self> {
        let received = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            let again = Arc::new(AtomicBool::new(false));
            let number = usize::try_from(signal).unwrap_or_default();
            // In this order: the first signal arms what the second one meets.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, again)?;
            flag::register_usize(signal, Arc::clone(&received), number)?;
        }
        Ok(Self(received))
    }

    /// Fails once a signal has come.
    pub(crate) fn check(&self) -> Result {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Stop::Interrupted(u8::try_from(signal).unwrap_or_default())),
        }
    }
}

/// Whether nobody reads standard output any more. A writer would learn it from its next write, which
/// may never come.
pub(crate) fn stdout_is_closed() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut fds, 0).is_ok() && has(&fds, PollFlags::POLLERR)
}

fn has(fds: &[PollFd<'_>], flag: PollFlags) -> bool {
    fds.iter().any(|fd| fd.revents().is_some_and(|events| events.contains(flag)))
}

/// Reads, and looks between reads whether to stop: a signal does not end a read that waits.
pub(crate) struct InterruptibleRead<R> {
    pub(crate) inner: R,
    pub(crate) interrupt: Interrupt,
}

impl<R: Read + AsFd> Read for InterruptibleRead<R> {
    /// Ends, as if there were nothing more to read, once there is a signal.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupt.check().is_err() {
                return Ok(0);
            }
            let mut fds = [PollFd::new(&self.inner, PollFlags::POLLIN)];
            match poll(&mut fds, LOOK_MILLIS) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.inner.read(buffer)
    }
}
