//! Words and values that samples are drawn from.

use std::collections::HashSet;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

const ADJECTIVES: &str = "able acid agile airy alert aloof ample amused ancient angry arctic arid ashen astute atomic \
    autumn azure balmy barren bashful basic bitter blank bleak blunt bold brave breezy brief bright brisk brittle \
    broad bronze bumpy busy calm candid careful cheap cheerful chilly chubby civil clean clever cloudy clumsy coarse \
    coastal cold compact cosy costly covert crafty crisp crooked crude cruel curious curly daily damp dapper daring \
    dark dear deep dense dim direct distant dizzy docile dreary drowsy dry dull dusky dusty eager early earnest easy \
    eerie elastic elder elegant empty endless equal exact exotic faded faint fair faithful famous fancy fast feeble \
    fertile fierce final fine firm fizzy flaky flat fluffy fond formal fragile frail free fresh friendly frosty \
    frozen frugal full fuzzy gentle giant gifted glad gleaming glossy golden graceful grand grateful grave greedy \
    grim gritty guilty handy happy hardy harsh hasty hazy hearty heavy hidden hollow honest huge humble hungry icy \
    idle inner jaded jolly jovial joyful juicy keen kind lanky large late lavish lazy leafy lean lively lofty lonely \
    loose loud loyal lucid lucky lush mellow merry mighty mild misty modest moist mossy muddy muted narrow neat \
    nervous nimble noble noisy novel oaken oblique odd opaque orderly ornate outer pale patient peppery placid plain \
    pliant plump polite proud prudent quaint quick quiet radiant rainy rapid rare ready regal remote rich rigid ripe \
    robust rocky rosy rotund rough royal rugged rural rustic rusty salty sandy scarce secret serene shady shallow \
    sharp shiny short shy silent silky simple sincere sleek sleepy slender slim slow smooth snowy sober soft solemn \
    solid sour sparse spicy spry stable stark steady steep stern sticky stiff stormy stout strict strong sturdy \
    subtle sullen sunny supple swift tacit tall tame tangy tardy tender tepid thick thin thorny thrifty tidy timid \
    tiny tired tough tranquil upbeat urban usual vague valiant vast velvet vivid warm wary wavy weak weary wide wild \
    windy wise wistful witty wooden woolly worthy young zealous zesty";

const NOUNS: &str = "acorn actor agenda alcove almond alpaca anchor ankle antler anvil apron arbor arch armchair \
    arrow artist atlas attic awning badge badger bagel bakery balcony ballad bamboo bandage barge barley barn barrel \
    basin basket beacon beaver beetle bell bench bicycle bishop blanket blossom boat bobbin bonnet border bottle \
    boulder bouquet bridge broom bucket buckle buffalo bugle butcher butter button cabin cactus camel canal candle \
    canoe canvas canyon captain caravan cargo carpet carriage carrot cartoon cashew castle cavern cedar cellar chalk \
    chapel chariot cherry chimney chisel cider cinema circus citadel clarinet clinic cloak clock clover coconut coffin \
    collar comet compass copper coral corner cottage cotton cousin cradle crater cricket crown crumb crystal cupboard \
    curtain cushion dagger daisy dancer deacon desert diamond diary dinner doctor dolphin donkey doorway dragon drawer \
    driver drummer duchess eagle easel eclipse elbow ember emerald engine envelope estate fabric falcon farmer feather \
    fern ferry festival fiddle field flagpole flannel flask flower flute fossil fountain fox furnace galaxy gallery \
    garage garden garlic garment gazelle geyser ginger giraffe glacier goblet gondola goose granite grape gravel \
    guitar hammer hammock hamper harbor harvest hatchet hawk hazel hedge helmet heron hinge hive honey horizon hornet \
    hostel hunter iceberg igloo inkwell insect island ivory jacket jaguar jasmine jewel journal jungle kayak kennel \
    kernel kettle kitchen kite kitten knapsack ladder lagoon lantern lasso lemon lettuce library lighthouse lily \
    linen lizard lobster locket locust lodge lumber magnet magpie mailbox mammoth mango mantle maple market marsh \
    mason meadow medal melon merchant meteor mirror mitten monk mosaic motor mountain muffin mural museum musket \
    mustard napkin nectar needle nephew nest notebook nutmeg oasis oatmeal ocean octopus office olive onion orchard \
    orchid organ ostrich otter oven owl oyster packet paddle palace panther parade parrot pasture pavement peach \
    pebble pelican pencil pendant penguin pepper piano picnic pigeon pillar pillow pilot pine pirate pistachio planet \
    plaza plum pocket poet pollen pond poplar porch portrait potato pottery prairie prince prism pumpkin puppet \
    puzzle quarry quartz quill quilt rabbit raccoon radish raft railway rainbow raven reef reindeer ribbon river \
    robin rocket rudder saddle sailor salad salmon sandal saucer scarf school scooter sculptor seagull shadow shelf \
    shepherd shovel shuttle signal singer skillet sled slipper snail soldier sparrow spider spindle spoon squirrel \
    stadium stairway statue steeple stork summit sundial surgeon swan sweater sword tailor teacher teapot temple \
    theater thimble thistle thunder ticket tiger timber toaster tomato torch tower tractor trader trellis trumpet \
    tulip tunnel turnip turtle tutor uncle valley vase vessel village vineyard violet violin visitor volcano voyage \
    waffle wagon waiter walnut walrus warden weasel whale wharf whistle widow willow window wizard wombat workshop \
    yogurt zebra zeppelin";

/// The adjectives, each once.
pub fn adjectives() -> Vec<&'static str> {
    ADJECTIVES.split_whitespace().collect()
}

/// The nouns, each once; none is an adjective too.
pub fn nouns() -> Vec<&'static str> {
    NOUNS.split_whitespace().collect()
}

/// Draws until there are `wanted` different strings, in the order drawn.
pub fn distinct(wanted: usize, mut draw: impl FnMut() -> String) -> Vec<String> {
    let mut seen = HashSet::with_capacity(wanted);
    let mut drawn = Vec::with_capacity(wanted);
    while drawn.len() < wanted {
        let one = draw();
        if seen.insert(one.clone()) {
            drawn.push(one);
        }
    }
    drawn
}

/// Draws keys, numbers and uuids.
pub struct Draw {
    adjectives: Vec<&'static str>,
    nouns: Vec<&'static str>,
}

impl Draw {
    /// From all words.
    pub fn new() -> Self {
        Draw {
            adjectives: adjectives(),
            nouns: nouns(),
        }
    }

    /// An adjective and a noun with a hyphen between them, RULER's key "words".
    pub fn key(&self, rng: &mut ChaCha8Rng) -> String {
        let one = |words: &[&'static str], rng: &mut ChaCha8Rng| words.choose(rng).copied();
        let adjective = one(&self.adjectives, rng).unwrap_or_default();
        let noun = one(&self.nouns, rng).unwrap_or_default();
        format!("{adjective}-{noun}")
    }
}

/// A number of `digits` digits, 1 to 18, that does not begin with 0.
pub fn number(digits: u32, rng: &mut ChaCha8Rng) -> String {
    let low = 10_u64.pow(digits - 1);
    rng.random_range(low..low * 10).to_string()
}

/// A random uuid, version 4 (RFC 9562, <https://www.rfc-editor.org/rfc/rfc9562#section-5.4>).
pub fn uuid(rng: &mut ChaCha8Rng) -> String {
    let bits: u128 = rng.random();
    let versioned = bits & !(0xf << 76) | 0x4 << 76;
    let variant = versioned & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{variant:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// `letters` random letters from `first` on, of 26.
pub fn letters(first: u8, letters: usize, rng: &mut ChaCha8Rng) -> String {
    (0..letters)
        .map(|_| char::from(first + rng.random_range(0..26)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn lists_are_long_plain_and_apart() {
        let (adjectives, nouns) = (adjectives(), nouns());
        assert!(adjectives.len() >= 200, "{} adjectives", adjectives.len());
        assert!(nouns.len() >= 200, "{} nouns", nouns.len());
        let mut seen = HashSet::new();
        for word in adjectives.iter().chain(&nouns) {
            assert!(word.chars().all(|c| c.is_ascii_lowercase()), "{word}");
            assert!(seen.insert(word), "{word} is listed twice");
        }
    }

    #[test]
    fn values_have_their_form() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let draw = Draw::new();
        for _ in 0..200 {
            let number = number(7, &mut rng);
            assert!(number.len() == 7 && !number.starts_with('0'), "{number}");
            let uuid = uuid(&mut rng);
            let parts: Vec<&str> = uuid.split('-').collect();
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
            assert!(
                parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]),
                "{uuid}"
            );
            assert_eq!(draw.key(&mut rng).matches('-').count(), 1);
            let code = letters(b'A', 5, &mut rng);
            assert!(code.len() == 5 && code.chars().all(|c| c.is_ascii_uppercase()));
        }
    }

    #[test]
    fn distinct_skips_what_was_drawn() {
        let mut next = [1, 1, 2, 1, 3].into_iter().map(|n: i32| n.to_string());
        assert_eq!(distinct(3, || next.next().unwrap()), ["1", "2", "3"]);
    }
}
