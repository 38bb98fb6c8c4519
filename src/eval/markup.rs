//! Text inside of SVG and HTML.

/// `text` with the characters that mark up replaced, for elements and for attributes in double quotes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Neither format can hold other control characters, even escaped.
            c if c.is_control() && !c.is_whitespace() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
pub mod testing {
    /// Fails unless every element of `markup` is closed in its order, as XML asks for.
    pub fn check_tags(markup: &str) {
        const ALONE: [&str; 2] = ["meta", "!DOCTYPE"];
        let mut open: Vec<String> = Vec::new();
        let mut rest = markup;
        while let Some((before, from)) = rest.split_once('<') {
            assert!(!before.contains('>'), "a stray > in {before:?}");
            let (tag, after) = from.split_once('>').expect("a tag ends");
            assert!(!tag.contains('<'), "a stray < in {tag:?}");
            assert!(tag.matches('"').count() % 2 == 0, "quotes of {tag:?}");
            rest = after;
            let name = tag
                .trim_start_matches('/')
                .split([' ', '\n', '/'])
                .next()
                .unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
            } else if !tag.ends_with('/') && !ALONE.contains(&name) {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty(), "{open:?} is not closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_marks_up() {
        assert_eq!(
            escape("<a href=\"x\">'b' & c</a>\n\u{1}"),
            "&lt;a href=&quot;x&quot;&gt;&#39;b&#39; &amp; c&lt;/a&gt;\n\u{fffd}"
        );
    }

    #[test]
    fn unbalanced_tags_are_found() {
        testing::check_tags("<a b=\"c\"><d/></a>");
        for wrong in [
            "<a>",
            "<a></b>",
            "<a b=\"></a>",
            "<a><b></a></b>",
            "a > b<c/>",
        ] {
            assert!(
                std::panic::catch_unwind(|| testing::check_tags(wrong)).is_err(),
                "{wrong}"
            );
        }
    }
}
