//! Rotary position embedding: <https://arxiv.org/abs/2104.09864>.

use tch::{Device, Kind, TchError, Tensor};

use super::{ModelConfig, RopeScaling};

/// How far keys and queries turn with every position.
#[derive(Debug)]
pub(crate) struct Rope {
    /// Radians a position, by pair of dimensions.
    frequencies: Vec<f64>,
}

impl Rope {
    /// `factors` divide the frequencies, where a file carries them.
    pub(crate) fn new(config: &ModelConfig, factors: Option<&[f32]>) -> Self {
        let mut frequencies = frequencies(config);
        for (frequency, &factor) in frequencies.iter_mut().zip(factors.unwrap_or_default()) {
            *frequency /= f64::from(factor);
        }
        Rope { frequencies }
    }

    /// Tables for `context` positions on `device`.
    pub(super) fn tables(&self, context: usize, device: Device) -> Result<Tables, TchError> {
        let narrow: Vec<f32> = self.frequencies.iter().map(|&f| f as f32).collect();
        let positions = Tensor::f_arange(context as i64, (Kind::Float, Device::Cpu))?;
        let angles = positions
            .f_unsqueeze(1)?
            .f_mul(&Tensor::f_from_slice(&narrow)?.f_unsqueeze(0)?)?;
        Ok(Tables {
            cos: angles.f_cos()?.f_to_device(device)?,
            sin: angles.f_sin()?.f_to_device(device)?,
        })
    }

    /// Rotates `key` by `delta` positions more, in place.
    pub(super) fn turn(&self, key: &mut [f32], delta: i64) {
        let (cos, sin) = self.angles(|frequency| {
            let angle = delta as f64 * frequency;
            (angle.cos(), angle.sin())
        });
        crate::kernels::rotate(key, &cos, &sin);
    }

    /// Cosines and sines averaged over `count` positions from `from` on.
    pub(super) fn mean(&self, from: i64, count: i64) -> (Vec<f32>, Vec<f32>) {
        self.angles(|frequency| {
            let (mut cos, mut sin) = (0.0, 0.0);
            for position in from..from + count {
                let angle = position as f64 * frequency;
                cos += angle.cos();
                sin += angle.sin();
            }
            (cos / count as f64, sin / count as f64)
        })
    }

    /// Cosines and sines of one position, on the host; as the tables have them.
    pub(crate) fn position(&self, position: usize) -> (Vec<f32>, Vec<f32>) {
        let angle = |frequency: &f64| (position as f32 * *frequency as f32).sin_cos();
        let (sin, cos): (Vec<f32>, Vec<f32>) = self.frequencies.iter().map(angle).unzip();
        (cos, sin)
    }

    fn angles(&self, of: impl Fn(f64) -> (f64, f64)) -> (Vec<f32>, Vec<f32>) {
        self.frequencies
            .iter()
            .map(|&frequency| {
                let (cos, sin) = of(frequency);
                (cos as f32, sin as f32)
            })
            .unzip()
    }
}

/// Cosines and sines by position, `[context, head_dim / 2]` each, float32.
#[derive(Debug)]
pub(super) struct Tables {
    cos: Tensor,
    sin: Tensor,
}

impl Tables {
    /// Cosines and sines of `positions`, `[n, 1, head_dim / 2]` each, to share between layers.
    pub(super) fn at(&self, positions: &Tensor) -> Result<Rotation, TchError> {
        Ok(Rotation {
            cos: self.cos.f_index_select(0, positions)?.f_unsqueeze(1)?,
            sin: self.sin.f_index_select(0, positions)?.f_unsqueeze(1)?,
        })
    }
}

/// The rotation of one step's tokens.
#[derive(Debug)]
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Rotates `x` `[n, heads, head_dim]`, the first half of a head with the second. Computed in float32.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let kind = x.f_kind()?;
        let half = x.size3()?.2 / 2;
        let first = x.f_narrow(2, 0, half)?;
        let second = x.f_narrow(2, half, half)?;
        // bfloat16 times float32 is float32.
        let rotated = Tensor::f_cat(
            &[
                first.f_mul(&self.cos)?.f_sub(&second.f_mul(&self.sin)?)?,
                second.f_mul(&self.cos)?.f_add(&first.f_mul(&self.sin)?)?,
            ],
            2,
        )?;
        super::weights::to_kind(&rotated, kind)
    }
}

/// Radians a position, by pair of dimensions.
fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let half = config.head_dim / 2;
    let plain = (0..half).map(|i| {
        let exponent = 2.0 * i as f64 / config.head_dim as f64;
        config.rope_theta.powf(-exponent)
    });
    match config.rope_scaling {
        None => plain.collect(),
        Some(RopeScaling::Linear { factor }) => plain.map(|f| f / factor).collect(),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        }) => plain
            .map(|frequency| {
                let turns = original_context as f64 * frequency / std::f64::consts::TAU;
                let blend = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let blend = blend.clamp(0.0, 1.0);
                (1.0 - blend) * frequency / factor + blend * frequency
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llama::testing::tiny_config;

    #[test]
    fn llama3_scaling_keeps_fast_turns_and_stretches_slow_ones() {
        let mut config = tiny_config();
        config.head_dim = 64;
        config.rope_theta = 500_000.0;
        let plain = frequencies(&config);
        config.rope_scaling = Some(RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        });
        let scaled = frequencies(&config);
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[31] - plain[31] / 32.0).abs() < 1e-15);
        let between = scaled
            .iter()
            .zip(&plain)
            .filter(|(s, p)| *s < *p && **s > **p / 32.0);
        assert!(between.count() > 0, "some frequencies are blended");
    }

    #[test]
    fn rotation_keeps_lengths_and_only_relative_positions_matter() {
        let config = tiny_config();
        let rope = Rope::new(&config, None);
        let tables = rope.tables(64, Device::Cpu).unwrap();
        let dim = config.head_dim as i64;
        let x = Tensor::randn([1, 1, dim], (Kind::Float, Device::Cpu));
        let y = Tensor::randn([1, 1, dim], (Kind::Float, Device::Cpu));
        let turned = |t: &Tensor, position: i64| {
            let rotation = tables.at(&Tensor::from_slice(&[position])).unwrap();
            rotation.apply(t).unwrap()
        };
        let mut key: Vec<f32> = Vec::try_from(turned(&x, 5).flatten(0, -1)).unwrap();
        rope.turn(&mut key, 35 - 5);
        let whole: Vec<f32> = Vec::try_from(turned(&x, 35).flatten(0, -1)).unwrap();
        for (a, b) in key.iter().zip(whole) {
            assert!((a - b).abs() < 1e-5, "turning on is turning at once");
        }
        let dot = |a: i64, b: i64| {
            (turned(&x, a) * turned(&y, b))
                .sum(Kind::Float)
                .double_value(&[])
        };
        assert!((dot(3, 10) - dot(40, 47)).abs() < 1e-4);
        assert!(
            (dot(3, 10) - dot(3, 11)).abs() > 1e-4,
            "positions must matter at all"
        );
        let (before, after) = (
            x.norm().double_value(&[]),
            turned(&x, 33).norm().double_value(&[]),
        );
        assert!((before - after).abs() < 1e-5);
    }
}
