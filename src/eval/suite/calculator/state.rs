//! Watching what a sequence writes for a call of the calculator.

use super::expression::{CalculatorError, MAX_EXPRESSION, calculate};

/// What stands around a call and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Markers {
    /// Before the expression.
    pub open: String,
    /// After it: here the result is due.
    pub close: String,
    /// Before the result.
    pub result_open: String,
    /// After the result.
    pub result_close: String,
}

impl Markers {
    /// `<<48/2=24>>`, as GSM8K's solutions are annotated (<https://arxiv.org/abs/2110.14168>).
    pub fn gsm8k() -> Self {
        Markers::new("<<", "=", "", ">>")
    }

    /// nanochat's tool tokens (<https://github.com/karpathy/nanochat>):
    /// `<|python_start|>48/2<|python_end|><|output_start|>24<|output_end|>`.
    pub fn tool_tokens() -> Self {
        Markers::new(
            "<|python_start|>",
            "<|python_end|>",
            "<|output_start|>",
            "<|output_end|>",
        )
    }

    fn new(open: &str, close: &str, result_open: &str, result_close: &str) -> Self {
        Markers {
            open: open.to_owned(),
            close: close.to_owned(),
            result_open: result_open.to_owned(),
            result_close: result_close.to_owned(),
        }
    }
}

/// What decoding must write instead of what the model samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// Bytes of the piece just pushed that stand; the rest of it, if any, was the model's own guess at the result and
    /// is to be dropped.
    pub keep: usize,
    /// The text to append, result and markers.
    pub text: String,
}

/// The calls in one sequence: feed it each piece of decoded text, and append what it says.
#[derive(Debug, Clone)]
pub struct CalculatorState {
    markers: Markers,
    /// The end of what was written outside of a call, as far as it may begin a marker.
    tail: String,
    /// What was written of the expression, in a call.
    expression: Option<String>,
    refusals: Vec<CalculatorError>,
}

impl CalculatorState {
    /// A sequence that has written nothing.
    pub fn new(markers: Markers) -> Self {
        CalculatorState {
            markers,
            tail: String::new(),
            expression: None,
            refusals: Vec::new(),
        }
    }

    /// Takes in the next piece of sampled text, and says what to force after it. The forced text is not to be pushed.
    ///
    /// A call that the calculator refuses forces nothing, as the model then writes on by itself; see
    /// [`refusals`](Self::refusals).
    /// An expression that runs past a line or past what the calculator reads is no call.
    pub fn push(&mut self, piece: &str) -> Option<Forced> {
        for (at, c) in piece.char_indices() {
            let end = at + c.len_utf8();
            let Some(expression) = &mut self.expression else {
                self.tail.push(c);
                if self.tail.ends_with(&self.markers.open) {
                    self.tail.clear();
                    self.expression = Some(String::new());
                }
                self.shorten();
                continue;
            };
            expression.push(c);
            if let Some(call) = expression.strip_suffix(&self.markers.close) {
                let outcome = calculate(call);
                self.expression = None;
                match outcome {
                    Ok(value) => {
                        let Markers {
                            result_open,
                            result_close,
                            ..
                        } = &self.markers;
                        return Some(Forced {
                            keep: end,
                            text: format!("{result_open}{value}{result_close}"),
                        });
                    }
                    Err(refusal) => self.refusals.push(refusal),
                }
            } else if c == '\n' || expression.len() > MAX_EXPRESSION + self.markers.close.len() {
                self.expression = None;
            }
        }
        None
    }

    /// Calls that had no value, in order.
    pub fn refusals(&self) -> &[CalculatorError] {
        &self.refusals
    }

    /// Whether an expression has begun and not ended.
    pub fn in_call(&self) -> bool {
        self.expression.is_some()
    }

    fn shorten(&mut self) {
        let longest = self.markers.open.len();
        while self.tail.len() > longest {
            self.tail.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(markers: Markers, pieces: &[&str]) -> (String, usize) {
        let mut state = CalculatorState::new(markers);
        let mut text = String::new();
        for piece in pieces {
            match state.push(piece) {
                Some(forced) => {
                    text += &piece[..forced.keep];
                    text += &forced.text;
                }
                None => text += piece,
            }
        }
        (text, state.refusals().len())
    }

    #[test]
    fn results_are_forced_wherever_pieces_end() {
        let text = "He has 48/2 = <<48/2=";
        let whole = run(Markers::gsm8k(), &[text]);
        assert_eq!(whole, ("He has 48/2 = <<48/2=24>>".to_owned(), 0));
        for at in 0..text.len() {
            assert_eq!(run(Markers::gsm8k(), &[&text[..at], &text[at..]]), whole);
        }
    }

    #[test]
    fn a_guess_in_the_same_piece_is_dropped() {
        assert_eq!(run(Markers::gsm8k(), &["é<<2*3", "=7"]).0, "é<<2*3=6>>");
    }

    #[test]
    fn tool_tokens_frame_the_output() {
        let (text, _) = run(
            Markers::tool_tokens(),
            &[
                "<|python_start|>",
                "'aba'.count('a')",
                "<|python_end|>",
                ".",
            ],
        );
        assert_eq!(
            text,
            "<|python_start|>'aba'.count('a')<|python_end|><|output_start|>2<|output_end|>."
        );
    }

    #[test]
    fn what_is_no_call_passes() {
        for (text, refusals) in [
            ("a < b << c\n=", 0),
            ("<<x=3>> <<2**3=", 2),
            ("<<1/0=", 1),
            ("1=1", 0),
        ] {
            assert_eq!(run(Markers::gsm8k(), &[text]), (text.to_owned(), refusals));
        }
        let long = format!("<<{}=", "1".repeat(300));
        assert_eq!(run(Markers::gsm8k(), &[&long]).0, long);
        let mut state = CalculatorState::new(Markers::gsm8k());
        state.push("<<1");
        assert!(state.in_call());
    }
}
