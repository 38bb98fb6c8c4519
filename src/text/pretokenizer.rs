//! Pre-tokenizers by the name that GGUF files give them: the regular expressions that cut a text
//! into words before BPE merges inside each. They are those of the models' published tokenizers;
//! names and groups follow llama.cpp, so that a file means the same here.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::TextError;

/// Models that cut text in the same way.
struct Family {
    names: &'static [&'static str],
    /// Applied one after the other, each inside the pieces of the one before.
    splits: &'static [&'static str],
    /// Whether a word that is a token is taken whole, without merging.
    whole_words: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const DEEPSEEK_CJK: &str = r"[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const FAMILIES: &[Family] = &[
    Family {
        names: &["default"],
        splits: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        whole_words: false,
    },
    Family {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "mellum",
            "a.x-4.0",
        ],
        splits: &[GPT2],
        whole_words: false,
    },
    Family {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        splits: &[r"\p{N}", GPT2],
        whole_words: false,
    },
    Family {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        splits: &[LLAMA3],
        whole_words: true,
    },
    Family {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"],
        splits: &[LLAMA3],
        whole_words: false,
    },
    Family {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "megrez",
            "hunyuan",
        ],
        splits: &[QWEN2],
        whole_words: false,
    },
    Family {
        names: &["deepseek-llm"],
        splits: &[
            r"[\r\n]",
            r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
            r"\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+",
            r"\s+$",
            DEEPSEEK_CJK,
            r"\p{N}+",
        ],
        whole_words: false,
    },
    Family {
        names: &["deepseek-coder"],
        splits: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            DEEPSEEK_CJK,
            r"\p{N}",
        ],
        whole_words: false,
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense"],
        splits: &[
            r"\p{N}{1,3}",
            r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+",
            DEEPSEEK3,
        ],
        whole_words: false,
    },
    Family {
        names: &["falcon"],
        splits: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
        whole_words: false,
    },
    Family {
        names: &["tekken"],
        splits: &[TEKKEN],
        whole_words: true,
    },
    Family {
        names: &["gpt-4o", "llama4"],
        splits: &[GPT4O],
        whole_words: false,
    },
    Family {
        names: &["bloom", "gpt3-finnish", "poro-chat"],
        splits: &[BLOOM],
        whole_words: false,
    },
    Family {
        names: &["viking"],
        splits: &[BLOOM, r"\p{N}"],
        whole_words: false,
    },
];

/// How a byte-level BPE cuts text.
pub(super) struct PreTokenizer {
    pub(super) steps: PreTokenizerWrapper,
    pub(super) whole_words: bool,
}

/// The pre-tokenizer of that name; `None` means `default`.
pub(super) fn pretokenizer(name: Option<&str>) -> Result<PreTokenizer, TextError> {
    let name = name.unwrap_or("default");
    let family = FAMILIES.iter().find(|family| family.names.contains(&name));
    let family = family.ok_or_else(|| TextError::PreTokenizer {
        name: name.chars().take(80).collect(),
        known: known_names(),
    })?;
    let mut steps = Vec::with_capacity(family.splits.len() + 1);
    for pattern in family.splits {
        steps.push(split(pattern)?);
    }
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(
        false, true, false,
    )));
    let steps = PreTokenizerWrapper::Sequence(Sequence::new(steps));
    Ok(PreTokenizer {
        steps,
        whole_words: family.whole_words,
    })
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper, TextError> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map(PreTokenizerWrapper::Split)
        .map_err(|error| TextError::Encode {
            reason: error.to_string(),
        })
}

fn known_names() -> String {
    let names: Vec<&str> = FAMILIES
        .iter()
        .flat_map(|family| family.names)
        .copied()
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::tokenizer::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _,
    };

    fn words(name: &str, text: &str) -> Vec<String> {
        let mut cut = PreTokenizedString::from(text);
        pretokenizer(Some(name))
            .unwrap()
            .steps
            .pre_tokenize(&mut cut)
            .unwrap();
        let pieces = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces
            .into_iter()
            .map(|(_, (start, end), _)| text[start..end].to_owned())
            .collect()
    }

    #[test]
    fn every_family_compiles_and_loses_nothing() {
        let text = "It's 12345 naïve CamelCase  тест 日本語のテ!?\r\n\t x++ 'LL ٣ «ok»   ";
        for name in FAMILIES.iter().flat_map(|family| family.names) {
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn words_are_cut_as_the_models_cut_them() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("gpt-2", "ab 123  x", &["ab", " 123", " ", " x"]),
            ("smollm", "a 12", &["a", " ", "1", "2"]),
            (
                "llama-bpe",
                "I'LL 12345\n\n b",
                &["I", "'LL", " ", "123", "45", "\n\n", " b"],
            ),
            ("qwen2", "x 12", &["x", " ", "1", "2"]),
            ("tekken", "camelCase 12", &["camel", "Case", " ", "1", "2"]),
            ("gpt-4o", "don't 1234", &["don't", " ", "123", "4"]),
            ("deepseek-llm", "ab 12", &["ab", " ", "12"]),
            ("deepseek-coder", "ab 12", &["ab", " ", "1", "2"]),
            (
                "deepseek-v3",
                "1234.foo 字x",
                &["123", "4", ".foo", " ", "字", "x"],
            ),
            ("default", "a 1234", &["a", " ", "123", "4"]),
        ];
        for (name, text, expected) in cases {
            assert_eq!(&words(name, text), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = pretokenizer(Some("klingon")).err().unwrap().to_string();
        assert!(
            error.contains("klingon") && error.contains("llama-bpe"),
            "{error}"
        );
    }
}
