//! SVG documents from plotters, with what it leaves out: a name for readers of a screen, and values to point at.

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::style::WHITE;

use super::markup::escape;

/// Why there is no plot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// Nothing to draw.
    #[error("there is nothing to plot in {0:?}: no value is a finite number")]
    Empty(String),
    /// The library failed.
    #[error("cannot draw {title:?}: {reason}; the table has its values")]
    Draw {
        /// The plot.
        title: String,
        /// What the library said.
        reason: String,
    },
}

/// A drawing on its way to a string.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A place in pixels and the text shown when it is pointed at.
pub struct Note {
    pub x: i32,
    pub y: i32,
    pub text: String,
}

/// The SVG of what `draw` draws on `width` by `height` pixels, named `title`; `draw` returns its notes.
pub fn svg<E: std::error::Error>(
    title: &str,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area) -> Result<Vec<Note>, E>,
) -> Result<String, PlotError> {
    let failed = |reason: &dyn std::error::Error| PlotError::Draw {
        title: title.to_owned(),
        reason: reason.to_string(),
    };
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let notes = draw(&area).map_err(|e| failed(&e))?;
    area.present().map_err(|e| failed(&e))?;
    drop(area);
    Ok(finish(title, &text, &notes))
}

fn finish(title: &str, text: &str, notes: &[Note]) -> String {
    let named = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(title));
    let text = text.trim_end();
    let body = text.strip_prefix("<svg ").unwrap_or(text);
    let body = body.strip_suffix("</svg>").unwrap_or(body);
    let mut finished = format!("{named}{body}");
    for note in notes {
        finished += &format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"7\" fill=\"#000000\" fill-opacity=\"0\"><title>{}</title></circle>\n",
            note.x,
            note.y,
            escape(&note.text)
        );
    }
    finished + "</svg>\n"
}
