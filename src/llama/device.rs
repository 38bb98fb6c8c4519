//! Where and in which type to compute, and on how many threads.

use std::num::NonZeroUsize;

use tch::{Cuda, Device, Kind};

use super::{Config, Dtype};
use crate::kernels::{Level, Precision};

/// A device and the type of its products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compute {
    /// The first CUDA device when libtorch has one, else the CPU.
    pub device: Device,
    /// Float32, or bfloat16: of activations, and of keys and values.
    pub kind: Kind,
    /// Of prompts' products with quantised weights on a CPU.
    pub prompts: Precision,
    /// Likewise of generated tokens'.
    pub decoding: Precision,
    /// Of prompts' products with other weights.
    pub plain: Precision,
    /// Likewise of generated tokens'.
    pub plain_decoding: Precision,
    /// Of prompts' attention on a CPU.
    pub attention: Precision,
}

impl Compute {
    /// The device there is, and the type that `dtype` asks for.
    ///
    /// `auto` is bfloat16 on CUDA and float32 on a CPU, where products with quantised weights take inputs of 8 bits
    /// (docs/decisions/009) or, of prompts where the CPU has tiles, bfloat16 (docs/decisions/010); prompts' other products
    /// split their inputs into two bfloat16 (docs/decisions/006). Prompts' attention is of bfloat16, or of bytes where the CPU
    /// multiplies those fastest (docs/decisions/013). `bfloat16` needs no tiles for it, only instructions.
    pub fn choose(dtype: Dtype) -> Self {
        let device = Device::cuda_if_available();
        let kind = match dtype {
            Dtype::Float32 => Kind::Float,
            Dtype::Bfloat16 => Kind::BFloat16,
            Dtype::Auto if device.is_cuda() => Kind::BFloat16,
            Dtype::Auto => Kind::Float,
        };
        let halves = match dtype {
            Dtype::Bfloat16 => Level::Bf16,
            Dtype::Auto | Dtype::Float32 => Level::Amx,
        };
        let (prompts, decoding) = match dtype {
            Dtype::Float32 => (Precision::Float32, Precision::Float32),
            _ if halves.is_available() => (Precision::Bfloat16, Precision::Int8),
            Dtype::Bfloat16 | Dtype::Auto => (Precision::Int8, Precision::Int8),
        };
        let (plain, attention) = match dtype {
            Dtype::Float32 => (Precision::Float32, Precision::Float32),
            Dtype::Bfloat16 => (Precision::Bfloat16, Precision::Bfloat16),
            Dtype::Auto if Level::best().multiplies_bytes() => (Precision::Split, Precision::Int8),
            Dtype::Auto => (Precision::Split, Precision::Bfloat16),
        };
        Compute {
            device,
            kind,
            prompts,
            decoding,
            plain,
            plain_decoding: Precision::Float32,
            attention,
        }
    }

    /// The CPU, and all products of weights that are not quantised in one type, those of generated tokens like those of
    /// prompts: for many answers at once from a model that is being trained in that type. A step of many rows is bound
    /// by arithmetic, not by memory.
    pub fn of_training(bfloat16: bool) -> Self {
        let dtype = match bfloat16 {
            true => Dtype::Bfloat16,
            false => Dtype::Float32,
        };
        let chosen = Compute::choose(dtype);
        Compute {
            device: Device::Cpu,
            plain_decoding: chosen.plain,
            ..chosen
        }
    }

    /// Of products with weights, quantised or not, and rows of a prompt or of an answer; on a CPU.
    pub fn precision(&self, quantised: bool, prompt: bool) -> Precision {
        match (quantised, prompt) {
            (true, true) => self.prompts,
            (true, false) => self.decoding,
            (false, true) => self.plain,
            (false, false) => self.plain_decoding,
        }
    }

    /// Bytes of one value.
    pub fn value_bytes(&self) -> usize {
        self.kind.elt_size_in_bytes()
    }

    /// The name in configuration of what was chosen.
    pub fn dtype_name(&self) -> &'static str {
        match (self.kind, self.decoding) {
            (Kind::BFloat16, _) => "bfloat16",
            (_, Precision::Float32) => "float32",
            _ => "auto",
        }
    }

    /// What products with quantised weights are computed in, for people.
    pub fn about(&self) -> String {
        match (self.prompts, self.decoding) {
            _ if self.device.is_cuda() => self.dtype_name().to_owned(),
            (prompts, decoding) if prompts == decoding => prompts.name().to_owned(),
            (prompts, decoding) => format!(
                "{} for prompts and {} for answers",
                prompts.name(),
                decoding.name()
            ),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn bfloat16_in_hardware() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn bfloat16_in_hardware() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn bfloat16_in_hardware() -> bool {
    false
}

/// Threads of a step.
pub(super) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Sets the threads of every tensor operation of this process. Returns how many, and why.
pub fn set_threads(config: &Config) -> (usize, String) {
    // Considers the affinity mask and the cgroup quota: more threads than either allows make a decode step many
    // times slower, since all wait for the one that was descheduled.
    let allowed = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (threads, reason) = match config.threads {
        Some(n) if n.get() > allowed => (
            n.get(),
            format!("as configured, although only {allowed} cpus are allowed here"),
        ),
        Some(n) => (n.get(), "as configured".to_owned()),
        None => (
            allowed,
            "cpus that the affinity mask and the cgroup quota allow".to_owned(),
        ),
    };
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    (threads, reason)
}

/// One line on the device for `doctor` and the log.
pub fn describe() -> String {
    if Cuda::is_available() {
        format!("CUDA, {} device(s), first one used", Cuda::device_count())
    } else {
        let bf16 = if bfloat16_in_hardware() {
            "has"
        } else {
            "lacks"
        };
        format!(
            "CPU ({} bfloat16 instructions); libtorch sees no CUDA device",
            bf16
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_type_is_honoured() {
        assert_eq!(Compute::choose(Dtype::Float32).kind, Kind::Float);
        assert_eq!(Compute::choose(Dtype::Bfloat16).kind, Kind::BFloat16);
        assert_eq!(Compute::choose(Dtype::Bfloat16).value_bytes(), 2);
    }

    #[test]
    fn float32_rounds_nothing_and_the_others_say_what_they_round() {
        let exact = Compute::choose(Dtype::Float32);
        let all = [exact.prompts, exact.decoding, exact.plain, exact.attention];
        assert_eq!(all, [Precision::Float32; 4]);
        assert_eq!(exact.dtype_name(), "float32");
        let auto = Compute::choose(Dtype::Auto);
        assert_eq!(
            auto.attention == Precision::Int8,
            Level::best().multiplies_bytes()
        );
        assert_eq!(auto.precision(true, false), Precision::Int8);
        let halves = Compute::choose(Dtype::Bfloat16);
        assert_eq!(halves.precision(true, false), Precision::Int8);
        assert_eq!(
            halves.precision(true, true) == Precision::Bfloat16,
            Level::Bf16.is_available()
        );
        assert_eq!(
            auto.precision(true, true) == Precision::Bfloat16,
            Level::Amx.is_available()
        );
        assert_eq!(auto.precision(false, false), Precision::Float32);
        let trained = Compute::of_training(true);
        assert_eq!(trained.precision(false, false), Precision::Bfloat16);
        assert_eq!(trained.precision(false, true), Precision::Bfloat16);
        assert!(!trained.device.is_cuda());
        let exact = Compute::of_training(false);
        assert_eq!(exact.precision(false, false), Precision::Float32);
        if !auto.device.is_cuda() {
            assert_eq!(
                (auto.dtype_name(), exact.about().as_str()),
                ("auto", "float32")
            );
            assert!(auto.about().contains("int8"), "{}", auto.about());
        }
    }
}
