//! The plot: how fast everybody is beside Sapwood, on a logarithmic axis.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::table::Table;

/// Room for one bar is 1 wide; so many are left free between workloads.
const GAP: f64 = 2.0;

/// Room for the legend, as wide as this many bars.
const LEGEND: f64 = 10.0;

/// Writes the plot. Bars go up from Sapwood's rate for who is faster, down for who is slower.
///
/// Text is left to whatever draws the SVG: no font of this system is looked at.
pub(crate) fn write(path: &Path, tables: &[Table]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let names: Vec<&str> =
        tables.first().map_or(&[][..], |table| &table.rows).iter().map(|row| row.name).collect();
    let rivals = names.len().saturating_sub(1);
    let group = rivals as f64 + GAP;
    let end = group * tables.len() as f64;
    let factors: Vec<f64> = tables
        .iter()
        .flat_map(|table| table.rows.iter().filter_map(|row| table.relative(row)))
        .collect();
    let low = power_of_ten(factors.iter().copied().fold(0.5, f64::min), f64::floor);
    let high = power_of_ten(factors.iter().copied().fold(2.0, f64::max), f64::ceil);

    let root = SVGBackend::new(path, (1_200, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Records per second relative to Sapwood (1 = the same)", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end + LEGEND, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        // Powers of ten are not exact, and shown in fewer digits they are.
        .y_label_formatter(&|factor| format!("{} x", *factor as f32))
        .light_line_style(WHITE)
        .label_style(("sans-serif", 13))
        .draw()?;

    for (rival, name) in names.iter().enumerate().skip(1) {
        let colour = Palette99::pick(rival).to_rgba();
        let bars = tables.iter().enumerate().filter_map(|(n, table)| {
            let factor = table.relative(table.rows.get(rival)?)?;
            let left = group * n as f64 + GAP / 2.0 + (rival - 1) as f64;
            let (bottom, top) = (factor.min(1.0), factor.max(1.0));
            Some(Rectangle::new([(left + 0.08, bottom), (left + 0.92, top)], colour.filled()))
        });
        chart
            .draw_series(bars)?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart.draw_series([PathElement::new([(0.0, 1.0), (end, 1.0)], BLACK.stroke_width(2))])?;
    for (n, table) in tables.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(group * n as f64 + GAP / 2.0, low));
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        root.draw(&Text::new(table.workload.short_title(), (x, y + 8), style))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE)
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(root.present()?)
}

fn power_of_ten(factor: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(factor.log10()))
}
