//! The search for the most load that still meets its goals: double until one breaks, then bisect.

use serde::Serialize;

/// How the load is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadUnit {
    /// Sessions that arrive a second.
    SessionsPerSecond,
    /// Sessions that run at a time: a whole number.
    Streams,
    /// How many times as fast a trace is replayed.
    TraceSpeed,
}

impl LoadUnit {
    /// The unit as it follows a number.
    pub fn name(self) -> &'static str {
        match self {
            LoadUnit::SessionsPerSecond => "sessions/s",
            LoadUnit::Streams => "streams",
            LoadUnit::TraceSpeed => "times the trace's speed",
        }
    }
}

/// Where a search begins and ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchBounds {
    /// The first load tried.
    pub start: f64,
    /// The highest load tried.
    pub most: f64,
    /// The search ends when what broke is within this share of what passed.
    pub tolerance: f64,
    /// Streams are whole.
    pub unit: LoadUnit,
}

/// A search in progress. Goals are taken to hold at every load below one that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    bounds: SearchBounds,
    passed: Option<f64>,
    broke: Option<f64>,
}

/// How often the first load is halved before a server is given up.
const HALVINGS: i32 = 10;

impl Search {
    /// A search that has tried nothing.
    pub fn new(bounds: SearchBounds) -> Self {
        Search {
            bounds,
            passed: None,
            broke: None,
        }
    }

    /// The load to try next; `None` when the search is over.
    pub fn next_load(&self) -> Option<f64> {
        let SearchBounds {
            start,
            most,
            tolerance,
            unit,
        } = self.bounds;
        let whole = unit == LoadUnit::Streams;
        let next = match (self.passed, self.broke) {
            (None, None) => start.min(most),
            (Some(passed), None) if passed >= most => return None,
            (Some(passed), None) => (passed * 2.0).min(most),
            (None, Some(broke)) => broke / 2.0,
            (Some(passed), Some(broke)) if broke - passed <= tolerance * passed => return None,
            (Some(passed), Some(broke)) => (passed + broke) / 2.0,
        };
        let next = if whole { next.floor() } else { next };
        let least = if whole {
            1.0
        } else {
            start * 2f64.powi(-HALVINGS)
        };
        let known = Some(next) == self.passed || Some(next) == self.broke;
        (next >= least && !known).then_some(next)
    }

    /// Takes in whether the goals were met at `load`.
    pub fn tell(&mut self, load: f64, met: bool) {
        let side = if met {
            &mut self.passed
        } else {
            &mut self.broke
        };
        *side = Some(load);
    }

    /// The highest load that met its goals.
    pub fn capacity(&self) -> Option<f64> {
        self.passed
    }

    /// The lowest load that did not.
    pub fn broke_at(&self) -> Option<f64> {
        self.broke
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bounds(start: f64, unit: LoadUnit) -> SearchBounds {
        SearchBounds {
            start,
            most: 1000.0,
            tolerance: 0.1,
            unit,
        }
    }

    /// The loads tried against a server that holds its goals up to `limit`, and what was found.
    fn tried(bounds: SearchBounds, limit: f64) -> (Vec<f64>, Search) {
        let mut search = Search::new(bounds);
        let mut loads = Vec::new();
        while let Some(load) = search.next_load() {
            loads.push(load);
            assert!(loads.len() < 100, "endless: {loads:?}");
            search.tell(load, load <= limit);
        }
        (loads, search)
    }

    #[test]
    fn doubles_then_bisects() {
        let rate = LoadUnit::SessionsPerSecond;
        for (unit, start, limit, loads, capacity) in [
            (
                rate,
                1.0,
                5.2,
                vec![1.0, 2.0, 4.0, 8.0, 6.0, 5.0, 5.5],
                Some(5.0),
            ),
            (
                rate,
                8.0,
                3.0,
                vec![8.0, 4.0, 2.0, 3.0, 3.5, 3.25],
                Some(3.0),
            ),
            (rate, 600.0, 1e9, vec![600.0, 1000.0], Some(1000.0)),
            (
                LoadUnit::Streams,
                1.0,
                6.0,
                vec![1.0, 2.0, 4.0, 8.0, 6.0, 7.0],
                Some(6.0),
            ),
            (LoadUnit::Streams, 3.0, 0.0, vec![3.0, 1.0], None),
        ] {
            let (seen, search) = tried(bounds(start, unit), limit);
            assert_eq!((seen, search.capacity()), (loads, capacity), "{limit}");
        }
    }

    #[test]
    fn a_server_that_holds_nothing_is_given_up() {
        let (loads, search) = tried(bounds(1.0, LoadUnit::SessionsPerSecond), 0.0);
        assert_eq!(loads.len(), 11);
        assert_eq!(
            (search.capacity(), search.broke_at()),
            (None, loads.last().copied())
        );
    }

    proptest! {
        #[test]
        fn the_limit_is_found_within_the_tolerance(start in 0.1_f64..50.0, limit in 0.1_f64..900.0, tolerance in 0.01_f64..0.5) {
            let bounds = SearchBounds { tolerance, ..bounds(start, LoadUnit::SessionsPerSecond) };
            let (_, search) = tried(bounds, limit);
            let capacity = search.capacity().unwrap();
            let broke = search.broke_at().unwrap();
            prop_assert!(capacity <= limit && limit < broke);
            prop_assert!(broke - capacity <= tolerance * capacity + 1e-9);
        }

        #[test]
        fn streams_are_found_to_the_last_one(start in 1_u32..40, limit in 1_u32..900) {
            let bounds = SearchBounds { tolerance: 0.0, ..bounds(f64::from(start), LoadUnit::Streams) };
            let (loads, search) = tried(bounds, f64::from(limit));
            prop_assert_eq!(search.capacity(), Some(f64::from(limit)));
            prop_assert!(loads.iter().all(|load| load.fract() == 0.0));
        }
    }
}
