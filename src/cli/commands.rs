//! What can be typed in a chat beside questions.

use crate::ids::{BadSessionId, SessionId};
use crate::train::runs::Request;

/// The names of the commands.
pub(super) const NAMES: [&str; 20] = [
    "help", "clear", "system", "kv", "stats", "model", "show", "set", "retry", "undo", "sessions",
    "save", "load", "fork", "erase", "train", "runs", "monitor", "exit", "bye",
];

/// What `/help` shows.
pub(super) const HELP: &str = "\
/system TEXT     begin anew under these instructions; without a text, under none
/clear           begin anew
/model NAME      go on with another model, the conversation kept; without a name, list the installed ones
/show            what the model is, and the instructions
/retry           ask the last question again
/undo            forget the last question and its answer
/set KEY VALUE   temperature, top_k, top_p, min_p, seed or max_tokens; without a key, show what holds
/sessions        conversations that can be gone on with; a star marks this one
/save [NAME]     write this one to a file, under a name of its own if one is given
/load NAME       go on with another one, also with one that an earlier run saved
/fork NAME       go on in a copy of this one
/erase NAME      forget one, its file too
/train RECIPE [KEY=VALUE ...]
                 begin a training run beside the conversation; leaving the chat saves and stops it
/runs [ID]       list the runs, those of other processes too, or show one; a star marks the one begun here
/runs pause|resume|stop|save ID
                 steer one
/kv              what the KV cache keeps of the conversation, token by token
/monitor [N]     processor, memory, cache and rates, once or each second for N seconds
/stats           tokens and times of the last answer
/help            this list
/exit, /bye      leave, as does Ctrl-D
\"\"\"              begins and ends a text of several lines
Ctrl-C           stops the answer
";

/// A command of the chat.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slash {
    /// Show the list.
    Help,
    /// Forget the conversation.
    Clear,
    /// Forget it, and set the instructions.
    System(Option<String>),
    /// Show what the cache keeps.
    Kv,
    /// Show the model.
    Show,
    /// Ask the last question again.
    Retry,
    /// Forget the last question.
    Undo,
    /// Show the machine and the engine, so many times.
    Monitor(u32),
    /// Show the last usage.
    Stats,
    /// Change the model, or list those there are.
    Model(Option<String>),
    /// Change one value, or show all.
    Set(Option<(String, String)>),
    /// List the sessions.
    Sessions,
    /// Write this session to a file, under this name.
    Save(Option<SessionId>),
    /// Go on with another session.
    Load(SessionId),
    /// Go on in a copy of this session.
    Fork(SessionId),
    /// Forget a session.
    Erase(SessionId),
    /// Begin a run of this recipe with these keys set.
    Train(String, Vec<String>),
    /// See and steer runs.
    Runs(RunsCommand),
    /// Leave.
    Exit,
}

/// What `/runs` does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RunsCommand {
    /// List them.
    List,
    /// Show one.
    Show(String),
    /// Ask something of one.
    Steer(Request, String),
}

/// Reads what follows the slash.
///
/// # Errors
/// What is wrong with it, and the closest command.
pub(super) fn parse(text: &str) -> Result<Slash, String> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = Some(rest.trim())
        .filter(|rest| !rest.is_empty())
        .map(str::to_owned);
    let bare = |slash: Slash| match &rest {
        None => Ok(slash),
        Some(rest) => Err(format!("/{name} stands alone: what is {rest:?} for?")),
    };
    match name {
        "help" | "?" => bare(Slash::Help),
        "clear" => bare(Slash::Clear),
        "kv" => bare(Slash::Kv),
        "show" => bare(Slash::Show),
        "retry" => bare(Slash::Retry),
        "undo" => bare(Slash::Undo),
        "monitor" => monitor(rest),
        "stats" => bare(Slash::Stats),
        "sessions" => bare(Slash::Sessions),
        "exit" | "bye" | "quit" => bare(Slash::Exit),
        "save" => Ok(Slash::Save(rest.map(session).transpose()?)),
        "load" => Ok(Slash::Load(named(name, rest)?)),
        "fork" => Ok(Slash::Fork(named(name, rest)?)),
        "erase" => Ok(Slash::Erase(named(name, rest)?)),
        "system" => Ok(Slash::System(rest)),
        "model" => Ok(Slash::Model(rest)),
        "set" => set(rest),
        "train" => train(rest),
        "runs" => runs(rest),
        _ => Err(unknown(name)),
    }
}

fn monitor(rest: Option<String>) -> Result<Slash, String> {
    let Some(text) = rest else {
        return Ok(Slash::Monitor(1));
    };
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Slash::Monitor(seconds)),
        _ => Err(format!("/monitor {text}: use 1 to 3600 seconds")),
    }
}

fn set(rest: Option<String>) -> Result<Slash, String> {
    let Some(rest) = rest else {
        return Ok(Slash::Set(None));
    };
    let pair = rest.split_once(|c: char| c.is_whitespace() || c == '=');
    let (key, value) = pair.ok_or_else(|| format!("/set {rest} needs a value"))?;
    Ok(Slash::Set(Some((key.to_owned(), value.trim().to_owned()))))
}

fn train(rest: Option<String>) -> Result<Slash, String> {
    let rest = rest.unwrap_or_default();
    let mut words = rest.split_whitespace().map(str::to_owned);
    let recipe = words
        .next()
        .ok_or("/train needs a recipe, such as .config/train/pretrain-shakespeare.toml")?;
    let set: Vec<String> = words.collect();
    match set.iter().find(|word| !word.contains('=')) {
        None => Ok(Slash::Train(recipe, set)),
        Some(word) => Err(format!(
            "{word:?} sets nothing: write key=value, such as optim.lr=1e-4"
        )),
    }
}

fn runs(rest: Option<String>) -> Result<Slash, String> {
    let rest = rest.unwrap_or_default();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let request = |word: &str| {
        Request::ALL
            .into_iter()
            .find(|known| known.as_str() == word)
    };
    match words.as_slice() {
        [] => Ok(Slash::Runs(RunsCommand::List)),
        [word] => match request(word) {
            None => Ok(Slash::Runs(RunsCommand::Show((*word).to_owned()))),
            Some(_) => Err(format!("/runs {word} needs a run: /runs lists them")),
        },
        [word, id] => match request(word) {
            Some(request) => Ok(Slash::Runs(RunsCommand::Steer(request, (*id).to_owned()))),
            None => Err(format!(
                "/runs {word}: pause, resume, stop and save are what can be asked of a run"
            )),
        },
        _ => Err("/runs takes one run".to_owned()),
    }
}

fn named(command: &str, rest: Option<String>) -> Result<SessionId, String> {
    match rest {
        Some(rest) => session(rest),
        None => Err(format!(
            "/{command} needs a name: /sessions lists those there are"
        )),
    }
}

fn session(name: String) -> Result<SessionId, String> {
    name.parse()
        .map_err(|bad: BadSessionId| format!("{name:?} does not do: {bad}"))
}

fn unknown(name: &str) -> String {
    match nearest(name, &NAMES) {
        Some(near) => format!("there is no /{name}: did you mean /{near}?"),
        None => format!("there is no /{name}: /help lists what there is"),
    }
}

/// Of `known`, the name that is nearest to `wrong`, if it is near.
pub(super) fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), *name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let own = |text: &str| Some(text.to_owned());
        let table = [
            ("help", Slash::Help),
            ("bye", Slash::Exit),
            ("retry", Slash::Retry),
            ("undo", Slash::Undo),
            ("show", Slash::Show),
            ("monitor", Slash::Monitor(1)),
            ("monitor 5", Slash::Monitor(5)),
            ("system be  brief ", Slash::System(own("be  brief"))),
            ("system", Slash::System(None)),
            ("model smollm2", Slash::Model(own("smollm2"))),
            ("set", Slash::Set(None)),
            ("sessions", Slash::Sessions),
            ("save", Slash::Save(None)),
            ("save a-1", Slash::Save("a-1".parse().ok())),
            ("load a", Slash::Load("a".parse().unwrap())),
            ("fork a ", Slash::Fork("a".parse().unwrap())),
            ("erase a", Slash::Erase("a".parse().unwrap())),
            (
                "set top_k 5",
                Slash::Set(Some(("top_k".to_owned(), "5".to_owned()))),
            ),
            (
                "train a.toml optim.lr=1e-4",
                Slash::Train("a.toml".to_owned(), vec!["optim.lr=1e-4".to_owned()]),
            ),
            ("runs", Slash::Runs(RunsCommand::List)),
            ("runs a-1", Slash::Runs(RunsCommand::Show("a-1".to_owned()))),
            (
                "runs pause a-1",
                Slash::Runs(RunsCommand::Steer(Request::Pause, "a-1".to_owned())),
            ),
            (
                "set top_k=5",
                Slash::Set(Some(("top_k".to_owned(), "5".to_owned()))),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_slip_is_told_its_closest_command() {
        for (text, part) in [
            ("sytem x", "did you mean /system"),
            ("stat", "did you mean /stats"),
            ("zzz", "/help lists"),
            ("clear all", "stands alone"),
            ("set top_k", "needs a value"),
            ("sesions", "did you mean /sessions"),
            ("load", "needs a name"),
            ("erase", "needs a name"),
            ("fork a b", "1 to 64 letters"),
            ("save ../x", "1 to 64 letters"),
            ("sessions a", "stands alone"),
            ("train", "needs a recipe"),
            ("train a.toml lr", "sets nothing"),
            ("monitor 0", "1 to 3600"),
            ("monitor x", "1 to 3600"),
            ("retry a", "stands alone"),
            ("runs stop", "needs a run"),
            ("runs halt a-1", "pause, resume, stop and save"),
            ("runs stop a-1 b-1", "takes one run"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
