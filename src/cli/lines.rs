//! Lines that someone types or pipes in, read on a thread of their own: the actors never wait for a person.

use std::borrow::Cow;
use std::io::BufRead;
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use reedline::{
    ColumnarMenu, DefaultCompleter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder,
    Prompt, PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::sync::mpsc;

use super::commands;

/// What begins and ends a text of several lines.
pub(super) const FENCE: &str = "\"\"\"";
const HISTORY: usize = 1000;

/// What was entered.
#[derive(Debug)]
pub(super) enum Input {
    /// A line, or several between fences.
    Line(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// The end.
    End,
    /// It cannot be read.
    Failed(String),
}

/// The thread that reads.
pub(super) struct Lines {
    want: std::sync::mpsc::Sender<()>,
    got: mpsc::Receiver<Input>,
    thread: JoinHandle<()>,
}

impl Lines {
    /// Lines of standard input.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn piped() -> Result<Self> {
        Self::spawn(move || match std::io::stdin().lock().lines().next() {
            Some(Ok(line)) => Input::Line(line),
            Some(Err(error)) => Input::Failed(error.to_string()),
            None => Input::End,
        })
    }

    /// Lines of an editor on the terminal, whose history is kept in `history`.
    ///
    /// # Errors
    /// When the history cannot be read or no thread can be had.
    pub(super) fn edited(history: PathBuf, models: Vec<String>) -> Result<Self> {
        let mut editor = editor(history, models)?;
        Self::spawn(move || {
            let input = match editor.read_line(&Arrow) {
                Ok(Signal::Success(line)) => Input::Line(line),
                Ok(Signal::CtrlD) => Input::End,
                Ok(_) => Input::Interrupted,
                Err(error) => Input::Failed(error.to_string()),
            };
            // A history that cannot be written is no reason to end a conversation.
            let _ = editor.sync_history();
            input
        })
    }

    fn spawn(mut read: impl FnMut() -> Input + Send + 'static) -> Result<Self> {
        let (want, wanted) = std::sync::mpsc::channel();
        let (send, got) = mpsc::channel(1);
        let work = move || {
            while wanted.recv().is_ok() {
                if send.blocking_send(read()).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(work);
        let thread = thread.context("cannot start a thread")?;
        Ok(Lines { want, got, thread })
    }

    /// The next input. Not to be dropped half-way and called again.
    pub(super) async fn next(&mut self) -> Input {
        if self.want.send(()).is_err() {
            return Input::End;
        }
        self.got.recv().await.unwrap_or(Input::End)
    }

    /// Ends the thread, which must not be reading.
    pub(super) fn close(self) {
        drop(self.want);
        // It can only have panicked, and has said so.
        let _ = self.thread.join();
    }
}

fn editor(history: PathBuf, models: Vec<String>) -> Result<Reedline> {
    let past = FileBackedHistory::with_file(HISTORY, history.clone())
        .with_context(|| format!("cannot read the history {}", history.display()))?;
    let mut words =
        DefaultCompleter::with_inclusions(&['/', '.', '-', '_', ':']).set_min_word_len(1);
    words.insert(
        commands::NAMES
            .iter()
            .map(|name| format!("/{name}"))
            .chain(models)
            .collect(),
    );
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![
        ReedlineEvent::Menu("words".to_owned()),
        ReedlineEvent::MenuNext,
    ]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let menu = Box::new(ColumnarMenu::default().with_name("words"));
    Ok(Reedline::create()
        .with_history(Box::new(past))
        .with_validator(Box::new(Fences))
        .with_completer(Box::new(words))
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_quick_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_ansi_colors(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        .use_bracketed_paste(true))
}

/// A line that begins with a fence goes on until the next one.
struct Fences;

impl Validator for Fences {
    fn validate(&self, line: &str) -> ValidationResult {
        if is_open(line) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Complete
        }
    }
}

fn is_open(text: &str) -> bool {
    let rest = text.trim_start().strip_prefix(FENCE);
    rest.is_some_and(|rest| !rest.contains(FENCE))
}

/// The text between fences, or all of it when there are none.
pub(super) fn unfenced(text: &str) -> &str {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix(FENCE);
    let inner = inner.map(|inner| inner.strip_suffix(FENCE).unwrap_or(inner));
    inner.unwrap_or(trimmed).trim_matches('\n')
}

struct Arrow;

impl Prompt for Arrow {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "… ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("search {}: ", search.term).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_holds_several_lines() {
        for (text, open) in [
            ("hi", false),
            ("\"\"\"a", true),
            ("\"\"\"a\nb\"\"\"", false),
            ("a \"\"\"", false),
        ] {
            assert_eq!(is_open(text), open, "{text:?}");
        }
        assert_eq!(unfenced("\"\"\"\na\nb\n\"\"\""), "a\nb");
        assert_eq!(unfenced("  plain "), "plain");
    }
}
