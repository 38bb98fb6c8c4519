//! From logits to the next token: parameters of a request checked into narrow types, penalties and
//! biases, the choice itself, log-probabilities, and stop strings. Plain slices only: randomness
//! is a seed, so one sequence gives the same text alone or in a batch.

mod candidates;
mod choose;
mod defaults;
mod grammar;
mod logits;
mod params;
mod raw;
mod recent;
mod stop;

pub use choose::{Choice, ChooseError, Sampler, TokenLogprob};
pub use defaults::Defaults;
pub use grammar::{
    BadShape, CallFormat, Callable, Constraint, Grammars, MAX_CHOICES, MAX_SHAPE_BYTES, Matcher,
    NO_NAME, SchemaCheck, Shape, Stuck, Unmet, is_name,
};
pub use logits::{log_softmax, logsumexp, top_logprobs, top_n};
pub use params::{Penalties, Sampling, SamplingParams};
pub use raw::{BadParam, RawSampling};
pub use stop::{MAX_STOP_BYTES, MAX_STOPS, StopMatcher, StopStep};
