//! Which API a path belongs to, and so how an error is said there.

/// An API that clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Dialect {
    /// OpenAI's, and our own routes, which take after it.
    OpenAi,
    /// Ollama's (<https://github.com/ollama/ollama/blob/main/docs/api.md>).
    Ollama,
}

impl Dialect {
    /// That of a path, known or not.
    pub(in crate::http) fn of(path: &str) -> Self {
        match path.starts_with("/api/") {
            true => Dialect::Ollama,
            false => Dialect::OpenAi,
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
            ("/", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
