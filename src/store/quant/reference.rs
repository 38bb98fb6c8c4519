//! Reference values: three blocks of each type from deterministic bytes, decoded by the Python
//! package `gguf`, whose layouts are ggml's.

use super::{DType, dequantize, encode};

struct Reference {
    dtype: DType,
    /// Offsets in the block of the half-precision numbers, whose exponents are tamed.
    halves: &'static [usize],
    sum: f64,
    /// The sum of each element times its one-based index.
    weighted: f64,
    some: &'static [(usize, f32)],
}

// The digits are those that Python prints.
#[rustfmt::skip]
#[allow(clippy::excessive_precision)]
const REFERENCES: [Reference; 10] = [
    Reference { dtype: DType::Q4_0, halves: &[0], sum: 4.479248046875, weighted: 252.58349609375, some: &[(0, -1.36376953125), (1, -0.779296875), (15, -0.97412109375), (16, 0.0), (17, 0.58447265625), (31, -0.58447265625), (48, 0.731201171875), (63, 0.0), (95, 1.0101318359375)] },
    Reference { dtype: DType::Q4_1, halves: &[0, 2], sum: -57.7421875, weighted: -5345.29296875, some: &[(0, 0.98291015625), (1, 2.1279296875), (15, 1.63720703125), (16, 1.63720703125), (17, 0.00146484375), (31, 0.8193359375), (48, -0.4056396484375), (63, -2.5638427734375), (95, -2.311279296875)] },
    Reference { dtype: DType::Q5_0, halves: &[0], sum: -24.1126708984375, weighted: -1423.250244140625, some: &[(0, -0.39697265625), (1, -0.39697265625), (15, -1.3232421875), (16, 0.7939453125), (17, -0.7939453125), (31, -0.39697265625), (48, -0.400634765625), (63, 1.4022216796875), (95, 0.55224609375)] },
    Reference { dtype: DType::Q5_1, halves: &[0, 2], sum: -105.2860107421875, weighted: -6391.565673828125, some: &[(0, -1.465576171875), (1, -2.127197265625), (15, -3.318115234375), (16, -3.318115234375), (17, -1.730224609375), (31, -1.200927734375), (48, 2.4609375), (63, 2.8809814453125), (95, -3.458984375)] },
    Reference { dtype: DType::Q8_0, halves: &[0], sum: -86.3577880859375, weighted: 192.9542236328125, some: &[(0, -14.0166015625), (1, 8.5908203125), (15, -22.38134765625), (16, 7.234375), (17, -4.521484375), (31, -23.51171875), (48, 7.283935546875), (63, -2.61474609375), (95, 11.3748779296875)] },
    Reference { dtype: DType::Q2_K, halves: &[80, 82], sum: -1783.48828125, weighted: -344289.57177734375, some: &[(0, -0.5782470703125), (1, -7.2147216796875), (15, -7.2147216796875), (16, -3.1864013671875), (17, -3.5267333984375), (31, -3.1864013671875), (384, -4.66259765625), (735, -0.91845703125), (767, -1.683837890625)] },
    Reference { dtype: DType::Q3_K, halves: &[108], sum: -381.1614990234375, weighted: 35753.69494628906, some: &[(0, -7.58203125), (1, -22.74609375), (15, 0.0), (16, 0.94775390625), (17, 2.84326171875), (31, 2.84326171875), (384, -9.046142578125), (735, -5.9227294921875), (767, -9.65185546875)] },
    Reference { dtype: DType::Q4_K, halves: &[0, 2], sum: 19197.403442382812, weighted: 1235410.9028320312, some: &[(0, 129.784912109375), (1, 129.784912109375), (15, 30.7486572265625), (16, 30.7486572265625), (17, 93.771728515625), (31, 129.784912109375), (384, 119.178955078125), (735, -15.01220703125), (767, -27.8984375)] },
    Reference { dtype: DType::Q5_K, halves: &[0, 2], sum: 51200.99768066406, weighted: 21187601.954833984, some: &[(0, 35.9124755859375), (1, 14.058837890625), (15, 110.21484375), (16, 14.058837890625), (17, 79.6197509765625), (31, 57.76611328125), (384, 15.29443359375), (735, 61.587158203125), (767, 23.096923828125)] },
    Reference { dtype: DType::Q6_K, halves: &[208], sum: 14602.355102539062, weighted: 2451431.384033203, some: &[(0, 483.261474609375), (1, -788.479248046875), (15, -305.2177734375), (16, 233.876220703125), (17, 107.94287109375), (31, 323.82861328125), (384, -78.2373046875), (735, -110.228759765625), (767, 16.7200927734375)] },
];

/// Three blocks of bytes from a linear congruential generator, with halves near 1e-1.
fn sample(reference: &Reference, seed: u32) -> Vec<u8> {
    let size = reference.dtype.block_bytes();
    let mut state = seed;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(3 * size)
    .collect();
    for block in bytes.chunks_mut(size) {
        for offset in reference.halves {
            block[offset + 1] = block[offset + 1] & 0x83 | 0x30;
        }
    }
    bytes
}

#[test]
fn every_block_type_decodes_as_ggml_does() {
    for (reference, seed) in REFERENCES.iter().zip(1..) {
        let name = reference.dtype.name();
        let bytes = sample(reference, seed);
        let mut out = vec![f32::NAN; 3 * reference.dtype.block_elements()];
        dequantize(reference.dtype, &bytes, &mut out).unwrap();
        for (index, expected) in reference.some {
            let found = out[*index];
            assert!(
                (found - expected).abs() <= 1e-5 * expected.abs(),
                "{name}[{index}] {found}"
            );
        }
        let sum: f64 = out.iter().map(|x| f64::from(*x)).sum();
        let weighted: f64 = (1..)
            .zip(&out)
            .map(|(i, x)| f64::from(i) * f64::from(*x))
            .sum();
        let scale: f64 = out.iter().map(|x| f64::from(x.abs())).sum();
        assert!(
            (sum - reference.sum).abs() < 1e-6 * scale,
            "{name} sum {sum}"
        );
        assert!(
            (weighted - reference.weighted).abs() < 1e-4 * scale,
            "{name} weighted {weighted}"
        );
    }
}

#[test]
fn plain_numbers_survive_a_round_trip() {
    let values: Vec<f32> = (0..320).map(|i| (i as f32 - 160.0) / 64.0).collect();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let mut out = vec![0.0; values.len()];
        dequantize(dtype, &encode(dtype, &values).unwrap(), &mut out).unwrap();
        assert_eq!(out, values, "{}", dtype.name());
    }
    let mut out = vec![0.0; values.len()];
    dequantize(
        DType::Q8_0,
        &encode(DType::Q8_0, &values).unwrap(),
        &mut out,
    )
    .unwrap();
    for (x, y) in values.iter().zip(&out) {
        assert!((x - y).abs() <= 2.5 / 254.0 * 1.01, "{x} became {y}");
    }
}

#[test]
fn bytes_and_elements_must_agree() {
    let mut out = [0.0; 32];
    assert!(dequantize(DType::Q4_0, &[0; 17], &mut out).is_err());
    assert!(dequantize(DType::Q4_0, &[0; 36], &mut out).is_err());
    assert!(dequantize(DType::Q4_0, &[0; 18], &mut out[..31]).is_err());
    assert!(dequantize(DType::Q4_0, &[0; 18], &mut out).is_ok());
    assert_eq!(DType::F32.bytes_for(usize::MAX), None);
    assert_eq!(
        DType::Q4_K.bytes_for_shape(&[256, 1]),
        None,
        "rows must be whole blocks"
    );
    assert_eq!(encode(DType::Q4_K, &[0.0; 256]), None);
}
