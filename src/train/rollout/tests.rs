use std::num::NonZeroU32;

use super::answer::Writing;
use super::*;
use crate::eval::suite::Markers;
use crate::ids::TokenId;
use crate::llama::ModelConfig;
use crate::sample::Sampling;
use crate::sched::FakeModel;
use crate::text::{BpeSpec, Specials, Tokenizer, train_bpe};
use crate::train::network::tests::{lively, lora, minute_config, options};
use crate::train::network::{Network, NetworkOptions, Objective, Pass, Precision};

fn tokenizer() -> Tokenizer {
    let lines = (0..50).map(|n| format!("the sum of {n} and {n} is {}\n", 2 * n));
    train_bpe(lines, &BpeSpec::new(300))
        .unwrap()
        .tokenizer()
        .clone()
}

fn asked(prompt: &[TokenId], seeds: Vec<u64>) -> Asked<'_> {
    Asked {
        prompt,
        calculator: None,
        seeds,
    }
}

fn drawing(sampling: Sampling, most: usize, ends: &[TokenId], at_once: usize) -> Drawing<'_> {
    Drawing {
        sampling,
        max_new_tokens: most,
        ends,
        at_once,
    }
}

const FREELY: Sampling = Sampling::Random {
    temperature: 1.0,
    top_k: NonZeroU32::new(50),
    top_p: 1.0,
    min_p: 0.0,
};

#[test]
fn answers_end_by_themselves_or_by_the_limit_and_stand_in_order() {
    let tokenizer = tokenizer();
    let vocab = tokenizer.vocab_size();
    let prompts: [&[TokenId]; 3] = [&[3, 4, 5], &[70], &[8]];
    let wanted = [
        asked(prompts[0], vec![1, 2, 3]),
        asked(prompts[1], vec![1]),
        asked(prompts[2], vec![1, 2]),
    ];
    for at_once in [1, 3, 4, 100] {
        let mut fake = FakeModel::new(vocab);
        let how = drawing(Sampling::Greedy, 4, &[9], at_once);
        let answers = draw(&mut fake, &tokenizer, &wanted, &how).unwrap();
        let counts: Vec<usize> = answers.iter().map(Vec::len).collect();
        assert_eq!(counts, [3, 1, 2]);
        for answer in &answers[0] {
            assert_eq!(
                (answer.ids.as_slice(), answer.ended),
                (&[6, 7, 8, 9][..], true)
            );
            assert_eq!(answer.drawn_tokens(), 4);
        }
        let cut = &answers[1][0];
        assert_eq!(
            (cut.ids.as_slice(), cut.ended),
            (&[71, 72, 73, 74][..], false)
        );
        assert_eq!(
            cut.text,
            tokenizer.decode(&cut.ids, crate::text::Controls::Skip)
        );
        assert!(
            answers[2]
                .iter()
                .all(|a| a.ids == [9] && a.ended && a.text.is_empty())
        );
        assert_eq!(crate::sched::Forward::memory(&fake).open_sequences, 0);
    }
    let how = drawing(Sampling::Greedy, 4, &[], 8);
    let none = draw(
        &mut FakeModel::new(vocab),
        &tokenizer,
        &[asked(&[], vec![1])],
        &how,
    );
    assert!(none.unwrap_err().to_string().contains("prompt 0"));
}

/// Feeds a text as a model would write it, and returns the answer.
fn written(text: &str, most: usize) -> Answer {
    let tokenizer = tokenizer();
    let mut writing = Writing::new(&tokenizer, Some(&Markers::gsm8k()), most);
    for id in tokenizer.encode(text, Specials::Literal).unwrap() {
        if writing.push(id, false).unwrap().is_empty() {
            break;
        }
    }
    writing.finish()
}

#[test]
fn what_the_calculator_writes_is_forced_and_marked() {
    let tokenizer = tokenizer();
    let plain = |answer: &Answer, drawn: bool| -> String {
        let pairs = answer.ids.iter().zip(&answer.drawn);
        let ids: Vec<TokenId> = pairs
            .filter(|(_, d)| **d == drawn)
            .map(|(id, _)| *id)
            .collect();
        tokenizer.decode(&ids, crate::text::Controls::Keep)
    };
    let answer = written("it is <<12*11=", 100);
    assert_eq!(answer.text, "it is <<12*11=132>>");
    assert_eq!(plain(&answer, true), "it is <<12*11=");
    assert_eq!(plain(&answer, false), "132>>");
    assert_eq!(answer.refusals, 0);
    assert_eq!(written("<<1/0=", 100).refusals, 1);
    let cut = written("<<12*11=", 9);
    assert_eq!(cut.ids.len(), 9);
    assert!(!cut.ended);
}

#[test]
fn a_token_with_the_models_own_guess_gives_way() {
    let lines = (0..50).map(|_| "=?? a\n".to_owned());
    let tokenizer = train_bpe(lines, &BpeSpec::new(263)).unwrap();
    let tokenizer = tokenizer.tokenizer();
    let mut ids = tokenizer.encode("<<2*3", Specials::Literal).unwrap();
    let guess = tokenizer.encode("=??", Specials::Literal).unwrap();
    assert_eq!(guess.len(), 1, "the tokenizer has a token for it");
    ids.extend(guess);
    let mut writing = Writing::new(tokenizer, Some(&Markers::gsm8k()), 50);
    let mut read = Vec::new();
    for id in ids {
        read.extend(writing.push(id, false).unwrap());
    }
    let answer = writing.finish();
    assert_eq!(answer.text, "<<2*3=6>>");
    assert_eq!(read, answer.ids, "the model reads what stands");
    let forced = answer.drawn.iter().filter(|drawn| !**drawn).count();
    assert_eq!(
        forced,
        tokenizer.encode("=6>>", Specials::Parse).unwrap().len()
    );
}

fn network(tokenizer: &Tokenizer, change: impl Fn(&mut NetworkOptions)) -> Network {
    let config = ModelConfig {
        vocab: tokenizer.vocab_size(),
        context: 128,
        ..minute_config()
    };
    let mut options = options();
    change(&mut options);
    lively(&config, true, options)
}

/// The likeliest continuation, by the network itself.
fn greedy(network: &mut Network, prompt: &[TokenId], most: usize) -> Vec<TokenId> {
    let mut ids = prompt.to_vec();
    for _ in 0..most {
        let pass = Pass {
            ids: ids.clone(),
            positions: (0..ids.len()).collect(),
            spans: vec![(0, ids.len())],
            objective: Objective {
                rows: vec![ids.len() - 1],
                targets: vec![0],
                weights: vec![1.0],
            },
        };
        let logits = network.logits(&pass).unwrap();
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        ids.push(best.unwrap().0 as TokenId);
    }
    ids.split_off(prompt.len())
}

#[test]
fn answers_of_many_are_those_of_each_alone_and_of_the_network() {
    let tokenizer = tokenizer();
    let prompts: Vec<Vec<TokenId>> = [3, 21, 40, 17]
        .iter()
        .map(|&length| (0..length).map(|at| (at * 31 + length) % 290).collect())
        .collect();
    for adapted in [false, true] {
        let mut network = network(&tokenizer, |options| {
            options.lora = lora(0.0).filter(|_| adapted);
        });
        let wanted: Vec<Asked<'_>> = prompts.iter().map(|p| asked(p, vec![0])).collect();
        let how = drawing(Sampling::Greedy, 12, &[], 100);
        let mut engine = engine(&network, 64).unwrap();
        let together = draw(&mut engine, &tokenizer, &wanted, &how).unwrap();
        for (one, answers) in wanted.iter().zip(&together) {
            let alone = draw(&mut engine, &tokenizer, std::slice::from_ref(one), &how).unwrap();
            assert_eq!(&alone[0], answers);
            assert_eq!(answers[0].ids, greedy(&mut network, one.prompt, 12));
        }
    }
}

#[test]
fn answers_of_a_group_follow_from_their_seeds_alone() {
    let tokenizer = tokenizer();
    let network = network(&tokenizer, |options| {
        options.precision = Precision::Bfloat16
    });
    // Longer than blocks that are shared, and no multiple of them.
    let prompt: Vec<TokenId> = (0..37).map(|at| at * 7 % 290).collect();
    let ends: Vec<TokenId> = (0..24).collect();
    let how = drawing(FREELY, 20, &ends, 100);
    let mut first = engine(&network, 60).unwrap();
    let group = draw(
        &mut first,
        &tokenizer,
        &[asked(&prompt, (0..12).collect())],
        &how,
    )
    .unwrap();
    let mut distinct = group[0].clone();
    distinct.dedup();
    assert!(distinct.len() > 6, "{distinct:?}");
    assert!(group[0].iter().any(|answer| answer.ended));
    // Another engine of the same weights, and others beside it.
    let mut second = engine(&network, 60).unwrap();
    for (seed, answer) in (0..).zip(&group[0]) {
        let alone = draw(&mut second, &tokenizer, &[asked(&prompt, vec![seed])], &how).unwrap();
        assert_eq!(&alone[0][0], answer);
    }
}
