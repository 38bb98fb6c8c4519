//! Whether a reply holds the answers, as RULER counts it
//! (<https://github.com/NVIDIA/RULER/blob/main/scripts/eval/synthetic/constants.py>).

/// The share of `answers` that `reply` contains, without regard to case. 0 if there are no answers.
pub fn string_match_all(reply: &str, answers: &[String]) -> f64 {
    match answers.len() {
        0 => 0.0,
        all => found(reply, answers) as f64 / all as f64,
    }
}

/// 1 if `reply` contains any of `answers` without regard to case, else 0: the measure of question answering, where the
/// answers are spellings of one.
pub fn string_match_part(reply: &str, answers: &[String]) -> f64 {
    f64::from(u8::from(found(reply, answers) > 0))
}

fn found(reply: &str, answers: &[String]) -> usize {
    let reply = reply.to_lowercase();
    answers
        .iter()
        .filter(|answer| reply.contains(&answer.to_lowercase()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rulers_definitions() {
        for (reply, answers, all, part) in [
            ("It is 4831920.", vec!["4831920"], 1.0, 1.0),
            ("abc and DEF", vec!["ABC", "def", "ghi", "jkl"], 0.5, 1.0),
            ("nothing of it", vec!["4831920", "1"], 0.0, 0.0),
            ("ÉCLAIR", vec!["éclair"], 1.0, 1.0),
            ("", vec!["x"], 0.0, 0.0),
            ("anything", vec![], 0.0, 0.0),
        ] {
            let answers: Vec<String> = answers.into_iter().map(str::to_owned).collect();
            assert_eq!(string_match_all(reply, &answers), all, "{reply}");
            assert_eq!(string_match_part(reply, &answers), part, "{reply}");
        }
    }
}
