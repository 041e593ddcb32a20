//! Mirrors topics from a directory of Sapwood's to a Kafka cluster, and back, while both are in use. See
//! README.md.

mod client;
mod failure;
mod from_kafka;
mod progress;
mod to_kafka;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Failure, Result};

/// Mirror topics between a directory of Sapwood's and a Kafka cluster
///
/// Each record goes to the same partition, with its key, value, headers and timestamp. The bridge goes on
/// where it was when it is started again, however it has ended, and waits for brokers that are away.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Subcommand)]
enum Direction {
    /// Follow a directory that an application writes to, and send what comes to Kafka
    ///
    /// The directory is only read. How far the bridge is, it commits in Kafka under the name of its group,
    /// as offsets of the directory's.
    ToKafka {
        #[command(flatten)]
        mirror: Mirror,
        /// Send in transactions, which commit the progress too: a consumer with `read_committed` sees each
        /// record once. Without it some may come twice after a bridge was killed
        #[arg(long)]
        exactly_once: bool,
    },
    /// Read topics of Kafka's and append them to a directory
    ///
    /// The bridge is the writer of the directory, and the only one of these topics, which it creates where
    /// they are missing. Each record is stored once, and only what was committed.
    FromKafka {
        #[command(flatten)]
        mirror: Mirror,
    },
}

#[derive(Args)]
struct Mirror {
    /// The directory of Sapwood's
    #[arg(long)]
    dir: PathBuf,
    /// Brokers of the cluster: host:port,host:port
    #[arg(long, default_value = "localhost:9092")]
    bootstrap: String,
    /// The topics, by their names, which are the same on both sides
    #[arg(long, value_delimiter = ',', required = true)]
    topics: Vec<String>,
    /// The name under which progress is kept: one for each pair of directory and cluster
    #[arg(long, default_value = "kafka-bridge")]
    group: String,
    /// End when everything is mirrored that was there when the bridge was started
    #[arg(long)]
    until_end: bool,
}

/// Whether Ctrl-C was pressed, or the process told to end.
#[derive(Clone)]
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn install() -> std::io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // A second one ends the process at once.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<()> {
        if self.is_set() { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = Interrupt::install().map_err(Failure::from).and_then(|interrupt| match &arguments
        .direction
    {
        Direction::ToKafka { mirror, exactly_once: true } => {
            to_kafka::exactly_once(mirror, &interrupt)
        }
        Direction::ToKafka { mirror, exactly_once: false } => {
            to_kafka::at_least_once(mirror, &interrupt)
        }
        Direction::FromKafka { mirror } => from_kafka::run(mirror, &interrupt),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(130),
        Err(failure) => {
            eprintln!("kafka-bridge: {failure}");
            ExitCode::FAILURE
        }
    }
}
