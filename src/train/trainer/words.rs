//! The tokenizer and the chat template of a run, and their files.

use std::path::Path;

use serde_json::json;

use super::TrainError;
use crate::data::{Dataset, Side, TokenizerOptions, train_tokenizer};
use crate::ids::TokenId;
use crate::store::{Library, Model};
use crate::text::{BpeSpec, ChatTemplate, Tokenizer};
use crate::train::recipe;

const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];

/// What turns text into ids and back.
pub(super) struct Words {
    pub(super) tokenizer: Tokenizer,
    pub(super) template: Option<ChatTemplate>,
    /// Any of these ends an answer.
    pub(super) eos: Vec<TokenId>,
}

impl Words {
    /// Those of a model.
    pub(super) fn of(model: &Model) -> Words {
        Words {
            tokenizer: model.tokenizer.clone(),
            template: model.template.clone(),
            eos: model.eos.clone(),
        }
    }

    /// Those of a new model, kept in the run's folder `to`: trained on the data at the first start, read from there later.
    pub(super) fn of_new(
        library: &Library,
        section: &recipe::Tokenizer,
        datasets: &[&Dataset],
        to: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Words, TrainError> {
        if !FILES.iter().all(|name| to.join(name).is_file()) {
            match &section.from {
                Some(from) => {
                    let model = Model::open(&library.find(from)?.path)?;
                    Words::of(&model).save(to)?;
                }
                None => {
                    let options = TokenizerOptions {
                        doc_cap: Some(section.doc_cap),
                        max_chars: Some(section.max_chars),
                    };
                    let spec = BpeSpec::new(section.vocab_size as usize);
                    let (trained, report) =
                        train_tokenizer(datasets, Side::Train, &options, &spec)?;
                    tell(&format!(
                        "tokenizer: {} tokens from {} characters of {} documents{}{}",
                        trained.tokenizer().vocab_size(),
                        report.chars,
                        report.documents,
                        match report.capped {
                            0 => String::new(),
                            n => format!(
                                "; {n} documents were cut at {} characters",
                                section.doc_cap
                            ),
                        },
                        match report.stopped {
                            true => "; the rest was left unread (tokenizer.max_chars)",
                            false => "",
                        },
                    ));
                    trained.save(to)?;
                }
            }
        }
        Words::read(to)
    }

    /// From a folder that [`Words::save`] or a trained tokenizer wrote.
    fn read(folder: &Path) -> Result<Words, TrainError> {
        let path = folder.join("tokenizer_config.json");
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let config: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| TrainError::io(&path)(std::io::Error::from(error)))?;
        let text = |key: &str| config.get(key).and_then(|value| value.as_str());
        let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
        let id = |key: &str| text(key).and_then(|name| tokenizer.token_to_id(name));
        let (bos, eos) = (id("bos_token"), id("eos_token"));
        let template = match text("chat_template") {
            None => None,
            Some(source) => Some(ChatTemplate::new(
                source,
                text("bos_token").unwrap_or_default(),
                text("eos_token").unwrap_or_default(),
            )?),
        };
        // A model of our own template also ends its turns.
        let ends = [eos, tokenizer.token_to_id("<|im_end|>")];
        Ok(Words {
            eos: ends.into_iter().flatten().collect(),
            tokenizer: tokenizer.with_ends(bos, eos)?,
            template,
        })
    }

    /// Writes both, as transformers and this program read them.
    pub(super) fn save(&self, folder: &Path) -> Result<(), TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        let name = |id: Option<TokenId>| id.and_then(|id| self.tokenizer.id_to_token(id));
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name(self.tokenizer.bos()),
            "eos_token": name(self.tokenizer.eos()),
            "chat_template": self.template.as_ref().map(ChatTemplate::source),
            "clean_up_tokenization_spaces": false,
        });
        let [tokenizer, settings] = FILES.map(|name| folder.join(name));
        let text = self.tokenizer.to_json()?;
        std::fs::write(&tokenizer, text).map_err(TrainError::io(&tokenizer))?;
        let text = format!("{config:#}\n");
        std::fs::write(&settings, text).map_err(TrainError::io(&settings))
    }

    /// The template that conversations are written in: the file that was named, or the model's own.
    pub(super) fn template(&self, file: Option<&str>) -> Result<Option<ChatTemplate>, TrainError> {
        let Some(file) = file else {
            return Ok(self.template.clone());
        };
        let source = std::fs::read_to_string(file).map_err(TrainError::io(file))?;
        let name = |id: Option<TokenId>| id.and_then(|id| self.tokenizer.id_to_token(id));
        let bos = name(self.tokenizer.bos()).unwrap_or_default();
        let eos = name(self.tokenizer.eos()).unwrap_or_default();
        Ok(Some(ChatTemplate::new(&source, &bos, &eos)?))
    }
}
