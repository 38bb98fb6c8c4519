//! Plots above each other in one document: lines and dots over numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::{
    ChartBuilder, Circle, DrawingAreaErrorKind, DrawingBackend, IntoLogRange, LineSeries,
    PathElement, Ranged, SVGBackend, Text,
};
use plotters::style::{Color, IntoFont, RGBColor};

use super::colour;
use super::plot::{Area, PlotError, svg};
use super::table::significant;

const INK: RGBColor = RGBColor(40, 40, 40);
const WIDTH: u32 = 760;
const HEIGHT: u32 = 300;
/// Pixels right of the axes, for the names.
const NAMES: u32 = 160;
/// Dots of a series at most: a document of more is slow to open.
const DOTS: usize = 3000;

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Joined.
    Line,
    /// Each by itself; of very many, every so many-th.
    Dots,
}

/// Values with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The name, shown beside the axes.
    pub name: String,
    /// How they are drawn.
    pub mark: Mark,
    /// The values; those that are not finite, or not above 0 on a logarithmic axis, are left out.
    pub points: Vec<(f64, f64)>,
}

/// Which axes are logarithmic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Neither.
    Linear,
    /// The horizontal one.
    LogX,
    /// The vertical one.
    LogY,
}

/// One plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// Below it.
    pub x: String,
    /// Beside it.
    pub y: String,
    /// Its axes.
    pub scale: Scale,
    /// What is on it.
    pub series: Vec<Series>,
}

impl Panel {
    fn shows(&self, &(x, y): &(f64, f64)) -> bool {
        let above = match self.scale {
            Scale::Linear => true,
            Scale::LogX => x > 0.0,
            Scale::LogY => y > 0.0,
        };
        above && x.is_finite() && y.is_finite()
    }

    fn shown(&self) -> impl Iterator<Item = (f64, f64)> {
        let points = self.series.iter().flat_map(|series| &series.points);
        points.copied().filter(|point| self.shows(point))
    }
}

/// The SVG of the panels that have something to show, in one document called `title`.
///
/// # Errors
/// None has.
pub fn panels(title: &str, panels: &[Panel]) -> Result<String, PlotError> {
    let filled: Vec<&Panel> = panels
        .iter()
        .filter(|panel| panel.shown().next().is_some())
        .collect();
    if filled.is_empty() {
        return Err(PlotError::Empty(title.to_owned()));
    }
    let size = (WIDTH, HEIGHT * filled.len() as u32);
    svg(title, size, |area| {
        for (panel, area) in filled.iter().zip(area.split_evenly((filled.len(), 1))) {
            draw(panel, &area)?;
        }
        Ok::<_, Drawn>(Vec::new())
    })
}

type Drawn<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

/// A linear axis from 0, or from what is below it.
fn linear((low, high): (f64, f64)) -> Range<f64> {
    let low = low.min(0.0);
    low..(high + ((high - low) * 0.05).max(1e-9))
}

fn logarithmic((low, high): (f64, f64)) -> Range<f64> {
    low / 1.2..high * 1.2
}

fn draw<'a>(panel: &Panel, area: &Area<'a>) -> Result<(), Drawn<'a>> {
    let x = span(panel.shown().map(|(x, _)| x));
    let y = span(panel.shown().map(|(_, y)| y));
    match panel.scale {
        Scale::Linear => draw_on(panel, area, linear(x), linear(y)),
        Scale::LogX => draw_on(panel, area, logarithmic(x).log_scale(), linear(y)),
        Scale::LogY => draw_on(panel, area, linear(x), logarithmic(y).log_scale()),
    }
}

fn draw_on<'a, X, Y>(panel: &Panel, area: &Area<'a>, x: X, y: Y) -> Result<(), Drawn<'a>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let font = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let mut axes = ChartBuilder::on(area)
        .caption(&panel.title, font(16))
        .margin(10)
        .margin_right(NAMES)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(x, y)?;
    axes.configure_mesh()
        .max_light_lines(2)
        .light_line_style(RGBColor(245, 245, 245))
        .bold_line_style(RGBColor(220, 220, 220))
        .label_style(font(13))
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    for (number, series) in panel.series.iter().enumerate() {
        let colour = colour::line(number);
        let points = series
            .points
            .iter()
            .copied()
            .filter(|point| panel.shows(point));
        match series.mark {
            Mark::Line => axes.draw_series(LineSeries::new(points, colour.stroke_width(2)))?,
            Mark::Dots => {
                let every = series.points.len().div_ceil(DOTS).max(1);
                let dot = |point| Circle::new(point, 2, colour.mix(0.6).filled());
                axes.draw_series(points.step_by(every).map(dot))?
            }
        };
        let (left, y) = ((WIDTH - NAMES) as i32 + 12, 46 + 20 * number as i32);
        area.draw(&PathElement::new(
            [(left, y), (left + 22, y)],
            colour.stroke_width(3),
        ))?;
        area.draw(&Text::new(
            series.name.clone(),
            (left + 28, y - 7),
            font(13),
        ))?;
    }
    Ok(())
}

/// A label without digits that say nothing.
fn short(value: f64) -> String {
    let text = significant(value, 3);
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::markup::testing::check_tags;

    fn panel(scale: Scale, mark: Mark, points: Vec<(f64, f64)>) -> Panel {
        Panel {
            title: "a < b".to_owned(),
            x: "seconds".to_owned(),
            y: "share".to_owned(),
            scale,
            series: vec![Series {
                name: "one & two".to_owned(),
                mark,
                points,
            }],
        }
    }

    #[test]
    fn panels_stand_above_each_other() {
        let points = vec![(0.5, 1.0), (2.0, 4.0), (f64::NAN, 1.0)];
        let drawn = panels(
            "all",
            &[
                panel(Scale::Linear, Mark::Dots, points.clone()),
                panel(Scale::LogX, Mark::Line, points.clone()),
                panel(Scale::LogY, Mark::Line, points),
                panel(Scale::Linear, Mark::Line, Vec::new()),
            ],
        )
        .unwrap();
        check_tags(&drawn);
        assert!(
            drawn.contains("height=\"900\""),
            "the empty one takes no room"
        );
        assert_eq!(drawn.matches("one &amp; two").count(), 3);
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(!drawn.contains("NaN") && !drawn.contains("a < b"));
    }

    #[test]
    fn many_dots_are_thinned() {
        let points = (0..10_000).map(|n| (f64::from(n), f64::from(n))).collect();
        let drawn = panels("many", &[panel(Scale::Linear, Mark::Dots, points)]).unwrap();
        let dots = drawn.matches("<circle").count();
        assert!((2000..=DOTS).contains(&dots), "{dots}");
    }

    #[test]
    fn nothing_is_not_drawn() {
        let none = panel(Scale::LogX, Mark::Line, vec![(0.0, 1.0), (-1.0, 2.0)]);
        assert_eq!(
            panels("none", &[none]),
            Err(PlotError::Empty("none".to_owned()))
        );
        assert_eq!(short(0.5), "0.5");
        assert_eq!(short(100.0), "100");
        assert_eq!(short(0.0), "0");
    }
}
