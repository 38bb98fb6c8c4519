//! Calls among words.

use super::object::{Object, whole};
use super::tag::{find, split_space};
use super::{CallSyntax, Part};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Takes calls out of a text.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    syntax: CallSyntax,
    functions: Vec<String>,
    at: At,
    /// What is not certain yet.
    held: String,
    /// Calls that have begun.
    made: usize,
}

#[derive(Debug, Clone)]
enum At {
    /// Between words, or before the first.
    Words {
        /// Whether anything but white space came since the last call.
        solid: bool,
    },
    /// In something that may be a call.
    Object(Object),
    /// Behind a call's object.
    Behind,
}

impl Calls {
    pub(super) fn new(syntax: CallSyntax, functions: Vec<String>) -> Self {
        Calls {
            syntax,
            functions,
            at: At::Words { solid: false },
            held: String::new(),
            made: 0,
        }
    }

    pub(super) fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        self.held.push_str(text);
        while self.step(parts) {}
    }

    pub(super) fn finish(&mut self, parts: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.at, At::Words { solid: false }) {
            At::Words { .. } => {
                // White space about calls is theirs.
                let kept = match self.made {
                    0 => held.as_str(),
                    _ => held.trim_end(),
                };
                say(kept, parts);
            }
            At::Object(object) if object.begun() => {}
            At::Object(object) => self.judge(&object.raw, true, parts),
            At::Behind => {}
        }
    }

    /// Takes one part from what is held. Returns whether there may be more.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match std::mem::replace(&mut self.at, At::Behind) {
            At::Words { solid } => self.words(solid, parts),
            At::Object(object) => self.object(object, parts),
            At::Behind => self.behind(),
        }
    }

    fn words(&mut self, solid: bool, parts: &mut Vec<Part>) -> bool {
        if self.syntax == CallSyntax::Llama {
            let begins = self.held.trim_start();
            if !solid && begins.is_empty() {
                self.at = At::Words { solid };
                return false;
            }
            if !solid && begins.starts_with('{') {
                self.at = At::Object(Object::default());
                return true;
            }
            say(&std::mem::take(&mut self.held), parts);
            self.at = At::Words { solid: true };
            return false;
        }
        let found = find(&self.held, OPEN);
        let (Ok(end) | Err(end)) = found;
        let held = std::mem::take(&mut self.held);
        let (before, after) = held.split_at(end);
        let (text, space) = split_space(before);
        say(text, parts);
        let solid = solid || !text.is_empty();
        match found {
            Ok(_) => {
                self.held = after.strip_prefix(OPEN).unwrap_or(after).to_owned();
                self.at = At::Object(Object::default());
                true
            }
            Err(_) => {
                self.held = format!("{space}{after}");
                self.at = At::Words { solid };
                false
            }
        }
    }

    fn object(&mut self, mut object: Object, parts: &mut Vec<Part>) -> bool {
        object.push(&std::mem::take(&mut self.held));
        if !object.begun()
            && let Some(name) = object.begin()
        {
            if !self.functions.contains(&name) {
                // Nobody could answer it.
                self.give_up(&object.raw, parts);
                return true;
            }
            self.begin(name, parts);
        }
        if object.begun() {
            let text = object.more();
            if let (false, Some(index)) = (text.is_empty(), self.made.checked_sub(1)) {
                parts.push(Part::Arguments { index, text });
            }
            if let Some(behind) = object.behind() {
                self.held = behind.to_owned();
                self.at = At::Behind;
                return true;
            }
            self.at = At::Object(object);
            return false;
        }
        // In another order: once it is there as a whole.
        if self.syntax == CallSyntax::Hermes
            && let Some((inside, rest)) = object.raw.split_once(CLOSE)
        {
            self.held = rest.to_owned();
            self.at = At::Words { solid: false };
            self.judge(inside, false, parts);
            return true;
        }
        self.at = At::Object(object);
        false
    }

    /// Behind the arguments: what closes the call is passed over.
    fn behind(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        let close = match self.syntax {
            CallSyntax::Hermes => CLOSE,
            CallSyntax::Llama => ";",
        };
        let Some((_, rest)) = held.split_once(close) else {
            self.held = held;
            self.at = At::Behind;
            return false;
        };
        self.held = rest.to_owned();
        self.at = At::Words { solid: false };
        true
    }

    /// A call or words: `text` is all that stands in its place.
    fn judge(&mut self, text: &str, cut: bool, parts: &mut Vec<Part>) {
        let call = whole(text).filter(|(name, _)| self.functions.contains(name));
        let Some((name, arguments)) = call else {
            let close = if cut { "" } else { CLOSE };
            match self.syntax {
                CallSyntax::Hermes => say(&format!("{OPEN}{text}{close}"), parts),
                CallSyntax::Llama => say(text, parts),
            }
            return;
        };
        self.begin(name, parts);
        if let Some(index) = self.made.checked_sub(1) {
            let text = arguments;
            parts.push(Part::Arguments { index, text });
        }
    }

    /// What began as a call is words, and what follows may be anything.
    fn give_up(&mut self, raw: &str, parts: &mut Vec<Part>) {
        if self.syntax == CallSyntax::Hermes {
            say(OPEN, parts);
        }
        self.held = raw.to_owned();
        self.at = At::Words { solid: true };
    }

    fn begin(&mut self, name: String, parts: &mut Vec<Part>) {
        parts.push(Part::Call {
            index: self.made,
            name,
        });
        self.made += 1;
    }
}

fn say(text: &str, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Words(text.to_owned()));
    }
}
