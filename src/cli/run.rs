//! `run`: one prompt, one answer.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use anyhow::{Context, Result};

use super::exit::{Exit, Usage};
use super::flags::{Drawing, Global, HistoryFlags, ModelFlags, SamplingFlags};
use super::generate::{End, answer_json, chat_prompt, generate, kept_call, text_prompt};
use super::host::{self, Host};
use super::keeper::Keeper;
use super::kept;
use super::output;
use super::signals::Signals;
use crate::config::Overrides;
use crate::history::{Beginning, Call, Conversation};
use crate::kv::KvChoice;
use crate::sched::{FinishReason, Forward};
use crate::text::{Message, Role};

/// The flags of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model: an installed name, one of the catalogue, or a path; with --continue the prompt begins here
    #[arg(required_unless_present_any = ["go_on", "conversation"])]
    model: Option<String>,
    /// The prompt; without one, or where it says `-`, standard input is read
    prompt: Vec<String>,
    /// With --continue: who answers, if not who did before
    #[arg(long = "model", value_name = "MODEL")]
    other: Option<String>,
    /// Instructions before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long, conflicts_with_all = ["go_on", "conversation"])]
    raw: bool,
    /// Show first which tokens of the prompt the cache keeps: coloured by their score, evicted ones grey
    #[arg(long)]
    show_kv: bool,
    /// Print one JSON object when the answer is complete
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    history: HistoryFlags,
    #[command(flatten)]
    flags: ModelFlags,
}

/// What is asked, of whom, after what, and how the answer is drawn.
struct Question {
    model: String,
    text: String,
    /// What was said before.
    beginning: Beginning,
    drawing: Drawing,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be had or the prompt cannot be answered.
pub(super) fn run(global: &Global, args: Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    args.flags.add_to(&mut overrides);
    let mut host = Host::open(global, overrides)?;
    let drawing = args.sampling.drawing(&host.settings().sampling)?;
    if args.other.is_some() && !args.history.goes_on() {
        let what = "--model is for --continue: without it the model stands before the prompt";
        return Err(Usage(what.to_owned()).into());
    }
    host.start_log()?;
    let (mut keeper, said) = Keeper::open(&host, &args.history)?;
    let mut question = question(&args, drawing, said)?;
    let installed = host.ensure(&question.model)?;
    question.model = host::lasting_name(&host.library, &installed);
    if args.show_kv {
        return show(&host, &args, &question, &mut keeper);
    }
    let answered = answer(&host, &args, &question, &mut keeper);
    actix::System::new().block_on(answered)
}

/// The question of the command line, after the conversation that is gone on with.
fn question(args: &Args, drawing: Drawing, said: Option<Conversation>) -> Result<Question> {
    let Some(said) = said else {
        let beginning = Beginning {
            system: args.system.clone(),
            raw: args.raw,
            before: Vec::new(),
        };
        return Ok(Question {
            model: args.model.clone().unwrap_or_default(),
            text: prompt(&args.prompt)?,
            beginning,
            drawing,
        });
    };
    let words: Vec<String> = args.model.iter().chain(&args.prompt).cloned().collect();
    let before = said.model().map(str::to_owned);
    let model = args.other.clone().or(before).unwrap_or_default();
    Ok(Question {
        model,
        text: prompt(&words)?,
        beginning: Beginning {
            before: said.messages(),
            ..said.beginning
        },
        drawing,
    })
}

/// The words of the command line, with standard input for `-` or for none.
fn prompt(words: &[String]) -> Result<String> {
    if words.is_empty() && std::io::stdin().is_terminal() {
        let what = "there is no prompt: write it after the model, pipe it in, or give - to type it";
        return Err(Usage(what.to_owned()).into());
    }
    let piped = words.is_empty() || words.iter().any(|word| word == "-");
    let mut input = String::new();
    if piped {
        let read = std::io::stdin().read_to_string(&mut input);
        read.context("cannot read the prompt from standard input")?;
    }
    let input = input.strip_suffix('\n').unwrap_or(&input);
    if words.is_empty() {
        return Ok(input.to_owned());
    }
    let words = words
        .iter()
        .map(|word| if word == "-" { input } else { word });
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// The messages of the command line.
fn messages(question: &Question) -> Vec<Message> {
    let Beginning { system, before, .. } = &question.beginning;
    let system = system.iter().map(|text| Message::new(Role::System, text));
    let asked = Message::new(Role::User, &question.text);
    system
        .chain(before.iter().cloned())
        .chain([asked])
        .collect()
}

/// The prompt as the cache keeps it, and then the answer; without actors, for the cache is looked into.
fn show(host: &Host, args: &Args, question: &Question, keeper: &mut Keeper) -> Result<Exit> {
    let (models, ..) = host.models();
    let (model, mut forward) = models.load(&question.model)?;
    let ids = if args.raw {
        model.tokenizer.encode_prompt(&question.text)?
    } else {
        let template = model.chat_template();
        let options = crate::text::RenderOptions::default();
        template.render_ids(&model.tokenizer, &messages(question), &options)?
    };
    let context = forward.model().context();
    let settings = host.settings();
    let policy = KvChoice::default().resolve(&settings.kv, context, forward.kv_shape())?;
    let room = context.saturating_sub(ids.len());
    let mut reading = kept::Reading {
        forward: &mut forward,
        tokenizer: &model.tokenizer,
        policy,
        sampling: question.drawing.params()?,
        eos: &model.eos,
        chunk: settings.scheduler.prefill_tokens,
    };
    let (tokens, next) = reading.read(&ids)?;
    if !args.json {
        kept::draw(&tokens)?;
    }
    let limit = question.drawing.limit().unwrap_or(room).min(room);
    let mut text = String::new();
    let kv = reading.answer(&ids, next, limit, |part| {
        text.push_str(part);
        if args.json {
            Ok(())
        } else {
            output::answer(part)
        }
    })?;
    let call = Call {
        at: host::now(),
        command: "run".to_owned(),
        model: question.model.clone(),
        prompt: question.text.clone(),
        answer: text.clone(),
        // The cache is looked into here, and nobody notes why the last token was the last.
        finish_reason: Some("unknown".to_owned()),
        about: serde_json::json!({ "kv": kv }),
    };
    keeper.keep(|| question.beginning.clone(), &call);
    if args.json {
        output::json(&serde_json::json!({ "prompt": tokens, "text": text, "kv": kv }))?;
    } else {
        output::line("")?;
        output::line(super::generate::kv_words(&kv))?;
    }
    Ok(Exit::Done)
}

async fn answer(
    host: &Host,
    args: &Args,
    question: &Question,
    keeper: &mut Keeper,
) -> Result<Exit> {
    let runtime = host.boot(None)?;
    let model = runtime.model(Some(&question.model)).await?;
    let prompt = if args.raw {
        text_prompt(&model, &question.text)?
    } else {
        chat_prompt(&model, None, messages(question))?
    };
    // Until here a signal ends the process by itself.
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let stream = |part: &str| {
        if args.json {
            Ok(())
        } else {
            output::answer(part)
        }
    };
    let generated = generate(
        &runtime,
        &model,
        prompt,
        &question.drawing,
        &mut signals,
        stream,
    )
    .await?;
    let call = kept_call("run", &question.model, &question.text, &generated);
    keeper.keep(|| question.beginning.clone(), &call);
    if args.json {
        output::json(&answer_json(&model.id, &generated))?;
    } else {
        output::line("")?;
    }
    match &generated.end {
        End::Stopped(signal) => return Ok(Exit::By(*signal)),
        End::Done(finish)
            if finish.reason == FinishReason::Length && !args.json && !host.quiet() =>
        {
            eprintln!(
                "(the answer was ended at {} tokens)",
                finish.usage.completion_tokens
            );
        }
        End::Done(_) => {}
    }
    runtime.shutdown(Duration::from_secs(1)).await;
    Ok(Exit::Done)
}
