//! What an optimizer remembers of a parameter.

/// Of one parameter, as long as it.
#[derive(Debug)]
pub(super) enum State {
    Adam { first: Vec<f32>, second: Vec<f32> },
    Muon { momentum: Vec<f32> },
}

/// A tensor of an optimizer's state.
#[derive(Debug)]
pub struct Saved<'a> {
    /// The parameter's name and what it is of it: `first`, `second` or `momentum`.
    pub name: String,
    /// As long as the parameter.
    pub values: &'a [f32],
}

impl State {
    pub(super) fn new(muon: bool, len: usize) -> State {
        match muon {
            true => State::Muon {
                momentum: vec![0.0; len],
            },
            false => State::Adam {
                first: vec![0.0; len],
                second: vec![0.0; len],
            },
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            State::Adam { first, .. } => first.len(),
            State::Muon { momentum } => momentum.len(),
        }
    }

    pub(super) fn saved(&self, name: &str) -> Vec<Saved<'_>> {
        let saved = |part: &str, values| Saved {
            name: format!("{name}.{part}"),
            values,
        };
        match self {
            State::Adam { first, second } => {
                vec![saved("first", first.as_slice()), saved("second", second)]
            }
            State::Muon { momentum } => vec![saved("momentum", momentum)],
        }
    }

    pub(super) fn parts(&mut self, name: &str) -> Vec<(String, &mut [f32])> {
        match self {
            State::Adam { first, second } => vec![
                (format!("{name}.first"), first.as_mut_slice()),
                (format!("{name}.second"), second),
            ],
            State::Muon { momentum } => vec![(format!("{name}.momentum"), momentum)],
        }
    }
}
