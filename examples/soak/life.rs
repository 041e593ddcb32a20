//! One life of a worker process, seen from outside: its pipe goes to the oracle line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use super::oracle::Oracle;

/// The oracle, shared with the thread that listens to the worker.
#[derive(Clone, Default)]
pub struct SharedOracle(Arc<Mutex<Oracle>>);

impl SharedOracle {
    pub fn lock(&self) -> MutexGuard<'_, Oracle> {
        self.0.lock().expect("the listener does not panic")
    }
}

/// A running worker.
pub struct Life {
    pub child: Child,
    input: Option<ChildStdin>,
    listener: Option<JoinHandle<io::Result<()>>>,
    complaints: Option<JoinHandle<io::Result<String>>>,
}

impl Life {
    /// Starts a worker whose standard output is its reports.
    pub fn start(command: &mut Command, oracle: &SharedOracle) -> io::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = child.stdout.take().expect("it is piped");
        let mut errors = child.stderr.take().expect("it is piped");
        oracle.lock().begin();
        let oracle = oracle.clone();
        let listener = thread::spawn(move || listen(output, &oracle));
        let complaints = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).map(|_| text)
        });
        let input = child.stdin.take();
        Ok(Self { child, input, listener: Some(listener), complaints: Some(complaints) })
    }

    /// Kills it, whatever it is doing.
    pub fn kill(mut self) -> io::Result<Ended> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.end(status)
    }

    /// Has it close in order; kills it if that takes too long.
    pub fn close(mut self, patience: Duration) -> io::Result<Ended> {
        if let Some(mut input) = self.input.take() {
            // It may have ended by itself; then its status says why.
            drop(input.write_all(b"close\n"));
        }
        self.wait(patience)
    }

    /// Waits until it ends by itself; kills it if that takes too long.
    pub fn wait(mut self, patience: Duration) -> io::Result<Ended> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return self.end(status);
            }
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Err(io::Error::other(format!("it has not ended within {patience:?}")));
            }
            // The standard library cannot wait for a child with a deadline.
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(mut self, status: ExitStatus) -> io::Result<Ended> {
        let panicked = |_| io::Error::other("a listener has panicked");
        let listener = self.listener.take().expect("it is there until the end");
        listener.join().map_err(panicked)??;
        let complaints = self.complaints.take().expect("it is there until the end");
        Ok(Ended { status, complaints: complaints.join().map_err(panicked)?? })
    }
}

/// Nothing that was started is left running, also after a panic.
impl Drop for Life {
    fn drop(&mut self) {
        if self.listener.is_some() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A worker that has ended.
pub struct Ended {
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub complaints: String,
}

fn listen(output: impl Read, oracle: &SharedOracle) -> io::Result<()> {
    let mut lines = BufReader::new(output);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if line.ends_with('\n') {
            oracle.lock().hear(&line);
        }
        line.clear();
    }
    Ok(())
}
