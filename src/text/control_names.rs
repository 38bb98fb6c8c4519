//! Names of control tokens, looked for in text that may not contain them.

use std::collections::BTreeSet;

use crate::ids::TokenId;

use super::spelling::Spelling;

/// Names of the control tokens, sorted by first character for one pass over a text.
#[derive(Debug, Clone)]
pub(super) struct ControlNames {
    firsts: Vec<char>,
    names: BTreeSet<String>,
}

impl ControlNames {
    pub(super) fn of(spelling: &Spelling, unk: Option<TokenId>) -> Self {
        let ids = spelling.special_ids().filter(|id| unk != Some(*id));
        let names = ids.map(|id| String::from_utf8_lossy(spelling.bytes(id)).into_owned());
        let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
        let firsts: BTreeSet<char> = names
            .iter()
            .filter_map(|name| name.chars().next())
            .collect();
        ControlNames {
            firsts: firsts.into_iter().collect(),
            names,
        }
    }

    /// Whether a text contains one of the names.
    pub(super) fn occur_in(&self, text: &str) -> bool {
        text.match_indices(self.firsts.as_slice()).any(|(at, _)| {
            let rest = text.get(at..).unwrap_or_default();
            self.names
                .iter()
                .any(|name| rest.starts_with(name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::text::tokenizer_file::tests::small;

    #[test]
    fn control_names_are_found_anywhere_in_a_text() {
        let tokenizer = small();
        for (text, found) in [
            ("a <<s> b", true),
            ("< s>", false),
            ("", false),
            ("<tag>", false),
        ] {
            assert_eq!(tokenizer.names_control(text), found, "{text}");
        }
    }
}
