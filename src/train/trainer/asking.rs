//! What the stage rl asks a model, and how.

use std::path::Path;

use super::TrainError;
use super::words::Words;
use crate::eval::suite::{Problem, RewardSpec, RewardTask};
use crate::ids::TokenId;
use crate::text::{ChatTemplate, RenderOptions, Tokenizer};
use crate::train::recipe::{Recipe, Rl};

/// The task of a recipe.
pub(super) fn task(recipe: &Recipe) -> Result<Box<dyn RewardTask>, TrainError> {
    let rl = settings(recipe)?;
    let path = rl.path.as_deref().map(Path::new);
    let spec = RewardSpec::with(&rl.task, path, recipe.seed, rl.format_reward)?;
    Ok(spec.open(Path::new(""))?)
}

/// The settings of rewards.
pub(super) fn settings(recipe: &Recipe) -> Result<&Rl, TrainError> {
    let missing = || TrainError::key("rl", "the stage rl needs this section");
    recipe.rl.as_ref().ok_or_else(missing)
}

/// How the model is asked.
pub(super) struct Asking {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    system: Option<String>,
}

impl Asking {
    pub(super) fn new(recipe: &Recipe, words: &Words) -> Result<Asking, TrainError> {
        let template = words.template.clone().ok_or_else(|| {
            let reason = "it has no chat template to ask in: fine-tune it on conversations first";
            TrainError::key("model.base", reason)
        })?;
        Ok(Asking {
            tokenizer: words.tokenizer.clone(),
            template,
            system: settings(recipe)?.system_prompt.clone(),
        })
    }

    /// The tokens of a problem's prompt.
    pub(super) fn prompt(&self, problem: &Problem) -> Result<Vec<TokenId>, TrainError> {
        let messages = problem.asked(self.system.as_deref());
        let options = RenderOptions::default();
        Ok(self
            .template
            .render_ids(&self.tokenizer, &messages, &options)?)
    }
}
