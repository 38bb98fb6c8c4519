//! Which API a path belongs to, and so how an error is said there.

/// An API that clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Dialect {
    /// OpenAI's, and our own routes, which take after it.
    OpenAi,
    /// Ollama's (<https://github.com/ollama/ollama/blob/main/docs/api.md>).
    Ollama,
    /// Anthropic's (<https://docs.anthropic.com/en/api/errors>).
    Anthropic,
}

impl Dialect {
    /// That of a path, known or not.
    pub(in crate::http) fn of(path: &str) -> Self {
        if path.starts_with("/api/") {
            Dialect::Ollama
        } else if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_it_is() {
        for (path, dialect) in [
            ("/api/chat", Dialect::Ollama),
            ("/api/nowhere", Dialect::Ollama),
            ("/api", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages2", Dialect::OpenAi),
            ("/", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
