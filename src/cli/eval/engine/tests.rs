use super::*;
use crate::sched::FakeModel;
use crate::text::{BpeSpec, Message, Role, train_bpe};

fn tokenizer() -> Tokenizer {
    let lines = (0..50).map(|n| format!("user and assistant talk about {n} small things\n"));
    train_bpe(lines, &BpeSpec::new(300))
        .unwrap()
        .tokenizer()
        .clone()
}

/// Asks an engine over the fake, whose next token is the last one plus one: logit 10, and 0 for the others.
fn asked<T>(context: usize, chunk: usize, ask: impl FnOnce(&mut Engine<'_>, &Tokenizer) -> T) -> T {
    let tokenizer = tokenizer();
    let mut forward = FakeModel::new(tokenizer.vocab_size());
    let mut engine = Engine {
        forward: &mut forward,
        tokenizer: &tokenizer,
        template: None,
        ends: &[],
        context,
        chunk,
        drawn: 0,
    };
    ask(&mut engine, &tokenizer)
}

/// What the fake gives to these predictions, in nats.
fn expected(ids: &[TokenId], vocab: usize) -> f64 {
    let sure = (1.0 + (vocab as f64 - 1.0) * (-10.0f64).exp()).ln();
    let miss = |pair: &[TokenId]| (pair[0] as usize + 1) % vocab != pair[1] as usize;
    ids.windows(2)
        .map(|pair| if miss(pair) { sure + 10.0 } else { sure })
        .sum()
}

#[test]
fn a_text_is_predicted_from_its_first_token_on_in_chunks_of_any_size() {
    let text = "user and 7 things é";
    for chunk in [1, 2, 3, 100] {
        asked(64, chunk, |engine, tokenizer| {
            let bare = tokenizer.encode(text, Specials::Parse).unwrap();
            let ids = [&[tokenizer.bos().unwrap()], &bare[..]].concat();
            // Twice: nothing is left of the first.
            let losses = engine.losses(&[text.to_owned(), text.to_owned()]).unwrap();
            assert_eq!(losses[0], losses[1]);
            assert_eq!(
                (losses[0].bytes, losses[0].tokens),
                (text.len() as u64, bare.len() as u64)
            );
            let nats = expected(&ids, tokenizer.vocab_size());
            assert!((losses[0].nats - nats).abs() < 1e-4, "{losses:?} {nats}");
        });
    }
}

#[test]
fn a_continuation_is_what_the_whole_text_adds() {
    for chunk in [1, 2, 100] {
        asked(64, chunk, |engine, tokenizer| {
            let whole = tokenizer.encode_prompt("talk about b").unwrap();
            let pair = ("talk about ".to_owned(), "b".to_owned());
            let before = tokenizer.encode_prompt(&pair.0).unwrap();
            let border = before
                .iter()
                .zip(&whole)
                .take_while(|(a, b)| a == b)
                .count();
            let found = engine.likelihoods(&[pair]).unwrap();
            let expected = expected(&whole[border - 1..], tokenizer.vocab_size());
            assert_eq!(found[0].tokens as usize, whole.len() - border);
            assert!(
                (found[0].log_probability + expected).abs() < 1e-4,
                "{found:?}"
            );
            assert!(!found[0].greedy);
            // The byte tokens of "a" and "b" follow one another.
            let alphabet = [("a".to_owned(), "b".to_owned())];
            let found = engine.likelihoods(&alphabet).unwrap();
            assert_eq!((found[0].tokens, found[0].greedy), (1, true));
            let empty = engine.likelihoods(&[alphabet[0].clone(), ("a".to_owned(), String::new())]);
            assert!(matches!(empty, Err(JudgeError::Empty { index: 1 })));
        });
    }
}

#[test]
fn replies_end_at_a_stop_or_an_end_or_their_length() {
    asked(64, 2, |engine, tokenizer| {
        // The model counts on from the last id of a prompt.
        let last = |text: &str| {
            *tokenizer
                .encode(text, Specials::Parse)
                .unwrap()
                .last()
                .unwrap()
        };
        let after = |text: &str, count: u32| {
            let ids: Vec<TokenId> = (1..=count).map(|n| last(text) + n).collect();
            tokenizer.decode(&ids, Controls::Skip)
        };
        let prompt = [Prompt::Text("7 a".to_owned())];
        let mut options = GenerateOptions {
            max_new: 5,
            samples: 2,
            ..GenerateOptions::default()
        };
        let whole = after("7 a", 5);
        let replies = engine.generate(&prompt, &options).unwrap();
        assert_eq!(replies, [[whole.clone(), whole.clone()]]);
        let stop: String = whole.chars().skip(3).take(2).collect();
        let cut = whole.split(&stop).next().unwrap().to_owned();
        assert!(cut.len() < whole.len());
        options.stop = vec![stop];
        let replies = engine.generate(&prompt, &options).unwrap();
        assert_eq!(replies, [[cut.clone(), cut]]);
        options.stop.clear();
        engine.ends = Vec::leak(vec![last("7 a") + 2]);
        let both = [prompt[0].clone(), Prompt::Text("x".to_owned())];
        let replies = engine.generate(&both, &options).unwrap();
        let [ended, full] = [after("7 a", 1), after("x", 5)];
        assert_eq!(replies, [[ended.clone(), ended], [full.clone(), full]]);
    });
}

#[test]
fn what_does_not_fit_is_refused_and_not_cut() {
    asked(4, 2, |engine, _| {
        let long = "7 things and 8 things".to_owned();
        let texts = ["a".to_owned(), long.clone()];
        let losses = engine.losses(&texts);
        assert!(
            matches!(
                losses,
                Err(JudgeError::TooLong {
                    index: 1,
                    context: 4,
                    ..
                })
            ),
            "{losses:?}"
        );
        let pair = engine.likelihoods(&[(long, "b".to_owned())]);
        assert!(matches!(pair, Err(JudgeError::TooLong { index: 0, .. })));
        let options = GenerateOptions {
            max_new: 4,
            ..GenerateOptions::default()
        };
        let reply = engine.generate(&[Prompt::Text("a".to_owned())], &options);
        assert!(matches!(reply, Err(JudgeError::TooLong { index: 0, .. })));
        let chat = Prompt::Chat(vec![Message::new(Role::User, "a")]);
        assert!(matches!(
            engine.generate(&[chat], &options),
            Err(JudgeError::NoTemplate)
        ));
    });
}
