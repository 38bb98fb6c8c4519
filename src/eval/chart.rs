//! What a plot of curves holds.

/// A measurement at a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The share of the context kept, 0 to 1.
    pub budget: f64,
    /// The measure.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// The measurements of one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The policy.
    pub name: String,
    /// In order of their budgets.
    pub points: Vec<Point>,
}

/// A measurement without a budget, drawn across: that of full attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// What it is of.
    pub name: String,
    /// The measure.
    pub value: f64,
}

/// A plot of curves; those of one number have one colour in all plots.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// The name of the measure.
    pub measure: String,
    /// Curves with the numbers of their colours.
    pub curves: Vec<(usize, Curve)>,
    /// Levels with the numbers of their colours.
    pub levels: Vec<(usize, Level)>,
}

impl Chart {
    /// Every value to be on the axis.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        let points = self.curves.iter().flat_map(|(_, curve)| &curve.points);
        let points = points.flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.value, point.value));
            [point.value, low, high]
        });
        let levels = self.levels.iter().map(|(_, level)| level.value);
        points.chain(levels).filter(|value| value.is_finite())
    }
}
