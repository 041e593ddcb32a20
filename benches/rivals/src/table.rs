//! The tables: one per workload.

use std::fmt::Write;

use crate::workload::Workload;

/// One contender in one workload, all rounds taken together.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Records per second, the median of the rounds.
    pub(crate) rate: Option<f64>,
    /// What it does differently, and what went wrong.
    pub(crate) remarks: Vec<String>,
}

/// A workload and everybody in it, Sapwood first.
pub(crate) struct Table {
    pub(crate) workload: Workload,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// The rate of a row as a multiple of Sapwood's.
    pub(crate) fn relative(&self, row: &Row) -> Option<f64> {
        Some(row.rate? / self.rows.first()?.rate?)
    }

    /// The table as text.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{}\n{:<12} {:>8} {:>13} {:>10}  remarks\n",
            self.workload.title(),
            "crate",
            "version",
            "records/s",
            "x Sapwood"
        );
        for row in &self.rows {
            let rate = row.rate.map_or_else(|| "-".to_owned(), thousands);
            let relative = self.relative(row).map_or_else(|| "-".to_owned(), significant);
            let remarks = row.remarks.join("; ");
            let line =
                format!("{:<12} {:>8} {rate:>13} {relative:>10}  {remarks}", row.name, row.version);
            writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
        }
        text
    }
}

/// A whole number with commas between the thousands.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A factor with about two digits that mean something.
fn significant(factor: f64) -> String {
    match factor {
        10.0.. => format!("{factor:.0}"),
        1.0.. => format!("{factor:.1}"),
        0.1.. => format!("{factor:.2}"),
        0.01.. => format!("{factor:.3}"),
        0.001.. => format!("{factor:.4}"),
        _ => format!("{factor:.6}"),
    }
}
