//! `train problems`: what a task of the stage rl asks, as data to fine-tune on.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output;
use crate::eval::suite::{Problem, RewardSpec, RewardTask, Split};
use crate::text::{Message, Role};

/// The flags of `train problems`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The task as rl.task names it, such as arithmetic:operations=+-,max=20
    task: String,
    /// The file of a task that reads its problems
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// How many; without it, all of them
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    /// The seed of their order, and of which are held out: that of the recipe
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Those that are held out to evaluate by, instead of those to learn from
    #[arg(long)]
    held_out: bool,
    /// A system prompt before each, as rl.system_prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// There is no such task, its file cannot be read, or it has fewer problems.
pub(super) fn print(args: &Args) -> Result<Exit> {
    // What the format alone is worth plays no part.
    let spec = RewardSpec::with(&args.task, args.path.as_deref(), args.seed, 0.0)?;
    let task = spec.open(Path::new(""))?;
    for line in lines(task.as_ref(), args)? {
        output::line(line)?;
    }
    Ok(Exit::Done)
}

fn lines(task: &dyn RewardTask, args: &Args) -> Result<Vec<String>> {
    let split = match args.held_out {
        true => Split::HeldOut,
        false => Split::Train,
    };
    let there = task.len(split);
    let wanted = args.count.unwrap_or(there);
    ensure!(
        wanted <= there,
        "--count {wanted}: the task has {there} of these problems"
    );
    let problems = (0..wanted).filter_map(|index| task.problem(split, index));
    let line = |problem: Problem| {
        let mut messages = problem.asked(args.system.as_deref());
        messages.push(Message::new(Role::Assistant, task.solution(&problem)));
        json!({ "messages": messages }).to_string()
    };
    Ok(problems.map(line).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn printed(held_out: bool, count: Option<usize>) -> Result<Vec<String>> {
        let args = Args {
            task: "arithmetic:max=9".to_owned(),
            path: None,
            count,
            seed: 7,
            held_out,
            system: Some("Answer.".to_owned()),
        };
        let spec = RewardSpec::with(&args.task, None, args.seed, 0.0)?;
        lines(spec.open(Path::new(""))?.as_ref(), &args)
    }

    #[test]
    fn problems_are_conversations_with_right_answers() {
        let few = printed(false, Some(3)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&few[0]).unwrap();
        let message = |at: usize, key: &str| value["messages"][at][key].as_str().unwrap();
        assert_eq!(
            (message(0, "role"), message(0, "content")),
            ("system", "Answer.")
        );
        assert!(message(1, "content").starts_with("What is "));
        assert!(message(2, "content").starts_with("<answer>"));
        let all: BTreeSet<String> = printed(false, None).unwrap().into_iter().collect();
        assert!(few.iter().all(|line| all.contains(line)));
        let held_out = printed(true, None).unwrap();
        assert_eq!((all.len(), held_out.len()), (180, 20));
        assert!(held_out.iter().all(|line| !all.contains(line)));
        let error = printed(true, Some(21)).unwrap_err().to_string();
        assert!(error.contains("has 20 of these"), "{error}");
    }
}
