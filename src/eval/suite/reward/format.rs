//! The format in which an answer is required.

/// What a prompt says of the format.
pub(super) const REQUEST: &str = "Give the final answer as <answer>...</answer>.";

/// A reply that is the answer alone.
pub(super) fn reply_of(answer: &str) -> String {
    format!("<answer>{answer}</answer>")
}

/// The answer in a reply: what stands in its one `<answer>...</answer>`, without space around it. None where the tags
/// are missing, doubled or empty.
pub fn answer_in(reply: &str) -> Option<&str> {
    let (before, rest) = reply.split_once("<answer>")?;
    let (answer, after) = rest.split_once("</answer>")?;
    let more = |text: &str| text.contains("<answer>") || text.contains("</answer>");
    let answer = answer.trim();
    (!more(before) && !more(answer) && !more(after) && !answer.is_empty()).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_found() {
        for (reply, answer) in [
            ("<answer>42</answer>", Some("42")),
            ("So: <answer> 4 </answer>.", Some("4")),
            ("42", None),
            ("<answer>42", None),
            ("<answer></answer>", None),
            ("<answer>1</answer><answer>2</answer>", None),
            ("<answer><answer>2</answer>", None),
            ("</answer><answer>2</answer>", None),
        ] {
            assert_eq!(answer_in(reply), answer, "{reply}");
        }
    }
}
