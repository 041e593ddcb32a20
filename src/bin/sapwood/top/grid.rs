//! Lists with columns: what is in them, how they are sorted and filtered, which row is chosen, and
//! which columns fit. Pure.

use std::cmp::Ordering;

/// A list as it is now.
#[derive(Debug, Default)]
pub(super) struct Grid {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) width: u16,
    /// How wide it may become where there is room.
    pub(super) width_max: u16,
    /// Columns with larger numbers go first where there is none.
    pub(super) rank: u8,
    pub(super) align: Align,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

impl Column {
    pub(super) const fn left(title: &'static str, width: u16, rank: u8) -> Self {
        Self { title, width, width_max: width, rank, align: Align::Left }
    }

    pub(super) const fn right(title: &'static str, width: u16, rank: u8) -> Self {
        Self { align: Align::Right, ..Self::left(title, width, rank) }
    }

    pub(super) const fn up_to(self, width_max: u16) -> Self {
        Self { width_max, ..self }
    }
}

#[derive(Debug)]
pub(super) struct Row {
    /// What it is about, whatever its place in the list.
    pub(super) id: String,
    /// One for each column.
    pub(super) cells: Vec<Cell>,
    /// Something is wrong with it.
    pub(super) trouble: Option<String>,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) face: Face,
    key: Key,
}

/// What a cell shows.
#[derive(Debug)]
pub(super) enum Face {
    Text(String),
    Spark(Vec<f64>),
    /// A share of the width.
    Bar(f64),
}

/// What a column is sorted by.
#[derive(Debug)]
enum Key {
    Text(String),
    Number(f64),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { key: Key::Text(text.to_lowercase()), face: Face::Text(text) }
    }

    pub(super) fn number(text: String, number: f64) -> Self {
        Self { face: Face::Text(text), key: Key::Number(number) }
    }

    #[allow(clippy::cast_precision_loss)] // an order among what is shown with three digits
    pub(super) fn count(text: String, count: u64) -> Self {
        Self::number(text, count as f64)
    }

    /// Nothing to be shown; comes after what is something.
    pub(super) fn none() -> Self {
        Self::number("-".to_owned(), -1.0)
    }

    pub(super) fn spark(values: Vec<f64>) -> Self {
        let key = Key::Number(values.last().copied().unwrap_or_default());
        Self { face: Face::Spark(values), key }
    }

    pub(super) fn bar(share: f64) -> Self {
        Self { face: Face::Bar(share), key: Key::Number(share) }
    }
}

impl Key {
    /// Names go up from `a`, numbers down from the largest: that is what one looks for.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => natural(a).cmp(&natural(b)),
            (Self::Number(a), Self::Number(b)) => b.total_cmp(a),
            (Self::Text(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Greater,
        }
    }
}

/// So that `orders-2` comes before `orders-10`: the text before the number at its end, and that.
fn natural(text: &str) -> (&str, u64, &str) {
    let head = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = text.get(head.len()..).and_then(|digits| digits.parse().ok());
    (head, number.unwrap_or_default(), text)
}

/// What a person has done to a list.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrangement {
    /// By which column it is sorted.
    pub(super) sort: usize,
    pub(super) is_reversed: bool,
    /// Only rows whose id contains it are shown.
    pub(super) filter: String,
    /// The id of the chosen row.
    pub(super) chosen: Option<String>,
    /// Where that was, should it be gone.
    place: usize,
    /// The first row on the screen.
    pub(super) first: usize,
}

impl Arrangement {
    pub(super) fn sorted_by(sort: usize) -> Self {
        Self { sort, ..Self::default() }
    }

    /// Filters and sorts, and makes sure that a row is chosen if there is one.
    pub(super) fn arrange(&mut self, grid: &mut Grid) {
        let filter = self.filter.to_lowercase();
        grid.rows.retain(|row| row.id.to_lowercase().contains(&filter));
        let key = |row: &Row| row.cells.get(self.sort).is_some();
        if grid.rows.iter().all(key) {
            grid.rows.sort_by(|a, b| self.compare(a, b));
        }
        let found = grid.rows.iter().position(|row| Some(&row.id) == self.chosen.as_ref());
        self.choose(grid, found.unwrap_or(self.place));
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let keys = a.cells.get(self.sort).zip(b.cells.get(self.sort));
        let ordering = keys.map_or(Ordering::Equal, |(a, b)| a.key.compare(&b.key));
        let ordering = if self.is_reversed { ordering.reverse() } else { ordering };
        // Those that are equal keep their places from look to look.
        ordering.then_with(|| natural(&a.id).cmp(&natural(&b.id)))
    }

    /// Chooses the row at a place, or the last one.
    fn choose(&mut self, grid: &Grid, place: usize) {
        self.place = place.min(grid.rows.len().saturating_sub(1));
        self.chosen = grid.rows.get(self.place).map(|row| row.id.clone());
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Chooses a row so far down, or up.
    pub(super) fn go(&mut self, grid: &Grid, down: isize) {
        self.choose(grid, self.place.saturating_add_signed(down));
    }

    /// Sorts by the next column; what has no title only pictures the one beside it.
    pub(super) fn sort_by_next(&mut self, columns: &[Column]) {
        let after = self.sort + 1;
        let mut others = (after..columns.len()).chain(0..after);
        let is_titled = |index: &usize| columns.get(*index).is_some_and(|c| !c.title.is_empty());
        self.sort = others.find(is_titled).unwrap_or_default();
    }

    /// Moves the first row so that the chosen one is among the `height` that are shown.
    pub(super) fn scroll(&mut self, rows: usize, height: usize) {
        let last_first = rows.saturating_sub(height);
        let lowest = (self.place + 1).saturating_sub(height);
        self.first =
            self.first.clamp(lowest.min(self.place), self.place).min(last_first.max(lowest));
    }
}

/// Blank columns between two.
pub(super) const GAP: u16 = 2;

/// Which of the columns fit beside each other, and how wide each is.
pub(super) fn fit(columns: &[Column], width: u16) -> Vec<(usize, u16)> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let of = |index: &usize| columns.get(*index).copied();
    let needed = |shown: &[usize]| -> u16 {
        let widths: u16 = shown.iter().filter_map(of).map(|column| column.width).sum();
        widths + GAP * u16::try_from(shown.len().saturating_sub(1)).unwrap_or(u16::MAX)
    };
    while shown.len() > 1 && needed(&shown) > width {
        let rank = |index: &usize| of(index).map(|column| column.rank);
        let least = shown.iter().copied().max_by_key(rank);
        shown.retain(|index| Some(*index) != least);
    }
    let room = width.saturating_sub(needed(&shown));
    widen(columns, &shown, room)
}

/// Gives what room is left to columns that want it, those first that would go last.
fn widen(columns: &[Column], shown: &[usize], mut room: u16) -> Vec<(usize, u16)> {
    let found = shown.iter().filter_map(|index| Some((*index, *columns.get(*index)?)));
    let mut fitted: Vec<_> = found.collect();
    fitted.sort_by_key(|(_, column)| column.rank);
    for (_, column) in &mut fitted {
        let more = room.min(column.width_max - column.width);
        column.width += more;
        room -= more;
    }
    fitted.sort_by_key(|(index, _)| *index);
    fitted.into_iter().map(|(index, column)| (index, column.width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: &[(&str, f64)]) -> Grid {
        let columns = vec![Column::left("NAME", 4, 0), Column::right("N", 3, 1)];
        let row = |(id, number): &(&str, f64)| Row {
            id: (*id).to_owned(),
            cells: vec![Cell::text(*id), Cell::number(String::new(), *number)],
            trouble: None,
        };
        Grid { columns, rows: rows.iter().map(row).collect() }
    }

    fn arranged(arrangement: &mut Arrangement, rows: &[(&str, f64)]) -> Vec<String> {
        let mut grid = grid(rows);
        arrangement.arrange(&mut grid);
        grid.rows.into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn names_go_up_numbers_go_down_and_both_can_be_turned() {
        let rows = [("b-10", 1.0), ("b-2", 3.0), ("A", 3.0)];
        let mut arrangement = Arrangement::default();
        assert_eq!(arranged(&mut arrangement, &rows), ["A", "b-2", "b-10"]);
        arrangement.sort_by_next(&grid(&[]).columns);
        assert_eq!(arranged(&mut arrangement, &rows), ["A", "b-2", "b-10"]);
        arrangement.is_reversed = true;
        assert_eq!(arranged(&mut arrangement, &rows), ["b-10", "A", "b-2"]);
    }

    #[test]
    fn the_chosen_row_is_followed_and_when_it_goes_its_neighbour_is_chosen() {
        let mut arrangement = Arrangement::default();
        arranged(&mut arrangement, &[("a", 0.0), ("b", 0.0), ("c", 0.0)]);
        arrangement.go(&grid(&[("a", 0.0), ("b", 0.0), ("c", 0.0)]), 1);
        arranged(&mut arrangement, &[("a", 0.0), ("aa", 0.0), ("b", 0.0)]);
        assert_eq!((arrangement.chosen.as_deref(), arrangement.place()), (Some("b"), 2));
        arranged(&mut arrangement, &[("a", 0.0), ("aa", 0.0)]);
        assert_eq!(arrangement.chosen.as_deref(), Some("aa"));
        arranged(&mut arrangement, &[]);
        assert_eq!(arrangement.chosen, None);
    }

    #[test]
    fn a_filter_does_not_care_about_case() {
        let mut arrangement = Arrangement { filter: "ORD".to_owned(), ..Arrangement::default() };
        assert_eq!(arranged(&mut arrangement, &[("orders", 0.0), ("paid", 0.0)]), ["orders"]);
    }

    #[test]
    fn the_chosen_row_is_always_on_the_screen() {
        let mut arrangement = Arrangement::default();
        let rows: Vec<_> = ["a", "b", "c", "d", "e"].map(|id| (id, 0.0)).into();
        let grid = grid(&rows);
        for (down, first) in [(0, 0), (2, 1), (9, 3), (-1, 3), (-1, 2), (-9, 0)] {
            arrangement.go(&grid, down);
            arrangement.scroll(grid.rows.len(), 2);
            assert_eq!(arrangement.first, first, "{down}");
        }
        arrangement.go(&grid, 4);
        arrangement.scroll(grid.rows.len(), 9);
        assert_eq!(arrangement.first, 0, "all of them fit");
    }

    #[test]
    fn columns_of_the_highest_rank_go_first_and_room_widens_those_that_may() {
        let columns =
            [Column::left("A", 4, 0).up_to(9), Column::left("B", 4, 2), Column::left("C", 4, 1)];
        assert_eq!(fit(&columns, 16), [(0, 4), (1, 4), (2, 4)]);
        assert_eq!(fit(&columns, 12), [(0, 6), (2, 4)]);
        assert_eq!(fit(&columns, 99), [(0, 9), (1, 4), (2, 4)]);
        assert_eq!(fit(&columns, 1), [(0, 4)]);
    }
}
