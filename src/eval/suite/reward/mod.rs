//! Tasks whose scoring is a reward: problems, what a model is asked, and what its reply is worth.

mod arithmetic;
mod format;
mod gsm8k;
mod mixture;
mod problem;
mod spec;
mod spelling;

pub use arithmetic::Arithmetic;
pub use format::answer_in;
pub use gsm8k::Gsm8k;
pub use mixture::{Mixture, Slice};
pub use problem::{Problem, Reward, RewardError, RewardTask, Split};
pub use spec::RewardSpec;
pub use spelling::Spelling;
