//! Draws what there is to be shown.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Widget, Wrap};

use super::app::{App, Input, InputKind, View};
use super::grid::Align;
use super::lists::{Seen, limit_text, step_text};
use super::look::{Limit, PartitionLook, TopicLook};
use super::table::{Theme, draw_grid, put};
use super::text::{
    age_text, byte_rate_text, count_text, line_text, rate_text, spark_text, time_text,
};
use crate::output::bytes_text;

/// The smallest screen that shows anything.
pub(super) const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 10;

/// From this height on rates are drawn with several lines.
const TALL: u16 = 40;

pub(super) fn is_too_small(width: u16, height: u16) -> bool {
    width < WIDTH_MIN || height < HEIGHT_MIN
}

/// What is said where nothing else fits.
pub(super) fn too_small(width: u16, height: u16) -> String {
    format!(
        "the terminal has {width} columns and {height} rows, and `sapwood top` wants at least \
         {WIDTH_MIN} by {HEIGHT_MIN}: enlarge it"
    )
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, theme: Theme) {
    let area = frame.area();
    if is_too_small(area.width, area.height) {
        let sentence = format!("{}, or press q", too_small(area.width, area.height));
        frame.render_widget(Paragraph::new(sentence).wrap(Wrap { trim: true }), area);
        return;
    }
    let chart = if area.height >= TALL { 6 } else { 1 };
    let about = app.seen().map_or(0, |_| about_height(app, area.height));
    let heights = [
        Constraint::Length(2),
        Constraint::Length(chart),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(about),
        Constraint::Length(foot_height(app, area.height)),
    ];
    let [top, rates, path, list, below, foot] = Layout::vertical(heights).areas(area);
    let buffer = frame.buffer_mut();
    draw_top(buffer, top, app, theme);
    draw_rates(buffer, rates, app, theme);
    draw_path(buffer, path, app);
    let trouble = draw_view(buffer, list, app, theme);
    draw_about(buffer, below, app);
    draw_foot(buffer, foot, app, trouble, theme);
    if app.is_help_shown {
        draw_help(buffer, area);
    }
}

/// The directory, the time, and what there is in all.
fn draw_top(buffer: &mut Buffer, area: Rect, app: &App, theme: Theme) {
    let directory = line_text(&app.directory);
    let left = Line::from(vec![
        Span::styled("sapwood top", theme.title()),
        Span::raw("  "),
        Span::raw(directory),
    ]);
    let now = app.seen().map(|seen| time_text(seen.look.now));
    let now = now.map(|now| now.chars().take("2026-01-31 12:00:00".len()).collect::<String>());
    let right = now.map_or_else(String::new, |now| format!("  {now} UTC"));
    two_sides(buffer, area, &left, &Line::styled(right, Theme::ASIDE));
    let below = Rect { y: area.y + 1, height: 1, ..area };
    let totals = app.seen().map_or_else(Vec::new, totals);
    put(buffer, below, &as_many_as_fit(&totals, area.width), Align::Left, Style::new());
}

/// Everything together, the most telling first.
fn totals(seen: Seen<'_>) -> Vec<String> {
    let topics = &seen.look.topics;
    let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let unsynced = topics.iter().flat_map(|topic| &topic.partitions).map(PartitionLook::unsynced);
    vec![
        format!("{} records/s", rate_text(seen.history.total.records.rate())),
        byte_rate_text(seen.history.total.bytes.rate()),
        bytes_text(topics.iter().map(TopicLook::size).sum()),
        format!("{} unsynced", count_text(unsynced.sum())),
        counted(topics.len(), "topic"),
        counted(partitions, "partition"),
        counted(seen.look.groups.len(), "group"),
    ]
}

/// The first of some texts, in a row: none is shown in part.
fn as_many_as_fit(texts: &[String], width: u16) -> String {
    let mut row = String::new();
    for text in texts {
        let gap = if row.is_empty() { "" } else { "  " };
        if row.chars().count() + gap.len() + text.chars().count() > usize::from(width) {
            break;
        }
        row = row + gap + text;
    }
    row
}

fn counted(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// How the rates of everything have gone.
fn draw_rates(buffer: &mut Buffer, area: Rect, app: &App, theme: Theme) {
    let Some(seen) = app.seen() else { return };
    let total = &seen.history.total;
    let (records, bytes) = (total.records.rates(), total.bytes.rates());
    if area.height == 1 {
        let most = format!(" max {}/s", rate_text(largest(&records)));
        let label = "records/s ";
        let width = usize::from(area.width).saturating_sub(label.len() + most.len());
        let spark = spark_text(&records, width);
        let line = Line::from(vec![
            Span::styled(label, Theme::ASIDE),
            Span::styled(spark, theme.spark()),
            Span::styled(most, Theme::ASIDE),
        ]);
        line.render(area, buffer);
        return;
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(area);
    let title = format!("records/s, max {}", rate_text(largest(&records)));
    draw_chart(buffer, left, &title, &records, theme);
    let title = format!("bytes/s, max {}", byte_rate_text(largest(&bytes)));
    draw_chart(buffer, right, &title, &bytes, theme);
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn draw_chart(buffer: &mut Buffer, area: Rect, title: &str, values: &[f64], theme: Theme) {
    let block = Block::bordered().border_style(Theme::ASIDE).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    let width = usize::from(inner.width);
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // never negative
    let data = shown.iter().map(|value| value.round() as u64);
    // The newest at the right edge, as in the lists.
    let unseen = std::iter::repeat_n(0, width.saturating_sub(shown.len()));
    let data: Vec<u64> = unseen.chain(data).collect();
    Sparkline::default().data(data).style(theme.spark()).render(inner, buffer);
}

/// Where one is, and how the list is arranged.
fn draw_path(buffer: &mut Buffer, area: Rect, app: &App) {
    let mut spans = Vec::new();
    for (tab, name) in ["Topics", "Groups"].into_iter().enumerate() {
        let style = if tab == app.tab() {
            Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
        } else {
            Theme::ASIDE
        };
        spans.push(Span::styled(format!(" {name} "), style));
        spans.push(Span::raw(" "));
    }
    for place in app.places().iter().skip(1) {
        spans.push(Span::raw(format!("> {} ", view_title(&place.view))));
    }
    let arranged = Line::styled(arranged(app).unwrap_or_default(), Theme::ASIDE);
    two_sides(buffer, area, &Line::from(spans), &arranged);
}

fn view_title(view: &View) -> String {
    match view {
        View::Topics | View::Groups => String::new(),
        View::Partitions { topic } => line_text(topic),
        View::Group { group } => line_text(group),
        View::Records(page) => format!(
            "{} {}..{}",
            line_text(&page.of.to_string()),
            page.readable.start,
            page.readable.end
        ),
        View::Record { of, record, .. } => {
            format!("{}@{}", line_text(&of.to_string()), record.offset)
        }
    }
}

/// By what the list is sorted, though the column may not fit, and what is left out.
fn arranged(app: &App) -> Option<String> {
    let (title, arrangement) = (app.sort_title()?, &app.place().arrangement);
    let reversed = if arrangement.is_reversed { ", reversed" } else { "" };
    let filter = match arrangement.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter: {}", line_text(filter)),
    };
    Some(format!("by {title}{reversed}{filter}"))
}

/// The list, or the record; returns what is wrong with the chosen row.
fn draw_view(buffer: &mut Buffer, area: Rect, app: &mut App, theme: Theme) -> Option<String> {
    app.list_height = usize::from(area.height.saturating_sub(1));
    let Some(grid) = app.grid() else {
        draw_record(buffer, area, app, theme);
        return None;
    };
    if grid.rows.is_empty() {
        let style = Theme::ASIDE;
        buffer.set_stringn(area.x, area.y, nothing(app), area.width.into(), style);
    } else {
        let is_page = matches!(app.place().view, View::Records(_));
        let arrangement = &mut app.place_mut().arrangement;
        let sort = (!is_page).then_some(arrangement.sort);
        draw_grid(buffer, area, (&grid, arrangement), sort, theme);
    }
    match &app.place().view {
        View::Records(page) => page.trouble.clone(),
        _ => grid.rows.get(app.place().arrangement.place())?.trouble.clone(),
    }
}

fn nothing(app: &App) -> &'static str {
    if app.seen().is_none() {
        return "";
    }
    if !app.place().arrangement.filter.is_empty() {
        return "nothing matches the filter; Esc takes it away";
    }
    match &app.place().view {
        View::Topics => "there are no topics yet",
        View::Groups => "no group has committed anything yet",
        View::Partitions { .. } => "the topic is gone; Esc goes back",
        View::Group { .. } => "the group is gone; Esc goes back",
        View::Records(page) if page.trouble.is_some() => "no record of this page can be read",
        View::Records(_) | View::Record { .. } => "there are no records here",
    }
}

fn draw_record(buffer: &mut Buffer, area: Rect, app: &mut App, theme: Theme) {
    let View::Record { record, first_line, .. } = &mut app.place_mut().view else { return };
    let mut text = Text::default();
    for (name, value) in record.lines() {
        let mut name = name;
        for line in value.split('\n') {
            let label = Span::styled(format!("{name:<10}"), theme.title());
            text.push_line(Line::from(vec![label, Span::raw(" "), Span::raw(line.to_owned())]));
            name.clear();
        }
    }
    let width = usize::from(area.width.max(1));
    let lines: usize = text.lines.iter().map(|line| line.width().div_ceil(width).max(1)).sum();
    let last_first = lines.saturating_sub(usize::from(area.height));
    *first_line = (*first_line).min(u16::try_from(last_first).unwrap_or(u16::MAX));
    let paragraph = Paragraph::new(text).wrap(Wrap { trim: false }).scroll((*first_line, 0));
    paragraph.render(area, buffer);
}

/// How much is said below a list about the chosen row.
fn about_height(app: &App, height: u16) -> u16 {
    match app.place().view {
        View::Partitions { .. } if height >= 20 => 4,
        _ => 0,
    }
}

fn draw_about(buffer: &mut Buffer, area: Rect, app: &App) {
    if area.height == 0 {
        return;
    }
    let lines = about_partition(app).unwrap_or_default();
    for (line, y) in lines.iter().zip(area.y + 1..area.bottom()) {
        put(buffer, Rect { y, height: 1, ..area }, line, Align::Left, Style::new());
    }
    let rule = "─".repeat(area.width.into());
    buffer.set_stringn(area.x, area.y, rule, area.width.into(), Theme::ASIDE);
}

fn about_partition(app: &App) -> Option<Vec<String>> {
    let View::Partitions { topic } = &app.place().view else { return None };
    let (seen, topic) = (app.seen()?, app.topic(topic)?);
    let number = app.place().arrangement.chosen.as_ref()?.parse().ok()?;
    let partition = topic.partitions.iter().find(|partition| partition.number == number)?;
    let history = seen.history.partition(topic, number)?;
    let steps: Vec<_> = history.steps.iter().rev().map(|step| step_text(seen, *step)).collect();
    let steps = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
    Some(vec![
        format!("kept: {}", kept(seen, topic, partition)),
        format!(
            "offsets: start {}, synced to {}, read to {}, end {}",
            partition.log_start_offset,
            partition.recovery_point,
            partition.high_watermark,
            partition.log_end_offset
        ),
        format!("syncs seen: {steps}"),
    ])
}

/// How far a partition is from each of the limits there are.
fn kept(seen: Seen<'_>, topic: &TopicLook, partition: &PartitionLook) -> String {
    let limits = &topic.limits;
    let age = partition.oldest_age(seen.look.now).map_or("-".to_owned(), age_text);
    let of = |limit: Option<Limit>| {
        limit.map_or_else(String::new, |limit| format!(" of {}", limit_text(limit)))
    };
    format!(
        "oldest {age}{}, size {}{}; the topic {}{}",
        of(limits.retention_ms.map(Limit::Millis)),
        bytes_text(partition.size),
        of(limits.retention_bytes.map(Limit::Bytes)),
        bytes_text(topic.size()),
        of(limits.max_bytes.map(Limit::Bytes)),
    )
}

/// A sentence about what is wrong may need more than a line.
fn foot_height(app: &App, height: u16) -> u16 {
    let is_troubled = app.seen().is_some_and(|seen| {
        let mut partitions = seen.look.topics.iter().flat_map(|topic| &topic.partitions);
        !seen.look.troubles.is_empty() || partitions.any(|partition| partition.trouble.is_some())
    });
    let is_page_troubled =
        matches!(&app.place().view, View::Records(page) if page.trouble.is_some());
    if (is_troubled || is_page_troubled) && height >= 16 { 4 } else { 2 }
}

/// What is wrong, or how it is known; and which keys there are.
fn draw_foot(buffer: &mut Buffer, area: Rect, app: &App, trouble: Option<String>, theme: Theme) {
    let of_directory = app.seen().and_then(|seen| seen.look.troubles.first().cloned());
    let (text, style) = match (&app.input, trouble.or(of_directory)) {
        (Some(input), _) => (prompt(input), Theme::HEADER),
        (None, Some(trouble)) => (line_text(&trouble), theme.trouble()),
        (None, None) => (derived(app), Theme::ASIDE),
    };
    let above = Rect { height: area.height.saturating_sub(1), ..area };
    Paragraph::new(text).style(style).wrap(Wrap { trim: true }).render(above, buffer);
    let last = Rect { y: above.bottom(), height: 1, ..area };
    put(buffer, last, keys(app), Align::Left, Theme::HEADER);
}

fn prompt(input: &Input) -> String {
    match input.kind {
        InputKind::Filter => format!("filter: {}_", line_text(&input.text)),
        InputKind::Offset => format!("go to offset: {}_", input.text),
    }
}

/// Figures that are derived say so.
fn derived(app: &App) -> String {
    let every = app.interval.as_secs_f64();
    match app.place().view {
        View::Topics | View::Partitions { .. } => format!(
            "read from disk every {every} s; a sync seen is what got synced between two looks"
        ),
        View::Groups | View::Group { .. } => {
            format!("committed offsets, read from disk every {every} s; lag in records")
        }
        View::Records(_) => "records as they were when the page was read".to_owned(),
        View::Record { .. } => String::new(),
    }
}

fn keys(app: &App) -> &'static str {
    if app.input.is_some() {
        return "Enter keep  Esc cancel";
    }
    match (&app.place().view, app.tab()) {
        (View::Records(_), _) => {
            "q quit  Esc back  Enter record  PgUp PgDn Home End page  g offset  ? help"
        }
        (View::Record { .. }, _) => "q quit  Esc back  arrows scroll  ? help",
        (View::Topics, _) => "q quit  Enter open  Tab groups  s sort  r reverse  / filter  ? help",
        (View::Groups, _) => "q quit  Enter open  Tab topics  s sort  r reverse  / filter  ? help",
        _ => "q quit  Esc back  Enter records  s sort  r reverse  / filter  ? help",
    }
}

const HELP: &str = "\
Up Down j k     choose a row            Enter Right   open it
PgUp PgDn       a page                  Esc Left      back
Home End        the first, the last     Tab           topics, groups
s r             sort, reverse           /             filter
g               go to an offset         q Ctrl-C      quit

Everything is read from the directory; nothing is written to it and
nothing locked. Counters of the process that writes are not to be seen
from outside, so:
- rates are what offsets and sizes have grown by,
- a SYNC SEEN is how far the recovery point has moved between two
  looks: one sync, or several in quick succession,
- UNSYNCED is what lies behind the recovery point,
- HORIZON is the limit nearest by: age of the oldest record of
  retention.ms, size of retention.bytes or max.bytes,
- BEHIND is the lag as a share of what can be read.";

fn draw_help(buffer: &mut Buffer, area: Rect) {
    let (width, height) = (72, 18);
    let box_area = Rect {
        x: area.x + area.width.saturating_sub(width) / 2,
        y: area.y + area.height.saturating_sub(height) / 2,
        width: width.min(area.width),
        height: height.min(area.height),
    };
    Clear.render(box_area, buffer);
    let block = Block::bordered().border_style(Theme::ASIDE).title(" any key closes this ");
    Paragraph::new(HELP).block(block).render(box_area, buffer);
}

/// Something at the left, and something at the right if there is room for both.
fn two_sides(buffer: &mut Buffer, area: Rect, left: &Line<'_>, right: &Line<'_>) {
    let wide = u16::try_from(left.width()).unwrap_or(u16::MAX);
    buffer.set_line(area.x, area.y, left, area.width);
    let right_width = u16::try_from(right.width()).unwrap_or(u16::MAX);
    if wide.saturating_add(right_width) <= area.width {
        buffer.set_line(area.right() - right_width, area.y, right, right_width);
    }
}
