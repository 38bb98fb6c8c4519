//! Facts about the machine that a run was on.

use crate::kernels::Level;

/// Name and value of each: cores, instructions, system.
pub fn machine() -> Vec<(String, String)> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![
        ("cores".to_owned(), cores.to_string()),
        ("instructions".to_owned(), Level::best().name().to_owned()),
        (
            "system".to_owned(),
            format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        ),
    ]
}
