//! What is on the screen, and what keys do to it. Pure: what has to be asked of the directory is
//! handed to the caller as a [`Request`].

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use sapwood::TopicPartition;

use super::grid::{Arrangement, Grid};
use super::history::History;
use super::lists::{self, Seen};
use super::look::{GroupLook, Look, TopicLook};
use super::records::{From, Page, RecordLook};

/// Everything there is to be shown.
pub(super) struct App {
    pub(super) directory: String,
    /// How often the directory is looked at.
    pub(super) interval: Duration,
    look: Option<Look>,
    history: History,
    /// How one came where one is, from the topics and from the groups; the last one is shown.
    paths: [Vec<Place>; 2],
    /// Which of the two is shown.
    tab: usize,
    pub(super) is_help_shown: bool,
    pub(super) input: Option<Input>,
    /// How many rows the list on the screen has: a page.
    pub(super) list_height: usize,
}

/// A view, and how it is arranged.
pub(super) struct Place {
    pub(super) view: View,
    pub(super) arrangement: Arrangement,
}

#[derive(Debug, Clone)]
pub(super) enum View {
    Topics,
    Partitions {
        topic: String,
    },
    Groups,
    Group {
        group: String,
    },
    Records(Page),
    /// One record in full, and the first of its lines on the screen.
    Record {
        of: TopicPartition,
        record: Box<RecordLook>,
        first_line: u16,
    },
}

/// A line that is being typed.
pub(super) struct Input {
    pub(super) kind: InputKind,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputKind {
    Filter,
    Offset,
}

/// What the caller is to do after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Nothing,
    Quit,
    Interrupt,
    /// Read a page and [show](App::show) it, with the row at one end of it chosen.
    Read {
        of: TopicPartition,
        from: From,
        edge: Edge,
    },
}

/// One end of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    First,
    Last,
}

impl Place {
    fn new(view: View) -> Self {
        let sort = match view {
            // What does most comes first, and what lags most.
            View::Topics | View::Groups | View::Group { .. } => 2,
            View::Partitions { .. } | View::Records(_) | View::Record { .. } => 0,
        };
        Self { view, arrangement: Arrangement::sorted_by(sort) }
    }
}

impl App {
    pub(super) fn new(directory: String, interval: Duration) -> Self {
        Self {
            directory,
            interval,
            look: None,
            history: History::default(),
            paths: [vec![Place::new(View::Topics)], vec![Place::new(View::Groups)]],
            tab: 0,
            is_help_shown: false,
            input: None,
            list_height: 10,
        }
    }

    pub(super) fn observe(&mut self, look: Look) {
        self.history.observe(&look);
        self.look = Some(look);
    }

    pub(super) fn seen(&self) -> Option<Seen<'_>> {
        self.look.as_ref().map(|look| Seen { look, history: &self.history })
    }

    pub(super) fn tab(&self) -> usize {
        self.tab
    }

    fn path(&mut self) -> &mut Vec<Place> {
        let [topics, groups] = &mut self.paths;
        if self.tab == 0 { topics } else { groups }
    }

    /// The views on the way to the present one, which is the last.
    pub(super) fn places(&self) -> &[Place] {
        let [topics, groups] = &self.paths;
        if self.tab == 0 { topics } else { groups }
    }

    pub(super) fn place(&self) -> &Place {
        self.places().last().expect("the first view is never left")
    }

    pub(super) fn place_mut(&mut self) -> &mut Place {
        self.path().last_mut().expect("the first view is never left")
    }

    /// The topic that is looked into.
    pub(super) fn topic(&self, name: &str) -> Option<&TopicLook> {
        self.look.as_ref()?.topics.iter().find(|topic| topic.name == name)
    }

    fn group(&self, name: &str) -> Option<&GroupLook> {
        self.look.as_ref()?.groups.iter().find(|group| group.name == name)
    }

    /// The present list, arranged; `None` where there is none.
    pub(super) fn grid(&mut self) -> Option<Grid> {
        let mut grid = self.raw_grid()?;
        self.place_mut().arrangement.arrange(&mut grid);
        Some(grid)
    }

    fn raw_grid(&self) -> Option<Grid> {
        let Some(seen) = self.seen() else { return Some(Grid::default()) };
        match &self.place().view {
            View::Topics => Some(lists::topics(seen)),
            View::Groups => Some(lists::groups(seen)),
            View::Partitions { topic } => Some(
                self.topic(topic).map(|topic| lists::partitions(seen, topic)).unwrap_or_default(),
            ),
            View::Group { group } => Some(
                self.group(group).map(|group| lists::committed(seen, group)).unwrap_or_default(),
            ),
            View::Records(page) => Some(lists::records(page)),
            View::Record { .. } => None,
        }
    }

    /// By which column the present list is sorted; `None` where it has an order of its own.
    pub(super) fn sort_title(&self) -> Option<&'static str> {
        let place = self.place();
        let is_sorted = !matches!(place.view, View::Records(_) | View::Record { .. });
        let grid = self.raw_grid().filter(|_| is_sorted)?;
        grid.columns.get(place.arrangement.sort).map(|column| column.title)
    }

    /// Shows a page that was asked for: in place of the one before, or as a view of its own.
    pub(super) fn show(&mut self, page: Page, edge: Edge) {
        if matches!(self.place().view, View::Records(_)) {
            self.path().pop();
        }
        let mut place = Place::new(View::Records(page));
        if edge == Edge::Last {
            let grid = match &place.view {
                View::Records(page) => lists::records(page),
                _ => Grid::default(),
            };
            place.arrangement.go(&grid, isize::MAX);
        }
        self.path().push(place);
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Request {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Request::Interrupt,
                _ => Request::Nothing,
            };
        }
        if self.input.is_some() {
            return self.type_in(key.code);
        }
        if self.is_help_shown {
            self.is_help_shown = false;
            return Request::Nothing;
        }
        self.command(key.code)
    }

    fn command(&mut self, code: KeyCode) -> Request {
        match code {
            KeyCode::Char('q') => return Request::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.is_help_shown = true,
            KeyCode::Tab | KeyCode::BackTab => self.tab = 1 - self.tab,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.go_back(),
            _ => {
                return match self.place().view {
                    View::Records(_) => self.records_key(code),
                    View::Record { .. } => self.record_key(code),
                    _ => self.list_key(code),
                };
            }
        }
        Request::Nothing
    }

    /// First away with a filter, then a view back.
    fn go_back(&mut self) {
        let filter = &mut self.place_mut().arrangement.filter;
        if !filter.is_empty() {
            filter.clear();
        } else if self.places().len() > 1 {
            self.path().pop();
        }
    }

    fn list_key(&mut self, code: KeyCode) -> Request {
        match code {
            KeyCode::Char('s') => {
                let columns = self.raw_grid().unwrap_or_default().columns;
                self.place_mut().arrangement.sort_by_next(&columns);
            }
            KeyCode::Char('r') => {
                let arrangement = &mut self.place_mut().arrangement;
                arrangement.is_reversed = !arrangement.is_reversed;
            }
            KeyCode::Char('/') => {
                let text = self.place().arrangement.filter.clone();
                self.input = Some(Input { kind: InputKind::Filter, text });
            }
            KeyCode::Enter | KeyCode::Right => return self.enter(),
            _ => self.go(rows(code, self.list_height)),
        }
        Request::Nothing
    }

    fn go(&mut self, down: isize) {
        if let Some(grid) = self.grid() {
            self.place_mut().arrangement.go(&grid, down);
        }
    }

    /// Opens what is chosen.
    fn enter(&mut self) -> Request {
        self.go(0);
        let Some(chosen) = self.place().arrangement.chosen.clone() else { return Request::Nothing };
        match &self.place().view {
            View::Topics => self.path().push(Place::new(View::Partitions { topic: chosen })),
            View::Groups => self.path().push(Place::new(View::Group { group: chosen })),
            View::Partitions { topic } => {
                let Ok(number) = chosen.parse() else { return Request::Nothing };
                let of = TopicPartition::new(topic.as_str(), number);
                return Request::Read { of, from: From::End, edge: Edge::Last };
            }
            View::Group { group } => {
                let committed = self.group(group).into_iter().flat_map(|group| &group.offsets);
                let mut chosen = committed.filter(|at| at.topic_partition.to_string() == chosen);
                let Some(committed) = chosen.next() else { return Request::Nothing };
                let (of, from) =
                    (committed.topic_partition.clone(), From::Offset(committed.offset));
                return Request::Read { of, from, edge: Edge::First };
            }
            View::Records(_) | View::Record { .. } => {}
        }
        Request::Nothing
    }

    fn records_key(&mut self, code: KeyCode) -> Request {
        let View::Records(page) = &self.place().view else { return Request::Nothing };
        let (of, start, next) = (page.of.clone(), page.start, page.next_offset);
        let is_at_end = next >= page.readable.end && page.trouble.is_none();
        let place = self.place().arrangement.place();
        let last = page.records.len().saturating_sub(1);
        let read = |from, edge| Request::Read { of: of.clone(), from, edge };
        match code {
            KeyCode::Home => read(From::Offset(0), Edge::First),
            KeyCode::End => read(From::End, Edge::Last),
            KeyCode::PageDown | KeyCode::Char(' ') if is_at_end => read(From::End, Edge::Last),
            KeyCode::PageDown | KeyCode::Char(' ') => read(From::Offset(next), Edge::First),
            KeyCode::PageUp => read(From::Before(start), Edge::First),
            KeyCode::Down | KeyCode::Char('j') if place >= last && is_at_end => {
                read(From::End, Edge::Last)
            }
            KeyCode::Down | KeyCode::Char('j') if place >= last => {
                read(From::Offset(next), Edge::First)
            }
            KeyCode::Up | KeyCode::Char('k') if place == 0 && start > page.readable.start => {
                read(From::Before(start), Edge::Last)
            }
            KeyCode::Char('g' | ':') => {
                self.input = Some(Input { kind: InputKind::Offset, text: String::new() });
                Request::Nothing
            }
            KeyCode::Enter | KeyCode::Right => self.enter_record(place),
            _ => {
                self.go(rows(code, self.list_height));
                Request::Nothing
            }
        }
    }

    fn enter_record(&mut self, place: usize) -> Request {
        if let View::Records(page) = &self.place().view
            && let Some(record) = page.records.get(place)
        {
            let record = Box::new(record.clone());
            let view = View::Record { of: page.of.clone(), record, first_line: 0 };
            self.path().push(Place::new(view));
        }
        Request::Nothing
    }

    fn record_key(&mut self, code: KeyCode) -> Request {
        let down = rows(code, self.list_height);
        if let View::Record { first_line, .. } = &mut self.place_mut().view {
            let line = usize::from(*first_line).saturating_add_signed(down);
            // The screen knows how many lines there are, and holds it back.
            *first_line = u16::try_from(line).unwrap_or(u16::MAX);
        }
        Request::Nothing
    }

    fn type_in(&mut self, code: KeyCode) -> Request {
        let Some(mut input) = self.input.take() else { return Request::Nothing };
        match code {
            KeyCode::Esc => input.text.clear(),
            KeyCode::Backspace => {
                input.text.pop();
            }
            KeyCode::Char(c) if input.kind == InputKind::Filter || c.is_ascii_digit() => {
                input.text.push(c);
            }
            _ => {}
        }
        if input.kind == InputKind::Filter {
            self.place_mut().arrangement.filter.clone_from(&input.text);
        }
        match code {
            KeyCode::Esc => Request::Nothing,
            KeyCode::Enter => self.typed(&input),
            _ => {
                self.input = Some(input);
                Request::Nothing
            }
        }
    }

    fn typed(&mut self, input: &Input) -> Request {
        match (&self.place().view, input.kind) {
            (View::Records(page), InputKind::Offset) if !input.text.is_empty() => {
                // More digits than an offset has lie beyond every end.
                let offset = input.text.parse().unwrap_or(u64::MAX);
                Request::Read {
                    of: page.of.clone(),
                    from: if offset >= page.readable.end {
                        From::End
                    } else {
                        From::Offset(offset)
                    },
                    edge: Edge::First,
                }
            }
            _ => Request::Nothing,
        }
    }
}

/// How many rows a key goes down.
fn rows(code: KeyCode, height: usize) -> isize {
    let page = isize::try_from(height.max(1)).unwrap_or(isize::MAX);
    match code {
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::PageDown | KeyCode::Char(' ') => page,
        KeyCode::PageUp => -page,
        KeyCode::Home => isize::MIN,
        KeyCode::End => isize::MAX,
        _ => 0,
    }
}
