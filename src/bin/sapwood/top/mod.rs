//! `sapwood top`.
//!
//! [`watch`] looks at the directory, [`history`] makes rates of what it sees, [`app`] is what is shown
//! and what keys do, [`screen`] draws it, [`terminal`] runs them all.

mod app;
mod grid;
mod history;
mod lists;
mod look;
mod records;
mod screen;
mod series;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use self::app::App;
use self::table::Theme;
use self::watch::Watch;
use crate::directory::Directory;
use crate::exit::{Result, Stop};
use crate::output::Look;

/// Watch topics, rates, retention and groups in the terminal
///
/// Opens the directory for reading only, beside whatever process writes to it, and shows its topics
/// and groups: how fast they grow, how large they are, how near retention is, how far groups are
/// behind. Enter goes into a topic, from there into a partition, and pages through its records.
///
/// Counters of the process that writes cannot be seen from outside. Rates are derived from how
/// offsets and sizes on disk grow, and syncs from how the recovery point moves.
#[derive(Args)]
#[command(after_help = "\
Keys:
  Up Down j k PgUp PgDn Home End   choose     Enter  open      Esc  back
  Tab  topics or groups    s  sort    r  reverse    /  filter    g  go to an offset
  ?  help    q  quit

Examples:
  sapwood --dir data top
  sapwood --dir data top --once | head")]
pub(crate) struct Top {
    /// How often to look at the directory, in seconds
    #[arg(short, long, default_value = "0.5", value_name = "SECONDS", value_parser = interval)]
    interval: Duration,

    /// Print one screen as text, after two looks, and end
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|interval| (INTERVAL_MIN..=INTERVAL_MAX).contains(interval))
        .ok_or("write a number of seconds from 0.1 to 3600")
}

const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

impl Top {
    pub(crate) fn run(&self, directory: &Directory) -> Result {
        if !self.once {
            check_terminal()?;
        }
        let broker = directory.read()?;
        let name = broker.directory().display().to_string();
        let (mut watch, mut app) = (Watch::new(broker), App::new(name, self.interval));
        if self.once {
            return print_once(&mut watch, &mut app);
        }
        terminal::run(&mut watch, &mut app, Theme { color: Look::of_stdout().color })
    }
}

/// Says what is wrong with the terminal before anything is opened or drawn.
fn check_terminal() -> Result {
    if !io::stdout().is_terminal() {
        return Err(Stop::usage(
            "`sapwood top` draws on a terminal, and standard output is none; `sapwood top --once` \
             prints one screen",
        ));
    }
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((width, height)) if screen::is_too_small(width.0, height.0) => {
            Err(Stop::usage(screen::too_small(width.0, height.0)))
        }
        // One that does not know its size draws all the same.
        _ => Ok(()),
    }
}

/// How wide the screen is that is printed, where no terminal says it.
const PRINTED_WIDTH: u16 = 120;

/// Lines around the list on a screen.
const LINES_AROUND: usize = 8;

fn print_once(watch: &mut Watch, app: &mut App) -> Result {
    app.observe(watch.look());
    std::thread::sleep(app.interval);
    app.observe(watch.look());
    let topics = app.seen().map_or(0, |seen| seen.look.topics.len());
    let height = u16::try_from(topics.max(4) + LINES_AROUND).unwrap_or(u16::MAX);
    let width = crate::output::width().and_then(|width| u16::try_from(width).ok());
    let width = width.unwrap_or(PRINTED_WIDTH).max(screen::WIDTH_MIN);
    let screen = draw(app, width, height);
    io::stdout().lock().write_all(screen.as_bytes())?;
    Ok(())
}

/// A screen as text.
fn draw(app: &mut App, width: u16, height: u16) -> String {
    // Drawing into memory does not fail.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| screen::draw(frame, app, Theme { color: false }));
    lines(terminal.backend().buffer())
}

fn lines(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    };
    buffer.content.chunks(width).map(line).collect()
}
