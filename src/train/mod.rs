//! Training: recipes, the model with gradients, and runs.
//!
//! [`recipe`] reads the one file that says all of a run. [`plan`] fills in what it leaves open, from the stage and the
//! shape of the model ([`scaling`]), and [`schedule`] says the learning rate of each step. [`network`] computes losses and
//! gradients on the host, [`optimizer`] turns gradients into steps, and [`checkpoint`] writes and restores both in the
//! formats of Hugging Face and PEFT. In the stage rl [`rollout`] draws answers from the present weights on the engine that
//! serves, and [`policy`] says what is learnt of their rewards. [`runs`] keeps what a run leaves on disk, [`record`] writes its log, [`early_stop`] and
//! [`watchdog`] end it, [`progress`] and [`report`] show it; [`memory`] estimates what it takes.

pub mod checkpoint;
pub mod early_stop;
pub mod memory;
pub mod network;
pub mod optimizer;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod recipe;
pub mod record;
pub mod report;
pub mod rollout;
pub mod runs;
pub mod scaling;
pub mod schedule;
pub mod trainer;
pub mod watchdog;
