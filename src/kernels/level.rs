//! Which instructions the kernels use.

use std::sync::OnceLock;

/// An instruction set that the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What the compiler makes of the plain loops; runs everywhere.
    Plain,
    /// x86-64 with AVX2, FMA and F16C: 8 floats at a time.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI: 16 floats, or 64 bytes, at a time.
    Avx512,
    /// x86-64 with AVX-512 and its BF16: pairs of `bf16` at a time where numbers may be rounded to it, else the same as
    /// [`Level::Avx512`].
    Bf16,
    /// x86-64 with AVX-512 and its BF16, and tiles of BF16 (AMX), where the system lets this process use them. Where
    /// nothing may be rounded to `bf16`, the same as [`Level::Avx512`].
    Amx,
    /// AArch64 with Advanced SIMD. The same loops as [`Level::Plain`], which the compiler vectorises for it.
    Neon,
}

impl Level {
    /// The fastest level that this CPU has; detected once.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Level::available().pop().unwrap_or(Level::Plain))
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Level::Plain => "plain",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Bf16 => "bf16",
            Level::Amx => "amx",
            Level::Neon => "neon",
        }
    }

    /// Every level that this CPU has, slowest first.
    pub fn available() -> Vec<Level> {
        let all = [
            Level::Plain,
            Level::Neon,
            Level::Avx2,
            Level::Avx512,
            Level::Bf16,
            Level::Amx,
        ];
        let available = all.into_iter().filter(|level| level.is_available());
        available.collect()
    }

    /// Whether it multiplies bytes faster than anything else.
    pub fn multiplies_bytes(self) -> bool {
        matches!(self, Level::Avx512 | Level::Bf16)
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Level::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => super::x86::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => super::x86::Avx512::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Level::Bf16 | Level::Amx => super::x86::Halves::detect(self).is_some(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_available_everywhere_and_the_best_level_is_available() {
        let available = Level::available();
        assert_eq!(available.first(), Some(&Level::Plain));
        assert_eq!(available.last(), Some(&Level::best()));
        assert!(available.iter().all(|level| level.is_available()));
    }

    #[test]
    fn a_level_of_another_architecture_is_never_available() {
        let foreign: &[Level] = if cfg!(target_arch = "x86_64") {
            &[Level::Neon]
        } else {
            &[Level::Avx2, Level::Avx512, Level::Bf16, Level::Amx]
        };
        assert!(foreign.iter().all(|level| !level.is_available()));
    }
}
