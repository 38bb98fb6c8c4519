//! `log`: what `run` and `chat` were asked and answered.

use anyhow::Result;
use clap::Subcommand;

use super::exit::Exit;
use super::flags::Global;
use super::host::Host;
use super::keeper;
use super::output;
use crate::config::Overrides;
use crate::history::{Conversation, ConversationId, Filter, History, Hit, Named};
use crate::text::Role;

/// Characters of a question in the list.
const SHORT: usize = 56;

/// The flags of `log`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Option<Act>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// The conversations, the latest first; what `llamahome log` does by itself
    List(ListArgs),
    /// The calls that have all these words, in the question or in the answer
    Search {
        /// The words, whole ones; case and accents do not matter
        #[arg(required = true)]
        words: Vec<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// A conversation, whole
    Show {
        /// Its id, or enough of its beginning; the last one if left out
        id: Option<Named>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove conversations
    Rm {
        /// Their ids, or enough of their beginnings
        #[arg(required_unless_present = "all")]
        ids: Vec<Named>,
        /// Remove all
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Where the file is
    Path,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// At most so many, the latest; 0 = all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Of this model only
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    fn filter(&self) -> Filter {
        Filter {
            model: self.model.clone(),
            limit: (self.limit > 0).then_some(self.limit),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the history cannot be read or written, or has no such conversation.
pub(super) fn run(global: &Global, args: Args) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let mut history = keeper::open(host.home())?;
    match args.act.unwrap_or(Act::List(args.list)) {
        Act::List(flags) => list(&history, &flags)?,
        Act::Search { words, list } => return search(&history, &words, &list),
        Act::Show { id, json } => {
            let id = history.find_or_last(id.as_ref())?;
            let said = history.conversation(&id)?;
            if json {
                output::json(&said)?;
            } else {
                show(&said)?;
            }
        }
        Act::Rm { ids, all } => remove(&mut history, &ids, all)?,
        Act::Path => output::line(keeper::path(host.home()).display())?,
    }
    Ok(Exit::Done)
}

fn list(history: &History, flags: &ListArgs) -> Result<()> {
    let lines = history.list(&flags.filter())?;
    if flags.json {
        return output::json(&lines);
    }
    if lines.is_empty() {
        eprintln!("nothing was asked yet");
        return Ok(());
    }
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            [
                line.id.to_string(),
                line.at.clone(),
                line.model.clone(),
                line.calls.to_string(),
                short(&line.prompt),
            ]
        })
        .collect();
    let table = output::table(["ID", "LAST", "MODEL", "CALLS", "FIRST QUESTION"], &rows);
    output::answer(&table)
}

fn search(history: &History, words: &[String], flags: &ListArgs) -> Result<Exit> {
    let hits = history.search(words, &flags.filter())?;
    if flags.json {
        let plain = |hit: Hit| Hit {
            excerpt: hit.excerpt.replace(['\u{2}', '\u{3}'], ""),
            ..hit
        };
        let hits: Vec<_> = hits.into_iter().map(plain).collect();
        output::json(&hits)?;
        return Ok(Exit::Done);
    }
    if hits.is_empty() {
        eprintln!("no call has {}", words.join(" "));
        return Ok(Exit::Failed);
    }
    for hit in hits {
        output::line(format!("{}  {}  {}", hit.conversation, hit.at, hit.model))?;
        for (i, part) in one_line(&hit.excerpt).split(['\u{2}', '\u{3}']).enumerate() {
            // Every second part is a word that was searched for.
            if i % 2 == 1 && output::colours(&std::io::stdout()) {
                output::text("\x1b[1m")?;
                output::answer(part)?;
                output::text("\x1b[0m")?;
            } else {
                output::answer(part)?;
            }
        }
        output::text("\n")?;
    }
    Ok(Exit::Done)
}

fn show(said: &Conversation) -> Result<()> {
    output::line(format!("conversation {}, begun {}", said.id, said.begun))?;
    if let Some(system) = &said.beginning.system {
        output::answer(&format!("instructions: {system}\n"))?;
    }
    for message in &said.beginning.before {
        match message.role {
            Role::User => output::answer(&format!("\n{}\n", quoted(&message.content)))?,
            _ => output::answer(&format!("{}\n", message.content))?,
        }
    }
    for call in &said.calls {
        let end = match call.finish_reason.as_deref() {
            None => ", stopped",
            Some("length") => ", ended by its limit",
            Some(_) => "",
        };
        output::line(format!("\n({} {}{end})", call.at, call.model))?;
        output::answer(&format!("{}\n{}\n", quoted(&call.prompt), call.answer))?;
    }
    Ok(())
}

fn remove(history: &mut History, named: &[Named], all: bool) -> Result<()> {
    let count = if all {
        history.clear()?
    } else {
        let found = named.iter().map(|named| history.find(named));
        let mut ids: Vec<ConversationId> = found.collect::<Result<_, _>>()?;
        ids.sort();
        ids.dedup();
        history.remove(&ids)?;
        ids.len()
    };
    eprintln!(
        "removed {count} conversation{}",
        if count == 1 { "" } else { "s" }
    );
    Ok(())
}

/// A question, as mail quotes.
fn quoted(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("> {line}")).collect();
    lines.join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn short(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_cut_between_characters() {
        assert_eq!(short("a\n b"), "a b");
        let long = "\u{e9}".repeat(SHORT + 1);
        assert_eq!(short(&long), format!("{}...", "\u{e9}".repeat(SHORT)));
        assert_eq!(quoted("a\nb"), "> a\n> b");
    }
}
