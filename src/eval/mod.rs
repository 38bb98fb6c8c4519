//! What an evaluation measures, without the model: samples of tasks, their scores, and the tables and plots of the
//! results.

mod chart;
mod colour;
mod curves;
mod divergence;
mod figures;
mod gate;
mod haystack;
mod heat;
mod interval;
mod markup;
mod mean;
mod measure;
mod openers;
mod plot;
mod prose;
mod report;
mod results;
mod rows;
mod sample;
mod score;
mod size;
mod table;
mod task;
mod tasks;
mod words;

pub use chart::{Chart, Curve, Level, Point};
pub use curves::curves;
pub use divergence::{Divergence, DivergenceError, DivergenceSummary};
pub use figures::{Figure, figures};
pub use gate::{GATE, gate};
pub use haystack::{Haystack, HaystackError};
pub use heat::{HeatMap, Measure, heat_map};
pub use interval::wilson;
pub use mean::Estimate;
pub use plot::PlotError;
pub use report::html;
pub use results::Results;
pub use rows::{FULL, Row};
pub use sample::{Question, Sample};
pub use score::{string_match_all, string_match_part};
pub use size::Count;
pub use table::Table;
pub use task::{Task, TaskSet, UnknownTask};
pub use tasks::{Dialogue, Rule, Spec, TaskError, Wording, dialogue, make};
