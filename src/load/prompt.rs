//! Prompts of about so many tokens, the same for the same seed.

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Common English words, each of which most byte-pair vocabularies hold as one token with the space before it.
const WORDS: &str = "the of and to in for is on that by this with you it not or be are from at as your all have new \
    more an was we will home can us about if page my has search free but our one other do no time they site he up \
    may what which their news out use any there see only so his when contact here business who web also now help get \
    view first am been would how were services some these click its like service than find price date back top \
    people had list name just over state year day into email two health world next used go work last most products \
    music buy data make them should product system post her city add policy number such please available copyright \
    support message after best software then good video well where info rights public books high school through \
    each links she review years order very privacy book items company read group need many user said does set under \
    general research university mail full map reviews program life know games way days management part could great \
    united hotel real item international center must store travel comments made development report off member \
    details line terms before did send right type because local those using results office education national car \
    design take posted internet address community within states area want phone shipping reserved subject between \
    forum family long based code show even black check special prices website index being women much sign file link \
    open today technology south case project same pages version section own found sports house related security both";

/// Makes the prompts of one run.
#[derive(Debug, Clone)]
pub struct Prompts {
    words: Vec<&'static str>,
    seed: u64,
    prefix: String,
}

impl Prompts {
    /// Prompts of `seed`; the first turn of each session begins with the same `shared` tokens.
    pub fn new(seed: u64, shared: u32) -> Self {
        let mut prompts = Prompts {
            words: WORDS.split_whitespace().collect(),
            seed,
            prefix: String::new(),
        };
        // No session has this number.
        prompts.prefix = prompts.words(u64::MAX, 0, shared);
        prompts
    }

    /// What the user says in a turn: `tokens` words, after the shared prefix in the first turn.
    pub fn text(&self, session: u64, turn: usize, tokens: u32) -> String {
        let own = self.words(session, turn, tokens);
        if turn > 0 || self.prefix.is_empty() {
            return own;
        }
        format!("{} {own}", self.prefix)
    }

    fn words(&self, session: u64, turn: usize, count: u32) -> String {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(session);
        // Turns of a session lie far apart in its stream.
        rng.set_word_pos((turn as u128) << 40);
        let mut text = String::with_capacity(count as usize * 6);
        for _ in 0..count {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(self.words.choose(&mut rng).copied().unwrap_or("the"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        text.split(' ').count()
    }

    #[test]
    fn a_seed_gives_the_same_words_again() {
        let prompts = Prompts::new(1, 0);
        let text = prompts.text(5, 0, 100);
        assert_eq!(count(&text), 100);
        assert_eq!(text, Prompts::new(1, 0).text(5, 0, 100));
        for other in [
            prompts.text(6, 0, 100),
            prompts.text(5, 1, 100),
            Prompts::new(2, 0).text(5, 0, 100),
        ] {
            assert_ne!(text, other);
        }
        assert!(
            prompts.text(5, 0, 200).starts_with(&text),
            "longer, not another"
        );
    }

    #[test]
    fn the_prefix_is_shared_by_first_turns() {
        let prompts = Prompts::new(1, 30);
        let (a, b) = (prompts.text(0, 0, 10), prompts.text(1, 0, 10));
        assert_eq!((count(&a), count(&b)), (40, 40));
        let shared = a
            .split(' ')
            .zip(b.split(' '))
            .take_while(|(a, b)| a == b)
            .count();
        assert!((30..33).contains(&shared), "{shared}");
        assert_eq!(count(&prompts.text(0, 1, 10)), 10);
    }
}
