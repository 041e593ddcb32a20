//! Numbers, ages and bars as they stand on the screen.

use sapwood::Timestamp;

use crate::output::{bytes_text, printable, printable_bytes};

/// A number in at most seven columns.
#[allow(clippy::cast_precision_loss)] // three digits are shown
pub(super) fn count_text(n: u64) -> String {
    if n < 10_000 { n.to_string() } else { short(n as f64) }
}

/// How many a second.
pub(super) fn rate_text(rate: f64) -> String {
    match rate {
        rate if rate >= 10_000.0 => short(rate),
        rate if rate >= 9.95 => format!("{rate:.0}"),
        rate if rate >= 0.05 => format!("{rate:.1}"),
        _ => "0".to_owned(),
    }
}

fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would round to 1000.0 of a unit is one of the next.
    let found = UNITS.iter().find(|(size, _)| value >= size * 0.999_95);
    found
        .map_or_else(|| format!("{value:.0}"), |(size, unit)| format!("{:.1} {unit}", value / size))
}

/// Bytes a second.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // never negative
pub(super) fn byte_rate_text(rate: f64) -> String {
    format!("{}/s", bytes_text(rate.round() as u64))
}

/// How long ago, in one unit.
pub(super) fn age_text(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..0 => "ahead".to_owned(),
        0 => "<1 s".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A point in time, in UTC.
pub(super) fn time_text(timestamp: Timestamp) -> String {
    if timestamp == Timestamp::NONE {
        return "none".to_owned();
    }
    match jiff::Timestamp::from_millisecond(timestamp.as_millis()) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        // Beyond the year 9999.
        Err(_) => timestamp.as_millis().to_string(),
    }
}

/// Text of records and names, on one line.
pub(super) fn line_text(text: &str) -> String {
    printable(text).replace('\t', "\\t")
}

/// As [`line_text`], for bytes that need not be text.
pub(super) fn line_bytes(bytes: &[u8]) -> String {
    printable_bytes(bytes).replace('\t', "\\t")
}

/// The newest of the values as a line of blocks, the largest of them full. What has not been seen
/// yet is left blank, so that silence and ignorance look different.
pub(super) fn spark_text(values: &[f64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let most = shown.iter().copied().fold(0.0, f64::max);
    let mut text = " ".repeat(width.saturating_sub(shown.len()));
    for value in shown {
        let level = if most > 0.0 { (value / most * 7.0).ceil() } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 7
        text.push(LEVELS.get(level as usize).copied().unwrap_or('█'));
    }
    text
}

/// A share, 0 to 1, as a bar in eighths of a column.
pub(super) fn bar_text(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    #[allow(clippy::cast_precision_loss)] // columns
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 8 * width
    let eighths = eighths as usize;
    // What is not nothing does not look like nothing.
    let eighths = if share > 0.0 { eighths.max(1) } else { eighths };
    let part = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    format!("{}{part}", "█".repeat(eighths / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_round_into_the_next_unit() {
        let texts = [0, 9_999, 10_000, 999_949, 999_960, 1_234_567_890].map(count_text);
        assert_eq!(texts, ["0", "9999", "10.0 k", "999.9 k", "1.0 M", "1.2 G"]);
        let texts = [0.0, 0.04, 0.51, 9.96, 9_999.0, 12_345.0].map(rate_text);
        assert_eq!(texts, ["0", "0", "0.5", "10", "9999", "12.3 k"]);
    }

    #[test]
    fn ages_are_in_one_unit() {
        let texts = [-1_500, 999, 60_000, 3_600_000, 90_000_000, 864_000_000].map(age_text);
        assert_eq!(texts, ["ahead", "<1 s", "60 s", "60 min", "25 h", "10 d"]);
    }

    #[test]
    fn a_spark_shows_the_newest_and_is_blank_before_the_first() {
        assert_eq!(spark_text(&[0.0, 1.0, 7.0], 5), "  ▁▂█");
        assert_eq!(spark_text(&[9.0, 0.0, 0.0], 2), "▁▁");
        assert_eq!(spark_text(&[], 2), "  ");
    }

    #[test]
    fn a_bar_of_little_is_not_empty_and_one_of_all_is_full() {
        assert_eq!(bar_text(0.0, 4), "");
        assert_eq!(bar_text(0.0001, 4), "▏");
        assert_eq!(bar_text(0.5, 3), "█▌");
        assert_eq!(bar_text(7.0, 2), "██");
    }

    #[test]
    fn what_a_terminal_would_obey_stands_on_one_line_as_escapes() {
        assert_eq!(line_bytes(b"a\tb\n\x1b[2J\xff"), "a\\tb\\n\\x1b[2J\\xff");
        assert_eq!(line_text("a\tb"), "a\\tb");
    }
}
