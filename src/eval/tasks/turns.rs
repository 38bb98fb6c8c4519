//! What the user says in a dialogue, written for this program: small requests that any model can answer in a sentence.

/// The requests.
pub const TURNS: [&str; 24] = [
    "Tell me one thing that is made of wood.",
    "Which season do you think suits a long walk best?",
    "Name an animal that sleeps during the day.",
    "What would you put into a vegetable soup?",
    "Give me a short tip for drying wet shoes.",
    "Say something kind about rainy weather.",
    "Which tool would you use to hang up a picture?",
    "What is a good name for a rowing boat?",
    "Explain in one sentence why bread rises.",
    "Name two things one finds on a beach.",
    "What could I give to a neighbour who likes gardening?",
    "Describe the sound of a train in a few words.",
    "Which fruit keeps longest in a cool cellar?",
    "Suggest a game for four people and no cards.",
    "What does a clock need in order to run on time?",
    "Tell me what a bridge is for.",
    "How would you cheer up a tired friend?",
    "Name something that is lighter than a book.",
    "What should one pack for a night in the mountains?",
    "Which colour would you paint a garden gate?",
    "Say what you would plant in a narrow window box.",
    "Give me a reason to get up early.",
    "What makes a good pair of scissors?",
    "Name a job that is done mostly outdoors.",
];
