//! What goes to a person or a program: tables, JSON, and text that is safe on a terminal.

use std::fmt::{Arguments, Display, Write as _};
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use serde::Serialize;

use crate::exit::Result;

/// The style of a table's header.
const HEADER: Style = Style::new().bold();

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// What `--color` says, for everything that is printed. `auto` looks at the terminal and at
/// `NO_COLOR`.
pub(crate) fn set_colors(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// How records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) color: bool,
    /// Control characters of records are shown and not sent: a terminal obeys them. A program gets
    /// the bytes as they are.
    pub(crate) escape: bool,
}

impl Look {
    pub(crate) fn of_stdout() -> Self {
        let stdout = io::stdout();
        let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        // Who asks for colours through a pipe has a terminal behind it.
        Self { color, escape: color || stdout.is_terminal() }
    }
}

/// Tells something on the side, where it is in nobody's way.
pub(crate) fn warn(text: impl Display) {
    tell(format_args!("{WARNING}warning:{WARNING:#} {}", printable(&text.to_string())));
}

/// Prints a line to standard error. If nobody reads that either, there is nobody to tell.
pub(crate) fn tell(line: impl Display) {
    let _unheard = writeln!(anstream::stderr().lock(), "{line}");
}

/// Prints a line that a command has to say.
pub(crate) fn say(line: impl Display) -> Result {
    writeln!(anstream::stdout().lock(), "{line}")?;
    Ok(())
}

/// Prints a value as JSON on one line.
pub(crate) fn json(value: &impl Serialize) -> Result {
    write_json(value, Look::of_stdout(), &mut io::stdout().lock())?;
    Ok(())
}

/// Writes a value as JSON on one line. JSON itself lets characters through that a terminal obeys.
pub(crate) fn write_json(
    value: &impl Serialize,
    look: Look,
    out: &mut impl Write,
) -> io::Result<()> {
    if look.escape {
        let text = serde_json::to_string(value)?;
        out.write_all(printable_json(&text).as_bytes())?;
    } else {
        serde_json::to_writer(&mut *out, value)?;
    }
    out.write_all(b"\n")
}

/// Such characters stand in strings alone, where they may be escaped. JSON has escaped those below
/// U+0020 already.
fn printable_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns_direction(c) {
            add(&mut safe, format_args!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Adds to a text.
pub(crate) fn add(text: &mut String, what: Arguments<'_>) {
    text.write_fmt(what).expect("a `String` takes whatever is written");
}

/// How many columns there are: what `COLUMNS` says, or the terminal. `None` where nobody looks.
pub(crate) fn width() -> Option<usize> {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    set.filter(|columns| *columns > 0).or_else(|| {
        let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
        Some(usize::from(width.0))
    })
}

/// Rows under a header; numbers stand to the right.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)).into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn print(&self) -> Result {
        let text = self.render(width());
        anstream::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    /// Where the columns do not fit beside each other, empty ones are left out; and if that does not
    /// help, each cell gets a line.
    fn render(&self, width: Option<usize>) -> String {
        let all: Vec<usize> = (0..self.header.len()).collect();
        let filled =
            all.iter().copied().filter(|column| self.column(*column).any(|c| !c.is_empty()));
        let fits = |columns: &[usize]| width.is_none_or(|width| self.total_width(columns) <= width);
        [all.clone(), filled.collect()]
            .iter()
            .find(|columns| fits(columns))
            .map_or_else(|| self.blocks(), |columns| self.columns(columns))
    }

    fn total_width(&self, columns: &[usize]) -> usize {
        let widths: usize = columns.iter().map(|column| self.width(*column)).sum();
        widths + GAP.len() * columns.len().saturating_sub(1)
    }

    fn column(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(column).map(String::as_str))
    }

    fn width(&self, column: usize) -> usize {
        let header = self.header.get(column).copied().into_iter();
        header.chain(self.column(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    fn columns(&self, columns: &[usize]) -> String {
        let shape =
            |column: &usize| (*column, self.width(*column), self.column(*column).all(is_numeric));
        let shapes: Vec<_> = columns.iter().map(shape).collect();
        let line = |cells: &[&str]| {
            let pad = |(column, width, numeric): &(usize, usize, bool)| {
                let cell = cells.get(*column).copied().unwrap_or_default();
                if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            };
            let cells: Vec<_> = shapes.iter().map(pad).collect();
            cells.join(GAP).trim_end().to_owned()
        };
        let mut text = format!("{HEADER}{}{HEADER:#}\n", line(&self.header));
        for row in &self.rows {
            text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
            text.push('\n');
        }
        text
    }

    fn blocks(&self) -> String {
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            let cells = self.header.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            for (name, cell) in cells {
                add(&mut text, format_args!("{HEADER}{name}{HEADER:#} {cell}\n"));
            }
        }
        text
    }
}

const GAP: &str = "  ";

/// Whether a cell is a number, a size, or the sign for none.
fn is_numeric(cell: &str) -> bool {
    cell == "-" || cell.starts_with(|first: char| first.is_ascii_digit())
}

/// A number of bytes as people read it.
#[allow(clippy::cast_precision_loss)] // two digits are shown
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64 / 1024.0;
    if value < 1.0 {
        return format!("{bytes} B");
    }
    for unit in UNITS {
        if value < 999.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{bytes} B")
}

/// Text that a terminal shows and does not obey: control characters, and those that turn the
/// direction of text, are written as escapes.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        push_printable(&mut safe, c);
    }
    safe
}

/// As [`printable`], for bytes that need not be text.
pub(crate) fn printable_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_printable(&mut safe, c));
        for byte in chunk.invalid() {
            add(&mut safe, format_args!("\\x{byte:02x}"));
        }
    }
    safe
}

fn push_printable(safe: &mut String, c: char) {
    match c {
        '\n' => safe.push_str("\\n"),
        '\r' => safe.push_str("\\r"),
        '\t' => safe.push('\t'),
        c if c.is_ascii_control() => {
            add(safe, format_args!("\\x{:02x}", u32::from(c)));
        }
        c if c.is_control() || turns_direction(c) => safe.extend(c.escape_unicode()),
        c => safe.push(c),
    }
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["TOPIC", "RECORDS"]);
        table.row(["orders".to_owned(), "12".to_owned()]);
        table.row(["a".to_owned(), "-".to_owned()]);
        table
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn numbers_stand_to_the_right_and_lines_end_without_blanks() {
        let text = plain(&table().render(None));
        assert_eq!(text, "TOPIC   RECORDS\norders       12\na             -\n");
    }

    #[test]
    fn where_columns_do_not_fit_empty_ones_go_first() {
        let mut table = Table::new(["TOPIC", "RECORDS", "NOTE"]);
        table.row(["orders".to_owned(), "12".to_owned(), String::new()]);
        assert_eq!(plain(&table.render(Some(19))), "TOPIC   RECORDS\norders       12\n");
        assert_eq!(plain(&table.render(Some(21))), "TOPIC   RECORDS  NOTE\norders       12\n");
        assert_eq!(plain(&table.render(Some(14))), "TOPIC orders\nRECORDS 12\n");
    }

    #[test]
    fn where_columns_do_not_fit_each_cell_has_a_line() {
        let text = plain(&table().render(Some(14)));
        assert_eq!(text, "TOPIC orders\nRECORDS 12\n\nTOPIC a\nRECORDS -\n");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\u{202e}\n"), "a\\x1b[2Jb\\u{9b}c\\u{202e}\\n");
        assert_eq!(printable_bytes(b"\xffgr\xc3\xbcn\x07"), "\\xffgr\u{fc}n\\x07");
    }

    #[test]
    fn json_on_a_terminal_stays_the_same_value_and_is_not_obeyed() {
        let value = "a\x1b\u{9b}\u{202e}\u{7f}\n\u{fc}";
        let mut out = Vec::new();
        write_json(&value, Look { color: false, escape: true }, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "\"a\\u001b\\u009b\\u202e\\u007f\\n\u{fc}\"\n");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
    }

    #[test]
    fn sizes_have_two_digits_or_three() {
        let texts = [0, 1023, 1024, 1_030_337, 1_048_576, u64::MAX].map(bytes_text);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "18446744073709551615 B"];
        assert_eq!(texts, expected);
    }
}
