//! Heat maps: a measure by depth and length.

use plotters::prelude::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, IntoTextStyle, RGBColor};

use super::colour;
use super::plot::{Note, PlotError, svg};
use super::table::{percent, significant};

/// Pixels of a cell, and of what stands left of, above and below the cells.
const CELL: (i32, i32) = (64, 28);
const LEFT: i32 = 84;
const ABOVE: i32 = 44;
const BELOW: i32 = 50;
const NARROWEST: i32 = 300;

/// What the cells hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Shares of right answers: light is all.
    Accuracy,
    /// Negative log-likelihoods of the answers in nats, up to the largest of all maps side by side: light is 0.
    Nll {
        /// The value that is darkest.
        worst: f64,
    },
}

/// A measure by depth (rows) and length (columns).
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// What stands above it.
    pub title: String,
    /// What the cells hold.
    pub measure: Measure,
    /// Lengths in tokens, left to right.
    pub lengths: Vec<usize>,
    /// Depths from 0 to 1, top to bottom.
    pub depths: Vec<f32>,
    /// Rows of cells, `(depths, lengths)`; absent where nothing was measured.
    pub cells: Vec<Vec<Option<f64>>>,
}

impl HeatMap {
    fn share(&self, value: f64) -> f64 {
        match self.measure {
            Measure::Accuracy => value,
            Measure::Nll { worst } => 1.0 - value / worst.max(f64::MIN_POSITIVE),
        }
    }

    fn shown(&self, value: f64) -> String {
        match self.measure {
            Measure::Accuracy => percent(value),
            Measure::Nll { .. } => significant(value, 3),
        }
    }
}

/// The SVG of a heat map; each cell shows its value.
///
/// # Errors
/// No cell has a finite value.
pub fn heat_map(map: &HeatMap) -> Result<String, PlotError> {
    if !map
        .cells
        .iter()
        .flatten()
        .flatten()
        .any(|value| value.is_finite())
    {
        return Err(PlotError::Empty(map.title.clone()));
    }
    let width = (LEFT + CELL.0 * map.lengths.len() as i32 + 16).max(NARROWEST);
    let height = ABOVE + CELL.1 * map.depths.len() as i32 + BELOW;
    svg(&map.title, (width as u32, height as u32), |area| {
        let ink = RGBColor(40, 40, 40);
        let write =
            |text: String, (x, y): (i32, i32), size: i32, colour: RGBColor, across: HPos| {
                let style = ("sans-serif", size).into_font().color(&colour);
                let style = style
                    .into_text_style(area)
                    .pos(Pos::new(across, VPos::Center));
                area.draw(&Text::new(text, (x, y), style))
            };
        write(map.title.clone(), (12, 20), 15, ink, HPos::Left)?;
        let mut notes = Vec::new();
        for (row, (depth, cells)) in map.depths.iter().zip(&map.cells).enumerate() {
            let top = ABOVE + CELL.1 * row as i32;
            let depth = percent(f64::from(*depth));
            let middle = top + CELL.1 / 2;
            write(depth.clone(), (LEFT - 8, middle), 13, ink, HPos::Right)?;
            for (column, (length, cell)) in map.lengths.iter().zip(cells).enumerate() {
                let left = LEFT + CELL.0 * column as i32;
                let value = cell.filter(|value| value.is_finite());
                let ground =
                    value.map_or(RGBColor(225, 225, 225), |v| colour::of_share(map.share(v)));
                let corners = [(left, top), (left + CELL.0 - 1, top + CELL.1 - 1)];
                area.draw(&Rectangle::new(corners, ground.filled()))?;
                let text = value.map_or("-".to_owned(), |value| map.shown(value));
                let centre = (left + CELL.0 / 2, middle);
                write(
                    text.clone(),
                    centre,
                    13,
                    colour::text_on(ground),
                    HPos::Center,
                )?;
                notes.push(Note {
                    x: centre.0,
                    y: centre.1,
                    text: format!("{length} tokens, depth {depth}: {text}"),
                });
            }
        }
        let under = ABOVE + CELL.1 * map.depths.len() as i32;
        for (column, length) in map.lengths.iter().enumerate() {
            let x = LEFT + CELL.0 * column as i32 + CELL.0 / 2;
            write(length.to_string(), (x, under + 12), 13, ink, HPos::Center)?;
        }
        write(
            "depth by length in tokens".to_owned(),
            (LEFT, under + 34),
            12,
            ink,
            HPos::Left,
        )?;
        Ok::<_, plotters::prelude::DrawingAreaErrorKind<std::io::Error>>(notes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::markup::testing::check_tags;

    fn map(measure: Measure) -> HeatMap {
        HeatMap {
            title: "passkey, h2o <20 %>".to_owned(),
            measure,
            lengths: vec![512, 1024],
            depths: vec![0.0, 0.5, 1.0],
            cells: vec![
                vec![Some(1.0), Some(0.25)],
                vec![None, Some(0.0)],
                vec![Some(0.5), Some(f64::NAN)],
            ],
        }
    }

    #[test]
    fn cells_show_their_values() {
        let drawn = heat_map(&map(Measure::Accuracy)).unwrap();
        check_tags(&drawn);
        assert_eq!(drawn, heat_map(&map(Measure::Accuracy)).unwrap());
        for note in [
            "512 tokens, depth 0 %: 100 %",
            "1024 tokens, depth 0 %: 25 %",
            "512 tokens, depth 50 %: -",
            "1024 tokens, depth 50 %: 0 %",
            "512 tokens, depth 100 %: 50 %",
            "1024 tokens, depth 100 %: -",
        ] {
            assert_eq!(
                drawn.matches(&format!("<title>{note}</title>")).count(),
                1,
                "{note}"
            );
        }
        // The ground of the whole and six cells.
        assert_eq!(drawn.matches("<rect").count(), 7);
        // All right is the lightest colour, none the darkest.
        assert!(drawn.contains("#FDE725") && drawn.contains("#440154"));
    }

    #[test]
    fn a_likelihood_is_light_when_it_is_low() {
        let map = map(Measure::Nll { worst: 1.0 });
        let drawn = heat_map(&map).unwrap();
        let first = drawn.find("#440154").unwrap();
        let light = drawn.find("#FDE725").unwrap();
        assert!(first < light);
        assert!(drawn.contains("depth 0 %: 0.250"));
    }

    #[test]
    fn an_empty_map_is_refused() {
        let mut empty = map(Measure::Accuracy);
        empty.cells = vec![vec![None, None], vec![None, Some(f64::NAN)]];
        assert_eq!(heat_map(&empty), Err(PlotError::Empty(empty.title)));
    }
}
