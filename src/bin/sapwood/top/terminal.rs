//! The terminal: taken over for as long as the program runs, and given back on every way out.

use std::io;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use sapwood::Broker;

use super::app::{App, Request};
use super::records;
use super::screen;
use super::table::Theme;
use super::watch::Watch;
use crate::exit::{Result, Stop};
use crate::signals::Interrupt;

/// How long a wait for a key takes at most: a signal is noticed after it.
const PATIENCE: Duration = Duration::from_millis(100);

/// The number of the signal that Ctrl-C sends where a terminal does not hand it on as a key.
const SIGINT: u8 = 2;

/// A look takes at most one part of so many of the time, however large the directory is: whoever
/// watches is not to be in the way of those who work.
const SHARE_OF_LOOKS: u32 = 5;

/// Gives the terminal back when it is dropped. A panic gives it back before it speaks: the hook for
/// that is set when the terminal is taken.
struct Taken(DefaultTerminal);

impl Taken {
    fn take() -> Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                give_back();
                Err(of_terminal(&error))
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone needs nothing back, and there is nobody to tell.
    let _gone = ratatui::try_restore();
}

fn of_terminal(error: &io::Error) -> Stop {
    Stop::failed(crate::exit::Code::Failure, format!("cannot use the terminal: {error}"))
}

/// Shows the directory until somebody has seen enough.
pub(super) fn run(watch: &mut Watch, app: &mut App, theme: Theme) -> Result {
    let interrupt = Interrupt::install()?;
    let mut terminal = Taken::take()?;
    let mut next_look = Instant::now();
    loop {
        interrupt.check()?;
        if Instant::now() >= next_look {
            next_look = look(watch, app);
        }
        terminal.0.draw(|frame| screen::draw(frame, app, theme)).map_err(|e| of_terminal(&e))?;
        let wait = next_look.saturating_duration_since(Instant::now()).min(PATIENCE);
        if read_keys(wait, watch.broker(), app)? == Then::End {
            return Ok(());
        }
    }
}

/// What comes after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// Looks, and says when to look next.
fn look(watch: &mut Watch, app: &mut App) -> Instant {
    let began = Instant::now();
    app.observe(watch.look());
    let took = began.elapsed();
    began + app.interval.max(took.saturating_mul(SHARE_OF_LOOKS))
}

/// Does what keys say that have come, after a wait for the first of them.
fn read_keys(wait: Duration, broker: &Broker, app: &mut App) -> Result<Then> {
    let mut wait = wait;
    while event::poll(wait).map_err(|error| of_terminal(&error))? {
        wait = Duration::ZERO;
        match event::read().map_err(|error| of_terminal(&error))? {
            Event::Key(key)
                if key.kind != KeyEventKind::Release
                    && answer(app.key(key), broker, app)? == Then::End =>
            {
                return Ok(Then::End);
            }
            // A new size shows when the screen is drawn next.
            _ => {}
        }
    }
    Ok(Then::GoOn)
}

fn answer(request: Request, broker: &Broker, app: &mut App) -> Result<Then> {
    match request {
        Request::Nothing => Ok(Then::GoOn),
        Request::Quit => Ok(Then::End),
        Request::Interrupt => Err(Stop::Interrupted(SIGINT)),
        Request::Read { of, from, edge } => {
            app.show(records::read(broker, &of, from, app.list_height), edge);
            Ok(Then::GoOn)
        }
    }
}
