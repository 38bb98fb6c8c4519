//! Texts that come in pieces, and a sign that is looked for in them.

/// Where `tag` begins in `text`; or, when it is not there, where it may begin: that much of the end is to be held back.
pub(super) fn find(text: &str, tag: &str) -> Result<usize, usize> {
    if let Some(at) = text.find(tag) {
        return Ok(at);
    }
    let starts = tag.char_indices().map(|(at, _)| at).skip(1);
    let longest = starts
        .filter_map(|length| tag.get(..length))
        .filter(|start| text.ends_with(start))
        .map(str::len)
        .max();
    Err(text.len() - longest.unwrap_or(0))
}

/// The text before and after its last non-space character.
pub(super) fn split_space(text: &str) -> (&str, &str) {
    let solid = text.trim_end().len();
    (
        text.get(..solid).unwrap_or_default(),
        text.get(solid..).unwrap_or_default(),
    )
}
