//! `sapwood`: a person's view of a directory of topics, on the library's public interface alone.
//!
//! Commands that read open the directory read-only, beside whatever process holds it; those that
//! write open it for writing and say so when another process has it. Only `topics create` and
//! `perf produce --create` make a directory that is not there.
//!
//! One file per command. [`directory`] opens, [`exit`] turns errors into sentences and exit codes,
//! [`output`] knows tables, JSON and terminals, [`settings`] reads what is given as text.

#![warn(clippy::pedantic, clippy::unwrap_used)]
// Kafka's words for different things resemble one another.
#![allow(clippy::similar_names)]

mod backup;
mod completions;
mod consume;
mod directory;
mod dump;
mod exit;
mod filter;
mod graduate;
mod groups;
mod metrics;
mod output;
mod perf;
mod priority;
mod produce;
mod record_format;
mod salvage;
mod settings;
mod share_groups;
mod signals;
mod top;
mod topics;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

use crate::directory::Directory;
use crate::exit::Result;

/// Looks into a directory of topics, and changes what is in it.
#[derive(Parser)]
#[command(name = "sapwood", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// The directory of topics
    #[arg(long, global = true, env = "SAPWOOD_DIR", hide_env_values = true, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// When to use colours; `auto` heeds `NO_COLOR`
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: ColorChoice,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Reading commands work beside a process that has the directory open, and change nothing in it.

Examples:
  sapwood --dir data topics create orders --partitions 4 --config retention.ms=86400000
  sapwood --dir data produce orders --key-separator : lines.txt
  SAPWOOD_DIR=data sapwood consume orders --since 10m --follow

Exit codes:
    0  done; also when whoever reads the output has closed it
    1  it failed
    2  wrong usage: an option, a setting or a name that cannot be
    3  not found: a directory of topics, a topic, a partition, a group, an offset
    4  locked: another process has the directory open for writing
    5  damaged: files are not as they were written, or records are lost
    6  full: the disk, a quota, or a topic that has reached its max.bytes
    7  written by a newer version, or in a way that this build does not know
    8  a topic of this name exists already, or something at the place where a copy is to go
  130  interrupted with Ctrl-C (143: terminated); what was done is kept";

#[derive(Subcommand)]
enum Command {
    /// List, describe, create, alter and delete topics
    #[command(subcommand)]
    Topics(topics::Topics),
    Produce(produce::Produce),
    Consume(consume::Consume),
    #[command(subcommand)]
    Groups(groups::Groups),
    #[command(subcommand)]
    ShareGroups(share_groups::ShareGroups),
    #[command(subcommand)]
    Perf(perf::Perf),
    Metrics(metrics::Metrics),
    Top(top::Top),
    Dump(dump::Dump),
    Verify(verify::Verify),
    Salvage(salvage::Salvage),
    Backup(backup::Backup),
    Graduate(graduate::Graduate),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    // A fault of this program is told as a sentence too; where it was is what its authors need.
    std::panic::set_hook(Box::new(|fault| {
        output::tell(format_args!("error: a fault of this program, please report it: {fault}"));
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What is asked for, like the help, and what is wrong: the parser knows where it goes.
        Err(answer) => {
            let code = exit::code_of_usage(&answer);
            // A closed pipe is nobody to tell.
            let _unheard = answer.print();
            return code;
        }
    };
    output::set_colors(cli.color);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => stop.tell(),
    }
}

fn run(cli: Cli) -> Result {
    let directory = Directory::new(cli.dir);
    match cli.command {
        Command::Topics(command) => command.run(&directory),
        Command::Produce(command) => command.run(&directory),
        Command::Consume(command) => command.run(&directory),
        Command::Groups(command) => command.run(&directory),
        Command::ShareGroups(command) => command.run(&directory),
        Command::Perf(command) => command.run(&directory),
        Command::Metrics(command) => command.run(&directory),
        Command::Top(command) => command.run(&directory),
        Command::Dump(command) => command.run(&directory),
        Command::Verify(command) => command.run(&directory),
        Command::Salvage(command) => command.run(&directory),
        Command::Backup(command) => command.run(&directory),
        Command::Graduate(command) => command.run(&directory),
        Command::Completions(command) => command.run(&mut Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_every_command_go_together() {
        Cli::command().debug_assert();
    }
}
