//! What the machine allows: how fast it reads memory and multiplies large matrices. Speeds of models are told as shares of
//! these, measured in the same run, since machines and their neighbours differ by the hour.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Device, Kind, TchError, Tensor, no_grad_guard};

use super::{LlamaError, ModelConfig};
use crate::kernels::{Level, Piece, Pool, Precision, Slabs};

/// Bytes that are read to see how fast memory is: more than caches hold.
const READ: usize = 1 << 28;

/// A measurement is repeated for so long, and the best counts: what else runs only makes it slower.
const REPEAT: Duration = Duration::from_millis(400);

/// Rows, depth and columns of the products that are timed.
const SHAPE: [i64; 3] = [512, 1024, 4096];

/// What `bench --machine` tells.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Logical processors that this process may use.
    pub allowed: usize,
    /// Processor time that its control group may use, in processors; absent = no limit.
    pub quota: Option<f64>,
    /// The instructions that the kernels use, and the others that they could, slowest first.
    pub level: Level,
    /// See `level`.
    pub levels: Vec<Level>,
    /// Of the first processor, nearest first.
    pub caches: Vec<Cache>,
    /// By threads.
    pub read: Vec<Read>,
    /// Large products through libtorch, by type.
    pub products: Vec<Products>,
}

/// A cache of a processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// How far it is, from 1 on.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// As the system writes it, such as `48K`.
    pub size: String,
}

/// How fast memory is read.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Read {
    /// By so many threads.
    pub threads: usize,
    /// In all.
    pub bytes_per_s: f64,
}

/// How fast matrices are multiplied.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Products {
    /// Of the operands.
    pub kind: &'static str,
    /// A multiplication and an addition are two.
    pub operations_per_s: f64,
}

/// The limits of one run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all threads.
    pub bytes_per_s: f64,
    /// Of long products in the type that prompts are computed in.
    pub operations_per_s: f64,
}

impl Machine {
    /// Measures it with up to `threads` threads; takes some seconds.
    ///
    /// # Errors
    /// When threads or tensors are refused.
    pub fn measure(threads: usize) -> Result<Self, LlamaError> {
        let data = data();
        let mut counts: Vec<usize> = (0..).map(|i| 1 << i).take_while(|&n| n < threads).collect();
        counts.push(threads);
        let read = |threads| {
            let bytes_per_s = read(&data, threads)?;
            Ok(Read {
                threads,
                bytes_per_s,
            })
        };
        let kinds = [
            ("float32", Kind::Float),
            ("bfloat16", Kind::BFloat16),
            ("int8", Kind::Int8),
        ];
        let products = kinds.map(|(kind, of)| {
            let operations_per_s = products(of)?;
            Ok(Products {
                kind,
                operations_per_s,
            })
        });
        Ok(Machine {
            allowed: std::thread::available_parallelism().map_or(1, usize::from),
            quota: quota(Path::new("/sys/fs/cgroup/cpu.max")),
            level: Level::best(),
            levels: Level::available(),
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            read: counts
                .into_iter()
                .map(read)
                .collect::<Result<_, LlamaError>>()?,
            products: products.into_iter().collect::<Result<_, TchError>>()?,
        })
    }
}

impl Limits {
    /// Measures what limits prompts in `precision` and answers.
    ///
    /// # Errors
    /// As [`Machine::measure`].
    pub fn measure(threads: usize, precision: Precision) -> Result<Self, LlamaError> {
        let data = data();
        let (kind, products_each) = match precision {
            Precision::Float32 => (Kind::Float, 1.0),
            Precision::Bfloat16 => (Kind::BFloat16, 1.0),
            Precision::Split => (Kind::BFloat16, 3.0),
            Precision::Int8 => (Kind::Int8, 1.0),
        };
        Ok(Limits {
            bytes_per_s: read(&data, threads)?,
            operations_per_s: products(kind)? / products_each,
        })
    }

    /// Tokens a second that reading `weights` once a step, and the `cached` bytes of each of `batch` sequences, allows.
    pub fn decode(&self, weights: usize, cached: usize, batch: usize) -> f64 {
        batch as f64 * self.bytes_per_s / (weights + batch * cached) as f64
    }

    /// Tokens a second that the products of a prompt of `tokens` behind `depth` others allow; the head is for one.
    pub fn prefill(&self, config: &ModelConfig, tokens: usize, depth: usize) -> f64 {
        tokens as f64 * self.operations_per_s / operations(config, tokens, depth)
    }
}

/// Of a prompt of `tokens` behind `depth` others; a multiplication and an addition are two.
fn operations(config: &ModelConfig, tokens: usize, depth: usize) -> f64 {
    let (heads, kv_heads) = (config.heads, config.kv_heads);
    let attention = config.hidden * config.head_dim * (2 * heads + 2 * kv_heads);
    let block = attention + 3 * config.hidden * config.intermediate;
    let seen = tokens as f64 * (depth as f64 + (tokens + 1) as f64 / 2.0);
    let scores = 2.0 * seen * (heads * config.head_dim) as f64;
    let blocks = config.layers as f64 * ((tokens * block) as f64 + scores);
    2.0 * (blocks + (config.hidden * config.vocab) as f64)
}

/// What is read to see how fast memory is, laid like weights.
fn data() -> Piece {
    let mut data = Slabs::new(READ).take(READ);
    data.fill(1);
    data
}

/// Bytes a second.
fn read(data: &[u8], threads: usize) -> Result<f64, LlamaError> {
    let pool = Pool::new(threads).map_err(|error| LlamaError::Threads(error.to_string()))?;
    let (words, _) = data.as_chunks::<{ size_of::<u64>() }>();
    let parts: Vec<_> = words.chunks(words.len().div_ceil(16 * threads)).collect();
    let pass = || {
        pool.run(parts.len(), |part| {
            let words = parts[part].iter().copied().map(u64::from_ne_bytes);
            let sum = words.fold(0, u64::wrapping_add);
            std::hint::black_box(sum);
        });
        Ok::<(), LlamaError>(())
    };
    Ok(size_of_val(data) as f64 / best(pass)?)
}

/// Operations a second.
fn products(kind: Kind) -> Result<f64, TchError> {
    let _guard = no_grad_guard();
    let [rows, depth, columns] = SHAPE;
    let of = |size: [i64; 2]| match kind {
        Kind::Int8 => Tensor::f_ones(size, (kind, Device::Cpu)),
        _ => Tensor::f_rand(size, (Kind::Float, Device::Cpu))?.f_to_kind(kind),
    };
    let (x, weight) = (of([rows, depth])?, of([columns, depth])?);
    let turned = weight.f_transpose(0, 1)?;
    let took = best(|| {
        let product = match kind {
            Kind::Int8 => x.f_internal_int_mm(&turned)?,
            _ => x.f_linear(&weight, None::<&Tensor>)?,
        };
        drop(product);
        Ok::<(), TchError>(())
    })?;
    Ok(2.0 * (rows * depth * columns) as f64 / took)
}

/// The shortest of several runs, in seconds; the first warms up.
fn best<E>(mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    work()?;
    let mut shortest = f64::MAX;
    let started = Instant::now();
    while started.elapsed() < REPEAT {
        let began = Instant::now();
        work()?;
        shortest = shortest.min(began.elapsed().as_secs_f64());
    }
    Ok(shortest)
}

/// Processors' time of a control group, from its `cpu.max`: a number or `max`, and the period.
fn quota(file: &Path) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// The caches in a folder of the system's description of a processor.
fn caches(folder: &Path) -> Vec<Cache> {
    let one = |index: usize| {
        let of = |name: &str| {
            let text = fs::read_to_string(folder.join(format!("index{index}")).join(name));
            text.ok().map(|text| text.trim().to_owned())
        };
        Some(Cache {
            level: of("level")?.parse().ok()?,
            kind: of("type")?,
            size: of("size")?,
        })
    };
    (0..).map_while(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::testing::tiny_config;

    #[test]
    fn what_the_system_says_is_read_and_what_it_lacks_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cpu.max");
        for (text, expected) in [
            ("150000 100000\n", Some(1.5)),
            ("max 100000\n", None),
            ("1 0", None),
            ("", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(quota(&file), expected, "{text:?}");
        }
        assert_eq!(quota(&folder.path().join("none")), None);
        assert!(caches(folder.path()).is_empty());
        let index = folder.path().join("index0");
        fs::create_dir(&index).unwrap();
        for (name, text) in [("level", "1\n"), ("type", "Data\n"), ("size", "48K\n")] {
            fs::write(index.join(name), text).unwrap();
        }
        let cache = Cache {
            level: 1,
            kind: "Data".to_owned(),
            size: "48K".to_owned(),
        };
        assert_eq!(caches(folder.path()), [cache]);
    }

    #[test]
    fn limits_are_those_of_what_is_read_and_multiplied() {
        let limits = Limits {
            bytes_per_s: 1e9,
            operations_per_s: 1e12,
        };
        assert_eq!(limits.decode(10_000_000, 0, 1), 100.0);
        assert_eq!(limits.decode(10_000_000, 10_000_000, 1), 50.0);
        assert_eq!(limits.decode(10_000_000, 0, 16), 1600.0);
        let config = tiny_config();
        let alone = operations(&config, 1, 0);
        let block = config.hidden * config.head_dim * (2 * config.heads + 2 * config.kv_heads)
            + 3 * config.hidden * config.intermediate;
        let scores = 2 * config.heads * config.head_dim;
        let expected = 2 * (config.layers * (block + scores) + config.hidden * config.vocab);
        assert_eq!(alone, expected as f64);
        assert!(operations(&config, 1, 100) > alone);
        assert!((limits.prefill(&config, 1, 0) - 1e12 / alone).abs() < 1.0);
    }

    #[test]
    fn a_machine_reads_and_multiplies() {
        let machine = Machine::measure(2).unwrap();
        assert_eq!(
            machine
                .read
                .iter()
                .map(|read| read.threads)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(machine.read.iter().all(|read| read.bytes_per_s > 1e6));
        assert_eq!(machine.products.len(), 3);
        assert!(machine.products.iter().all(|p| p.operations_per_s > 1e6));
        assert!(machine.allowed >= 1 && machine.levels.contains(&machine.level));
    }
}
