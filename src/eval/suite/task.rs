//! A task as its file gives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{SuiteError, invalid};
use super::judge::GenerateOptions;
use super::metric::Metric;
use super::pattern::Pattern;

/// What the log probability of a choice is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Its tokens, as CORE does.
    #[default]
    Tokens,
    /// Its bytes.
    Bytes,
    /// Nothing.
    None,
}

/// What is asked of a model, and how it is scored.
#[derive(Debug, Clone)]
pub enum Kind {
    /// How well texts are predicted.
    Loss,
    /// Which of several continuations of one context is most probable.
    MultipleChoice {
        /// By which measure.
        normalise: Normalise,
    },
    /// After which of several contexts one continuation is most probable.
    Schema {
        /// By which measure.
        normalise: Normalise,
    },
    /// What follows a text.
    Generation {
        /// How it is compared.
        metric: Metric,
        /// How it is drawn.
        options: GenerateOptions,
    },
    /// What is answered to a user.
    Chat {
        /// How it is compared.
        metric: Metric,
        /// How it is drawn.
        options: GenerateOptions,
    },
    /// Code, whose tests are run.
    Code {
        /// How it is drawn.
        options: GenerateOptions,
        /// The program: the fields of the item, and `{reply}`.
        program: Pattern,
        /// Whether the model is asked as a chat model.
        chat: bool,
    },
}

impl Kind {
    /// Its name in task files.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Loss => "loss",
            Kind::MultipleChoice { .. } => "multiple_choice",
            Kind::Schema { .. } => "schema",
            Kind::Generation { .. } => "generation",
            Kind::Chat { .. } => "chat",
            Kind::Code { .. } => "code",
        }
    }
}

/// Where the items are.
#[derive(Debug, Clone)]
pub(super) enum Items {
    /// One JSON object a line.
    Data(PathBuf),
    /// In the file itself, or made by this program.
    Inline(Vec<Map<String, Value>>),
}

/// A task, its items not yet read.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    /// Its name, unique in a catalogue.
    pub name: String,
    /// What it measures, in a sentence.
    pub about: String,
    /// What is asked.
    pub kind: Kind,
    /// Where it is from: the file, or "built in".
    pub source: String,
    /// Examples before each question.
    pub shots: usize,
    /// What stands between a prompt and its answer.
    pub delimiter: String,
    /// The accuracy of guessing, 0 to below 1; none for losses.
    pub baseline: f64,
    /// Items asked at most.
    pub limit: Option<usize>,
    pub(super) template: Pattern,
    pub(super) items: Items,
}

/// A task file, key by key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    #[serde(default)]
    about: String,
    kind: KindName,
    data: Option<PathBuf>,
    items: Option<Vec<Map<String, Value>>>,
    template: Option<String>,
    delimiter: Option<String>,
    shots: Option<usize>,
    baseline: Option<f64>,
    limit: Option<usize>,
    normalise: Option<Normalise>,
    metric: Option<MetricName>,
    pattern: Option<String>,
    max_new: Option<usize>,
    temperature: Option<f32>,
    samples: Option<usize>,
    stop: Option<Vec<String>>,
    program: Option<String>,
    chat: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    Loss,
    MultipleChoice,
    Schema,
    Generation,
    Chat,
    Code,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MetricName {
    Exact,
    Contains,
    Numeric,
    Regex,
    Greedy,
}

impl TaskSpec {
    /// Reads a task file's `text`; `path` is for messages, and its folder is where `data` starts.
    ///
    /// # Errors
    /// [`SuiteError::Invalid`] with the file and line of an unknown key, a key that does nothing for the kind, or a
    /// value out of range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SuiteError> {
        let at = |line: usize| format!("{}:{line}", path.display());
        let file: TaskFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            invalid(at(line), error.message())
        })?;
        let fault = |key: &str, why: String| invalid(at(line_of_key(text, key)), why);
        refuse_idle(&file).map_err(|(key, why)| fault(key, why))?;
        let items = match (&file.data, &file.items) {
            (Some(data), None) => Items::Data(path.parent().unwrap_or(Path::new("")).join(data)),
            (None, Some(items)) => Items::Inline(items.clone()),
            _ => {
                let why = "a task has either data, the path of a JSONL file, or items";
                return Err(fault("data", why.to_owned()));
            }
        };
        let baseline = file.baseline.unwrap_or(0.0);
        if !(0.0..1.0).contains(&baseline) {
            return Err(fault(
                "baseline",
                format!(
                    "baseline is {baseline}; it is the accuracy of guessing, from 0 to below 1"
                ),
            ));
        }
        if file.name.trim().is_empty() {
            return Err(fault("name", "a task needs a name".to_owned()));
        }
        if file.limit == Some(0) {
            return Err(fault(
                "limit",
                "limit 0 asks nothing; leave it out to ask all".to_owned(),
            ));
        }
        let template = match (&file.template, file.kind) {
            (Some(template), _) => template.as_str(),
            (None, KindName::Loss) => "{text}",
            (None, KindName::MultipleChoice) => "{query}",
            (None, KindName::Schema) => "",
            (None, _) => "{prompt}",
        };
        let template = Pattern::parse(template).map_err(|why| fault("template", why))?;
        let chats = match file.kind {
            KindName::Chat => true,
            KindName::Code => file.chat.unwrap_or(false),
            _ => false,
        };
        Ok(TaskSpec {
            kind: kind(&file).map_err(|(key, why)| fault(key, why))?,
            name: file.name,
            about: file.about,
            source: path.display().to_string(),
            shots: file.shots.unwrap_or(0),
            delimiter: file
                .delimiter
                .unwrap_or_else(|| if chats { "" } else { " " }.to_owned()),
            baseline,
            limit: file.limit,
            template,
            items,
        })
    }
}

/// A key and what is wrong with it.
type Fault = (&'static str, String);

fn kind(file: &TaskFile) -> Result<Kind, Fault> {
    let normalise = file.normalise.unwrap_or_default();
    Ok(match file.kind {
        KindName::Loss => Kind::Loss,
        KindName::MultipleChoice => Kind::MultipleChoice { normalise },
        KindName::Schema => Kind::Schema { normalise },
        KindName::Generation => Kind::Generation {
            metric: metric(file)?,
            options: options(file)?,
        },
        KindName::Chat => Kind::Chat {
            metric: metric(file)?,
            options: options(file)?,
        },
        KindName::Code => {
            let program = file
                .program
                .as_deref()
                .unwrap_or("{prompt}{reply}\n{test}\n");
            let program = Pattern::parse(program).map_err(|why| ("program", why))?;
            if !program.fields().any(|field| field == "reply") {
                return Err((
                    "program",
                    "program has no {reply}, so no code of the model's".to_owned(),
                ));
            }
            Kind::Code {
                options: options(file)?,
                program,
                chat: file.chat.unwrap_or(false),
            }
        }
    })
}

fn metric(file: &TaskFile) -> Result<Metric, Fault> {
    let name = file.metric.unwrap_or(MetricName::Exact);
    if file.pattern.is_some() && name != MetricName::Regex {
        return Err((
            "pattern",
            "pattern belongs to metric = \"regex\"".to_owned(),
        ));
    }
    Ok(match name {
        MetricName::Exact => Metric::Exact,
        MetricName::Contains => Metric::Contains,
        MetricName::Numeric => Metric::Numeric,
        MetricName::Greedy if file.kind == KindName::Chat => {
            return Err((
                "metric",
                "metric greedy is of kind generation; a chat is answered".to_owned(),
            ));
        }
        MetricName::Greedy => Metric::Greedy,
        MetricName::Regex => {
            let Some(pattern) = &file.pattern else {
                return Err(("metric", "metric regex needs a pattern".to_owned()));
            };
            Metric::Regex(Regex::new(pattern).map_err(|e| ("pattern", e.to_string()))?)
        }
    })
}

fn options(file: &TaskFile) -> Result<GenerateOptions, Fault> {
    let defaults = GenerateOptions::default();
    let temperature = file.temperature.unwrap_or(defaults.temperature);
    if !(0.0..=2.0).contains(&temperature) {
        return Err((
            "temperature",
            format!("temperature is {temperature}; it goes from 0 to 2"),
        ));
    }
    for (key, value) in [("max_new", file.max_new), ("samples", file.samples)] {
        if value == Some(0) {
            return Err((key, format!("{key} is at least 1")));
        }
    }
    if file.samples.is_some_and(|samples| samples > 1) && temperature == 0.0 {
        return Err((
            "samples",
            "at temperature 0 all samples are one; raise temperature".to_owned(),
        ));
    }
    Ok(GenerateOptions {
        max_new: file.max_new.unwrap_or(defaults.max_new),
        temperature,
        samples: file.samples.unwrap_or(defaults.samples),
        stop: file.stop.clone().unwrap_or(defaults.stop),
    })
}

/// Refuses keys that would do nothing for the kind.
fn refuse_idle(file: &TaskFile) -> Result<(), Fault> {
    use KindName::{Chat, Code, Generation, Loss, MultipleChoice, Schema};
    let given = BTreeMap::from([
        (
            "template",
            (
                file.template.is_some(),
                &[Loss, MultipleChoice, Generation, Chat, Code][..],
            ),
        ),
        (
            "delimiter",
            (
                file.delimiter.is_some(),
                &[MultipleChoice, Schema, Generation][..],
            ),
        ),
        (
            "shots",
            (
                file.shots.is_some(),
                &[MultipleChoice, Schema, Generation, Chat][..],
            ),
        ),
        (
            "baseline",
            (
                file.baseline.is_some(),
                &[MultipleChoice, Schema, Generation, Chat, Code][..],
            ),
        ),
        (
            "normalise",
            (file.normalise.is_some(), &[MultipleChoice, Schema][..]),
        ),
        ("metric", (file.metric.is_some(), &[Generation, Chat][..])),
        ("pattern", (file.pattern.is_some(), &[Generation, Chat][..])),
        (
            "max_new",
            (file.max_new.is_some(), &[Generation, Chat, Code][..]),
        ),
        (
            "temperature",
            (file.temperature.is_some(), &[Generation, Chat, Code][..]),
        ),
        (
            "samples",
            (file.samples.is_some(), &[Generation, Chat, Code][..]),
        ),
        ("stop", (file.stop.is_some(), &[Generation, Chat, Code][..])),
        ("program", (file.program.is_some(), &[Code][..])),
        ("chat", (file.chat.is_some(), &[Code][..])),
    ]);
    for (key, (given, kinds)) in given {
        if given && !kinds.contains(&file.kind) {
            return Err((
                key,
                format!("{key} does nothing for kind {:?}; leave it out", file.kind),
            ));
        }
    }
    let greedy = file.metric == Some(MetricName::Greedy);
    let drawn = [
        ("max_new", file.max_new.is_some()),
        ("temperature", file.temperature.is_some()),
        ("samples", file.samples.is_some()),
        ("stop", file.stop.is_some()),
    ];
    match drawn.into_iter().find(|(_, given)| greedy && *given) {
        Some((key, _)) => Err((
            key,
            format!("{key} does nothing for metric greedy, which draws no reply"),
        )),
        None => Ok(()),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
        + 1
}

/// The line on which `key` is given, the first where it is absent.
fn line_of_key(text: &str, key: &str) -> usize {
    let begins = |line: &str| {
        line.trim_start()
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(begins).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TaskSpec, SuiteError> {
        TaskSpec::parse(text, Path::new("tasks/x.toml"))
    }

    #[test]
    fn a_task_file_is_read() {
        let spec = parse(
            "name = 'x'\nkind = 'chat'\ndata = 'x.jsonl'\nmetric = 'regex'\npattern = '[A-D]'\nshots = 2\nbaseline = 0.25\nlimit = 9\nmax_new = 8\nstop = ['\\n']\n",
        )
        .unwrap();
        assert!(matches!(&spec.items, Items::Data(path) if path == Path::new("tasks/x.jsonl")));
        assert_eq!((spec.shots, spec.baseline, spec.limit), (2, 0.25, Some(9)));
        let Kind::Chat { metric, options } = &spec.kind else {
            panic!("{:?}", spec.kind)
        };
        assert_eq!((metric.name(), options.max_new), ("regex", 8));
        for (name, more) in [
            ("loss", ""),
            ("multiple_choice", "normalise = 'bytes'"),
            ("schema", "normalise = 'none'"),
            ("generation", "metric = 'greedy'"),
            ("generation", "metric = 'numeric'"),
            ("chat", "metric = 'contains'"),
            ("code", "chat = true\ntemperature = 0.8\nsamples = 4"),
        ] {
            let spec = parse(&format!(
                "name = 'x'\nkind = '{name}'\nitems = []\n{more}\n"
            ))
            .unwrap();
            assert_eq!(spec.kind.name(), name);
        }
    }

    #[test]
    fn the_example_is_a_task() {
        let text = include_str!("../../../.config/eval/facts.toml");
        let spec = TaskSpec::parse(text, Path::new("facts.toml")).unwrap();
        assert_eq!(spec.load().unwrap().len(), 5);
    }

    #[test]
    fn faults_name_file_and_line() {
        let head = "name = 'x'\nkind = 'generation'\nitems = []\n";
        for (text, fault) in [
            (
                format!("{head}shot = 2\n"),
                "tasks/x.toml:4: unknown field `shot`",
            ),
            (format!("{head}limit = 0\n"), "tasks/x.toml:4: limit 0"),
            (
                format!("{head}\nbaseline = 1.0\n"),
                "tasks/x.toml:5: baseline is 1",
            ),
            (format!("{head}template = '{{'\n"), "tasks/x.toml:4: "),
            (
                format!("{head}chat = true\n"),
                "tasks/x.toml:4: chat does nothing",
            ),
            (
                format!("{head}metric = 'regex'\n"),
                "tasks/x.toml:4: metric regex needs",
            ),
            (
                format!("{head}metric = 'regex'\npattern = '('\n"),
                "tasks/x.toml:5: ",
            ),
            (
                format!("{head}pattern = 'x'\n"),
                "tasks/x.toml:4: pattern belongs",
            ),
            (
                format!("{head}metric = 'greedy'\nmax_new = 2\n"),
                "tasks/x.toml:5: max_new does",
            ),
            (
                format!("{head}temperature = 3.0\n"),
                "tasks/x.toml:4: temperature is 3",
            ),
            (
                format!("{head}max_new = 0\n"),
                "tasks/x.toml:4: max_new is at least",
            ),
            (
                format!("{head}samples = 2\n"),
                "tasks/x.toml:4: at temperature 0",
            ),
            (
                format!("{head}data = 'x'\n"),
                "tasks/x.toml:4: a task has either",
            ),
            (
                "name = 'x'\nkind = 'code'\nitems = []\nprogram = 'x'".to_owned(),
                "tasks/x.toml:4: program has no",
            ),
            (
                "name = 'x'\nkind = 'chat'\nitems = []\nmetric = 'greedy'".to_owned(),
                "tasks/x.toml:4: metric greedy",
            ),
            (
                "name = ' '\nkind = 'loss'\nitems = []\n".to_owned(),
                "tasks/x.toml:1: a task needs",
            ),
            (
                "name = 'x'\nkind = 'los'\n".to_owned(),
                "tasks/x.toml:2: unknown variant",
            ),
            ("name = 'x'\nkind = \n".to_owned(), "tasks/x.toml:2: "),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}, not {fault}");
        }
    }
}
