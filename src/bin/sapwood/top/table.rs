//! Draws lists: columns, rows, and what a cell shows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use super::grid::{Align, Arrangement, Column, Face, GAP, Grid, Row, fit};
use super::text::{bar_text, spark_text};

/// How things look: with colours, or by other means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) color: bool,
}

impl Theme {
    pub(super) const HEADER: Style = Style::new().add_modifier(Modifier::BOLD);
    pub(super) const ASIDE: Style = Style::new().add_modifier(Modifier::DIM);

    fn paint(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn title(self) -> Style {
        self.paint(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn spark(self) -> Style {
        self.paint(Color::Green)
    }

    pub(super) fn bar(self) -> Style {
        self.paint(Color::Yellow)
    }

    pub(super) fn trouble(self) -> Style {
        self.paint(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// Draws a list under its header, scrolled so that the chosen row is among those that are shown.
pub(super) fn draw_grid(
    buffer: &mut Buffer,
    area: Rect,
    (grid, arrangement): (&Grid, &mut Arrangement),
    sort: Option<usize>,
    theme: Theme,
) {
    let height = usize::from(area.height.saturating_sub(1));
    arrangement.scroll(grid.rows.len(), height);
    let sort = sort.map(|sorted| (sorted, arrangement.is_reversed));
    let fitted = fit(&grid.columns, area.width);
    draw_header(buffer, area, &grid.columns, &fitted, sort);
    let shown = grid.rows.iter().enumerate().skip(arrangement.first).take(height);
    for ((place, row), y) in shown.zip(area.y + 1..) {
        let line = Rect { y, height: 1, ..area };
        draw_row(buffer, line, (&grid.columns, row), &fitted, theme);
        if place == arrangement.place() {
            buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

fn draw_header(
    buffer: &mut Buffer,
    area: Rect,
    columns: &[Column],
    fitted: &[(usize, u16)],
    sort: Option<(usize, bool)>,
) {
    let mut x = area.x;
    for (index, width) in fitted {
        let Some(column) = columns.get(*index) else { continue };
        let cell = Rect { x, y: area.y, width: *width, height: 1 };
        put(buffer, cell, column.title, column.align, Theme::HEADER);
        // Behind the title, and if that fills the column, between it and the next.
        let mark_x = match column.align {
            Align::Left => x + u16::try_from(column.title.len()).unwrap_or_default(),
            Align::Right => x + width,
        };
        if let Some(mark) = mark(sort, *index)
            && mark_x < area.right()
        {
            buffer.set_stringn(mark_x, area.y, mark, 1, Theme::HEADER);
        }
        x += width + GAP;
    }
}

/// How a column is sorted by, if it is.
fn mark(sort: Option<(usize, bool)>, column: usize) -> Option<&'static str> {
    let (_, is_reversed) = sort.filter(|(sorted, _)| *sorted == column)?;
    Some(if is_reversed { "▴" } else { "▾" })
}

fn draw_row(
    buffer: &mut Buffer,
    area: Rect,
    (columns, row): (&[Column], &Row),
    fitted: &[(usize, u16)],
    theme: Theme,
) {
    let mut x = area.x;
    let style = if row.trouble.is_some() { theme.trouble() } else { Style::new() };
    for (index, width) in fitted {
        let found = columns.get(*index).zip(row.cells.get(*index));
        let Some((column, cell)) = found else { continue };
        let at = Rect { x, width: (*width).min(area.right().saturating_sub(x)), ..area };
        match &cell.face {
            Face::Text(text) => put(buffer, at, text, column.align, style),
            Face::Spark(values) => {
                let spark = spark_text(values, usize::from(*width));
                put(buffer, at, &spark, Align::Left, theme.spark());
            }
            Face::Bar(share) => {
                let bar = bar_text(*share, usize::from(*width));
                put(buffer, at, &bar, Align::Left, theme.bar());
            }
        }
        x += width + GAP;
    }
}

/// Puts text into a cell. What does not fit ends in a mark, so that nothing is taken for whole that
/// is not.
pub(super) fn put(buffer: &mut Buffer, cell: Rect, text: &str, align: Align, style: Style) {
    let wide = Span::raw(text).width();
    let room = usize::from(cell.width);
    let skip = match align {
        Align::Right => u16::try_from(room.saturating_sub(wide)).unwrap_or_default(),
        Align::Left => 0,
    };
    if wide > room {
        buffer.set_stringn(cell.x, cell.y, text, room.saturating_sub(1), style);
        buffer.set_stringn(cell.right().saturating_sub(1), cell.y, "…", 1, style);
    } else {
        buffer.set_stringn(cell.x + skip, cell.y, text, room, style);
    }
}
