//! Curves of a measure over the budget.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, DashedLineSeries, DrawingAreaErrorKind,
    DrawingBackend, IntoLogRange, LineSeries, PathElement, Ranged, SVGBackend, Text,
};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle};

use super::chart::{Chart, Curve, Level, Point};
use super::colour;
use super::plot::{Area, Note, PlotError, svg};
use super::table::{percent, significant};

const INK: RGBColor = RGBColor(40, 40, 40);
const SIZE: (u32, u32) = (720, 400);
/// Pixels right of the axes, for the names of the curves.
const NAMES: u32 = 170;
/// Values on the vertical axis at most; a logarithmic axis shows far fewer than it may.
const LABELS: usize = 16;
/// How many times the smallest value the largest must be for a logarithmic axis.
const LOGARITHMIC: f64 = 20.0;

/// The SVG of a chart. Where values span more than a factor of 20 the axis is logarithmic, and says so; values that are
/// not finite are left out.
///
/// # Errors
/// Nothing finite to draw.
pub fn curves(chart: &Chart) -> Result<String, PlotError> {
    let low = chart.values().fold(f64::INFINITY, f64::min);
    let high = chart.values().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return Err(PlotError::Empty(chart.title.clone()));
    }
    svg(&chart.title, SIZE, |area| {
        if low > 0.0 && high > low * LOGARITHMIC {
            let label = format!("{} (logarithmic)", chart.measure);
            draw(chart, &label, area, (low / 1.2..high * 1.2).log_scale())
        } else {
            draw(chart, &chart.measure, area, linear(low, high))
        }
    })
}

/// An axis with some room around `low..high`; what is a share stays one.
fn linear(low: f64, high: f64) -> Range<f64> {
    if (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high) && high > 0.2 {
        return 0.0..1.0;
    }
    let room = ((high - low) * 0.08).max(high.abs() * 0.01).max(1e-9);
    (low - room)..(high + room)
}

type Drawn<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;
type Axes<'a, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>;

fn draw<'a, Y>(chart: &Chart, label: &str, area: &Area<'a>, y: Y) -> Result<Vec<Note>, Drawn<'a>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let mut axes = ChartBuilder::on(area)
        .caption(&chart.title, ("sans-serif", 18).into_font().color(&INK))
        .margin(12)
        .margin_right(NAMES)
        .x_label_area_size(48)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..1.0_f64, y)?;
    axes.configure_mesh()
        .max_light_lines(2)
        .light_line_style(RGBColor(245, 245, 245))
        .bold_line_style(RGBColor(220, 220, 220))
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .x_desc("share of the context kept")
        .y_desc(label)
        .y_labels(LABELS)
        .x_label_formatter(&|share| percent(*share))
        .y_label_formatter(&|value| significant(*value, 3))
        .draw()?;
    let mut notes = Vec::new();
    for (number, level) in &chart.levels {
        notes.push(draw_level(&mut axes, *number, level)?);
    }
    for (number, curve) in &chart.curves {
        notes.extend(draw_curve(&mut axes, *number, curve)?);
    }
    names(chart, area)?;
    Ok(notes)
}

fn draw_level<'a, Y>(
    axes: &mut Axes<'a, Y>,
    number: usize,
    level: &Level,
) -> Result<Note, Drawn<'a>>
where
    Y: Ranged<ValueType = f64>,
{
    let style = colour::line(number).stroke_width(2);
    let ends = [(0.0, level.value), (1.0, level.value)];
    axes.draw_series(DashedLineSeries::new(ends, 2, 3, style))?;
    let (x, y) = axes.backend_coord(&ends[1]);
    let text = format!("{}: {}", level.name, significant(level.value, 5));
    Ok(Note { x, y, text })
}

/// The line, points and intervals of a curve.
fn draw_curve<'a, Y>(
    axes: &mut Axes<'a, Y>,
    number: usize,
    curve: &Curve,
) -> Result<Vec<Note>, Drawn<'a>>
where
    Y: Ranged<ValueType = f64>,
{
    let colour = colour::line(number);
    let finite = |point: &&Point| point.value.is_finite();
    let points: Vec<&Point> = curve.points.iter().filter(finite).collect();
    let places: Vec<(f64, f64)> = points.iter().map(|p| (p.budget, p.value)).collect();
    let style = colour.stroke_width(2);
    let mut disc = ShapeStyle::from(&colour).filled();
    if colour::is_dashed(number) {
        disc = style;
        axes.draw_series(DashedLineSeries::new(places.iter().copied(), 8, 4, style))?;
    } else {
        axes.draw_series(LineSeries::new(places.iter().copied(), style))?;
    }
    axes.draw_series(places.iter().map(|&place| Circle::new(place, 4, disc)))?;
    let bars = points.iter().filter_map(|point| {
        let (low, high) = point.interval?;
        let ends = [(point.budget, low), (point.budget, high)];
        (low.is_finite() && high.is_finite())
            .then(|| PathElement::new(ends, colour.mix(0.5).stroke_width(3)))
    });
    axes.draw_series(bars)?;
    let note = |point: &&Point| {
        let (x, y) = axes.backend_coord(&(point.budget, point.value));
        let text = told(&curve.name, point);
        Note { x, y, text }
    };
    Ok(points.iter().map(note).collect())
}

fn told(name: &str, point: &Point) -> String {
    let mut text = format!(
        "{name} at {}: {}",
        percent(point.budget),
        significant(point.value, 5)
    );
    if let Some((low, high)) = point.interval {
        text += &format!(" ({} to {})", significant(low, 5), significant(high, 5));
    }
    text
}

/// The names of the curves, in their colours, right of the axes.
fn names<'a>(chart: &Chart, area: &Area<'a>) -> Result<(), Drawn<'a>> {
    let levels = chart
        .levels
        .iter()
        .map(|(number, level)| (*number, &level.name, 3));
    let curves = chart.curves.iter().map(|(number, curve)| {
        let gap = if colour::is_dashed(*number) { 6 } else { 0 };
        (*number, &curve.name, gap)
    });
    let left = (SIZE.0 - NAMES) as i32 + 14;
    for (at, (number, name, gap)) in levels.chain(curves).enumerate() {
        let y = 56 + 20 * at as i32;
        let style = colour::line(number).stroke_width(3);
        for (from, to) in [(left, left + 12 - gap), (left + 12, left + 24 - gap)] {
            area.draw(&PathElement::new([(from, y), (to, y)], style))?;
        }
        let font = ("sans-serif", 14).into_font().color(&INK);
        area.draw(&Text::new(name.clone(), (left + 30, y - 7), font))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::markup::testing::check_tags;

    fn chart(values: &[(f64, f64)]) -> Chart {
        let points = values.iter().map(|&(budget, value)| Point {
            budget,
            value,
            interval: Some((value * 0.9, value * 1.1)),
        });
        let curve = Curve {
            name: "h2o <sum>".to_owned(),
            points: points.collect(),
        };
        Chart {
            title: "perplexity of \"a & b\"".to_owned(),
            measure: "perplexity".to_owned(),
            curves: vec![(1, curve)],
            levels: vec![(
                0,
                Level {
                    name: "full".to_owned(),
                    value: 12.5,
                },
            )],
        }
    }

    #[test]
    fn a_chart_has_its_points_and_values() {
        let chart = chart(&[(0.2, 18.25), (0.5, 14.0)]);
        let drawn = curves(&chart).unwrap();
        check_tags(&drawn);
        assert_eq!(drawn, curves(&chart).unwrap());
        assert!(
            drawn.starts_with(
                "<svg role=\"img\" aria-label=\"perplexity of &quot;a &amp; b&quot;\" "
            )
        );
        assert!(
            drawn.contains("<title>h2o &lt;sum&gt; at 20 %: 18.250 (16.425 to 20.075)</title>")
        );
        assert!(drawn.contains("<title>full: 12.500</title>"));
        // Two points drawn, and three that can be pointed at.
        assert_eq!(drawn.matches("<circle").count(), 5);
        assert!(!drawn.contains("logarithmic"));
        assert!(!drawn.contains("<sum>"));
    }

    #[test]
    fn better_points_are_drawn_lower() {
        let drawn = curves(&chart(&[(0.2, 18.25), (0.5, 14.0)])).unwrap();
        let heights: Vec<i32> = drawn
            .match_indices("<circle cx=\"")
            .map(|(at, _)| {
                let rest = &drawn[at..];
                let from = rest.find("cy=\"").unwrap() + 4;
                rest[from..].split('"').next().unwrap().parse().unwrap()
            })
            .collect();
        assert!(heights[0] < heights[1], "{heights:?}");
        assert_eq!(heights[..2], heights[3..]);
    }

    #[test]
    fn an_eighth_line_is_dashed() {
        let mut chart = chart(&[(0.2, 18.25), (0.5, 14.0)]);
        let whole = curves(&chart).unwrap();
        chart.curves[0].0 += 7;
        let dashed = curves(&chart).unwrap();
        check_tags(&dashed);
        let lines = |drawn: &str| drawn.matches("<polyline").count();
        assert!(lines(&dashed) > lines(&whole) + 5);
    }

    #[test]
    fn wide_ranges_are_logarithmic() {
        let drawn = curves(&chart(&[(0.05, 2500.0), (0.5, 14.0)])).unwrap();
        check_tags(&drawn);
        assert!(drawn.contains("perplexity (logarithmic)"));
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let drawn = curves(&chart(&[(0.05, f64::INFINITY), (0.5, 14.0)])).unwrap();
        assert!(!drawn.contains("inf") && drawn.contains("14.000"));
        let mut empty = chart(&[(0.05, f64::NAN)]);
        empty.levels.clear();
        assert_eq!(curves(&empty), Err(PlotError::Empty(empty.title)));
    }

    #[test]
    fn axes_leave_room_and_shares_are_whole() {
        assert_eq!(linear(0.3, 0.9), 0.0..1.0);
        let axis = linear(10.0, 20.0);
        assert!(axis.start < 10.0 && axis.end > 20.0 && axis.start > 8.0);
        let flat = linear(3.0, 3.0);
        assert!(flat.start < 3.0 && flat.end > 3.0);
    }
}
