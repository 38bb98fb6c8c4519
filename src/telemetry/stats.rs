//! The log line that says how an engine does, while it does something.

/// What one engine did since the line before.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsLine {
    /// The model.
    pub model: String,
    /// Sequences in the batch.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Prompt tokens that were read, a second.
    pub prompt_rate: f64,
    /// Tokens that were generated, a second.
    pub generation_rate: f64,
    /// Bytes of keys and values in use, by all models.
    pub kv_bytes: u64,
    /// Of those that there may be, the share.
    pub kv_ratio: f64,
    /// Of the prompt tokens that came, the share that a cache held; `None` when none came.
    pub prefix_hit_ratio: Option<f64>,
}

impl StatsLine {
    /// Whether there is anything to tell.
    pub fn active(&self) -> bool {
        self.running + self.waiting > 0 || self.prompt_rate + self.generation_rate > 0.0
    }

    /// Logs the line at info level under the target `llamahome::stats`.
    pub fn emit(&self) {
        tracing::info!(
            target: "llamahome::stats",
            model = self.model.as_str(),
            running = self.running,
            waiting = self.waiting,
            prompt_tokens_per_s = rounded(self.prompt_rate),
            generated_tokens_per_s = rounded(self.generation_rate),
            kv_bytes = self.kv_bytes,
            kv_ratio = rounded(self.kv_ratio),
            prefix_hit_ratio = self.prefix_hit_ratio.map(rounded),
            "engine"
        );
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_at_rest_has_nothing_to_tell() {
        let rest = StatsLine {
            model: "m".to_owned(),
            running: 0,
            waiting: 0,
            prompt_rate: 0.0,
            generation_rate: 0.0,
            kv_bytes: 10,
            kv_ratio: 0.1,
            prefix_hit_ratio: None,
        };
        assert!(!rest.active());
        for line in [
            StatsLine {
                running: 1,
                ..rest.clone()
            },
            StatsLine {
                waiting: 1,
                ..rest.clone()
            },
            StatsLine {
                generation_rate: 0.2,
                ..rest.clone()
            },
        ] {
            assert!(line.active(), "{line:?}");
        }
    }
}
