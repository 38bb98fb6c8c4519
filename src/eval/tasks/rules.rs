//! Rules for every reply of a dialogue whose keeping can be read off the reply, in the manner of IFEval
//! (<https://arxiv.org/abs/2311.07911>). A reply seldom keeps one by chance.

use serde::Serialize;

/// What every reply has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// End with the word OVER.
    EndsWithOver,
    /// Begin with "Noted:".
    BeginsWithNoted,
    /// Have no small letters.
    Capitals,
    /// Have no capital letters.
    SmallLetters,
    /// Stand in square brackets.
    Brackets,
    /// Mention a lantern.
    Lantern,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 6] = [
        Rule::EndsWithOver,
        Rule::BeginsWithNoted,
        Rule::Capitals,
        Rule::SmallLetters,
        Rule::Brackets,
        Rule::Lantern,
    ];

    /// The rule as the system prompt states it.
    pub fn text(&self) -> &'static str {
        match self {
            Rule::EndsWithOver => "End every reply with \"OVER\", in capitals.",
            Rule::BeginsWithNoted => "Begin every reply with \"Noted:\".",
            Rule::Capitals => "Write every reply in capital letters only.",
            Rule::SmallLetters => "Write every reply in small letters only, without any capital.",
            Rule::Brackets => "Put every reply as a whole in square brackets.",
            Rule::Lantern => "Use the word \"lantern\" in every reply.",
        }
    }

    /// Whether `reply` keeps it. White space around the reply does not count, nor full stops and quotation marks after a
    /// last word. A reply that was cut off cannot keep a rule about its end.
    pub fn obeyed(&self, reply: &str) -> bool {
        let reply = reply.trim();
        let has = |kind: fn(char) -> bool| reply.chars().any(kind);
        match self {
            Rule::EndsWithOver => {
                let words = reply.trim_end_matches(['.', '!', '"', '\'', '*', '\u{201d}']);
                words
                    .strip_suffix("OVER")
                    .is_some_and(|before| !before.ends_with(char::is_alphanumeric))
            }
            Rule::BeginsWithNoted => reply.starts_with("Noted:"),
            Rule::Capitals => has(char::is_uppercase) && !has(char::is_lowercase),
            Rule::SmallLetters => has(char::is_lowercase) && !has(char::is_uppercase),
            Rule::Brackets => reply.len() > 2 && reply.starts_with('[') && reply.ends_with(']'),
            Rule::Lantern => reply.to_lowercase().contains("lantern"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_broken() {
        for (rule, kept, broken) in [
            (
                Rule::EndsWithOver,
                vec!["It rains. OVER", "OVER", "Yes, \"OVER\".\n"],
                vec!["", "over", "HANGOVER", "OVER and out", "It is over."],
            ),
            (
                Rule::BeginsWithNoted,
                vec!["Noted: yes", " Noted:"],
                vec!["", "noted: yes", "Yes. Noted:", "Noted yes"],
            ),
            (
                Rule::Capitals,
                vec!["YES, 3.", "ÉTÉ"],
                vec!["", "Yes", "123", "YES no"],
            ),
            (
                Rule::SmallLetters,
                vec!["yes, 3.", "été"],
                vec!["", "Yes", "123", "yes NO"],
            ),
            (
                Rule::Brackets,
                vec!["[yes]", "\n[a b.]\n"],
                vec!["", "[]", "[yes", "yes]", "a [b]", "[a]."],
            ),
            (
                Rule::Lantern,
                vec!["A Lantern.", "lanterns"],
                vec!["", "A lamp."],
            ),
        ] {
            for reply in kept {
                assert!(rule.obeyed(reply), "{rule:?} is kept by {reply:?}");
            }
            for reply in broken {
                assert!(!rule.obeyed(reply), "{rule:?} is broken by {reply:?}");
            }
        }
    }

    #[test]
    fn an_ordinary_reply_keeps_none() {
        let reply = "Bread is made of flour, water, salt and yeast.";
        for rule in Rule::ALL {
            assert!(!rule.obeyed(reply), "{rule:?}");
            assert!(
                !rule.obeyed(rule.text()) || rule == Rule::Lantern,
                "{rule:?}"
            );
        }
    }
}
