//! The bench's plot: host instructions per byte, or bytes per cycle where nothing was counted.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::BenchRow;

const SIZE: (u32, u32) = (820, 380);

/// Draws one metric of the rows, a bar each.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn draw(path: &Path, rows: &[BenchRow]) -> Result<()> {
    let metric = match rows.iter().any(|row| row.metric == "host_instructions_per_byte") {
        true => "host_instructions_per_byte",
        false => "bytes_per_cycle",
    };
    // The first model measured is the one that means most; instructions are counted over one only.
    let Some(first) = rows.iter().find(|row| row.metric == metric) else { return Ok(()) };
    let of = |row: &&BenchRow| row.metric == metric && row.subject == first.subject;
    let bars: Vec<&BenchRow> = rows.iter().filter(of).collect();
    let most = bars.iter().map(|row| row.value).fold(0.0, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let plain = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    root.fill(&WHITE).map_err(|error| plain(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!("Who does the checksums: {}, {} NIC", first.unit, first.subject),
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((0..bars.len() - 1).into_segmented(), 0.0..most * 1.15)
        .map_err(|error| plain(&error))?;
    let label = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => {
            bars.get(*at).map_or(String::new(), |row| row.case.replace(" checksum", ""))
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(bars.len())
        .x_label_formatter(&label)
        .y_desc(first.unit)
        .draw()
        .map_err(|error| plain(&error))?;
    chart
        .draw_series(bars.iter().enumerate().map(|(at, row)| {
            let from = (SegmentValue::Exact(at), 0.0);
            let mut bar = Rectangle::new(
                [from, (SegmentValue::Exact(at + 1), row.value)],
                BLUE.mix(0.6).filled(),
            );
            bar.set_margin(0, 0, 14, 14);
            bar
        }))
        .map_err(|error| plain(&error))?;
    chart
        .draw_series(bars.iter().enumerate().map(|(at, row)| {
            let place = (SegmentValue::CenterOf(at), row.value + most * 0.05);
            Text::new(format!("{:.2}", row.value), place, ("sans-serif", 14))
        }))
        .map_err(|error| plain(&error))?;
    root.present().map_err(|error| plain(&error))
}
