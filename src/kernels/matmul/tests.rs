use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::kernels::amount;
use reference::{Element, FORMATS, Random, blocks, elements};

mod reference;

/// A matrix and its elements, row-major.
struct Case {
    matrix: Matrix,
    elements: Vec<Element>,
}

impl Case {
    fn new(format: Format, rows: usize, cols: usize, random: &mut Random) -> Case {
        let bytes = blocks(format, rows * cols, random);
        Case {
            matrix: Matrix::from_blocks(format, rows, cols, &bytes).unwrap(),
            elements: elements(format, &bytes),
        }
    }

    /// Panics unless the product of every level and precision is within the bound that it states.
    fn check(&self, pool: &Pool, n: usize, random: &mut Random) {
        let (rows, cols) = (self.matrix.rows(), self.matrix.cols());
        let x: Vec<f32> = (0..n * cols).map(|_| random.float()).collect();
        for (level, precision) in Level::available()
            .into_iter()
            .flat_map(|level| PRECISIONS.map(|precision| (level, precision)))
            .filter(|(level, precision)| differs(*level, *precision))
        {
            let mut out = vec![f32::NAN; n * rows];
            multiply_as(precision, level, pool, &self.matrix, &x, n, &mut out);
            for (i, (x, out)) in x.chunks(cols).zip(out.chunks(rows)).enumerate() {
                for (r, (row, out)) in self.elements.chunks(cols).zip(out).enumerate() {
                    let products = || row.iter().zip(x).map(|(w, x)| (w, f64::from(*x)));
                    let expected: f64 = products().map(|(w, x)| w.value * x).sum();
                    let added: f64 = products().map(|(w, x)| w.parts * x.abs()).sum();
                    // Of rounding inputs; and of `2^-24` for each column, where bytes are up to 255 and quants less.
                    let (rounding, larger) = match precision {
                        Precision::Float32 => (0.0, 1.0),
                        Precision::Split => (2f64.powi(-14) * added, 1.0),
                        Precision::Bfloat16 => (2f64.powi(-7) * added, 1.0),
                        Precision::Int8 => (steps(row, x), 8.0),
                    };
                    let bound = 2f64.powi(-24) * cols as f64 * larger * added + rounding;
                    let error = (f64::from(*out) - expected).abs();
                    assert!(
                        error <= bound,
                        "{level:?} {precision:?}, input {i} of {n}, row {r} of {rows}: {out} instead of {expected} +- {bound}"
                    );
                }
            }
        }
    }
}

const PRECISIONS: [Precision; 4] = [
    Precision::Float32,
    Precision::Split,
    Precision::Bfloat16,
    Precision::Int8,
];

/// Whether a precision makes a difference.
fn differs(level: Level, precision: Precision) -> bool {
    match precision {
        Precision::Float32 | Precision::Int8 => true,
        Precision::Split | Precision::Bfloat16 => matches!(level, Level::Bf16 | Level::Amx),
    }
}

/// The most that a product changes when each group of its inputs is rounded to 127 steps on either side of 0.
fn steps(row: &[Element], x: &[f32]) -> f64 {
    let groups = row.chunks(32).zip(x.chunks(32));
    let of_group = |(row, x): (&[Element], &[f32])| {
        let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
        let weights: f64 = row.iter().map(|w| w.value.abs()).sum();
        weights * f64::from(most) / 253.9
    };
    groups.map(of_group).sum()
}

fn format() -> impl Strategy<Value = Format> {
    select(&FORMATS[..])
}

/// A number of columns: up to 20 blocks of 32, 5 of 256, and any of plain numbers.
fn shape() -> impl Strategy<Value = (Format, usize, usize)> {
    (format(), 1..=amount(70, 20), 1..=amount(20, 4), 0usize..32).prop_map(
        |(format, rows, blocks, odd)| {
            let cols = match format.block_elements() {
                1 => blocks * 32 - odd,
                256 => blocks.div_ceil(4) * 256,
                block => blocks * block,
            };
            (format, rows, cols)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(amount(60, 2) as u32))]

    #[test]
    fn long_inputs_equal_the_reference_in_every_precision(
        (format, rows, cols) in shape(), n in 17usize..=70, threads in 1usize..=3,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let case = Case::new(format, rows.min(40), cols, &mut random);
        case.check(&Pool::new(threads).unwrap(), n, &mut random);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(amount(400, 6) as u32))]

    #[test]
    fn every_level_equals_the_reference(
        (format, rows, cols) in shape(), n in 1usize..=18, threads in 1usize..=3,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let case = Case::new(format, rows, cols, &mut random);
        case.check(&Pool::new(threads).unwrap(), n, &mut random);
    }

    #[test]
    fn a_row_is_the_same_alone_and_among_others(
        (format, rows, cols) in shape(), n in 2usize..=40, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let matrix = Case::new(format, rows, cols, &mut random).matrix;
        let pool = Pool::new(2).unwrap();
        let x: Vec<f32> = (0..n * cols).map(|_| random.float()).collect();
        for (level, precision) in Level::available()
            .into_iter()
            .flat_map(|level| PRECISIONS.map(|precision| (level, precision)))
            .filter(|(level, precision)| differs(*level, *precision))
        {
            // Single precision promises it only up to rounding, and bytes are for quantised weights.
            let plain = format.block_elements() == 1;
            if precision == Precision::Float32 || (precision == Precision::Int8 && plain) {
                continue;
            }
            let mut together = vec![f32::NAN; n * rows];
            multiply_as(precision, level, &pool, &matrix, &x, n, &mut together);
            for (x, together) in x.chunks(cols).zip(together.chunks(rows)) {
                let mut alone = vec![f32::NAN; rows];
                multiply_as(precision, level, &pool, &matrix, x, 1, &mut alone);
                prop_assert_eq!(&alone, together, "{:?} {:?}", level, precision);
            }
        }
    }

    #[test]
    fn rows_are_the_elements((format, rows, cols) in shape(), seed in any::<u64>()) {
        let case = Case::new(format, rows, cols, &mut Random::new(seed));
        let mut row = vec![f32::NAN; cols];
        for (r, elements) in case.elements.chunks(cols).enumerate() {
            case.matrix.row(r, &mut row);
            for (x, element) in row.iter().zip(elements) {
                // One rounding of the product, one of the sum.
                let bound = 2f64.powi(-23) * element.parts;
                prop_assert!((f64::from(*x) - element.value).abs() <= bound);
            }
        }
    }

    #[test]
    fn permuted_rows_are_the_same_rows(
        (format, rows, cols) in shape(), keys in proptest::collection::vec(any::<u32>(), 70),
        seed in any::<u64>(),
    ) {
        let mut case = Case::new(format, rows, cols, &mut Random::new(seed));
        let row = |matrix: &Matrix, r| {
            let mut row = vec![0.0; cols];
            matrix.row(r, &mut row);
            row
        };
        let before: Vec<_> = (0..rows).map(|r| row(&case.matrix, r)).collect();
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by_key(|r| keys[*r]);
        case.matrix.permute_rows(&order);
        for (r, from) in order.iter().enumerate() {
            prop_assert_eq!(&row(&case.matrix, r), &before[*from]);
        }
    }

    #[test]
    fn a_stack_is_its_parts_one_below_the_other(
        shapes in proptest::collection::vec((format(), 1usize..=40), 1..=4), n in 1usize..=18,
        seed in any::<u64>(),
    ) {
        let cols = 256;
        let mut random = Random::new(seed);
        let cases = shapes.iter().map(|(format, rows)| Case::new(*format, *rows, cols, &mut random));
        let (matrices, elements): (Vec<_>, Vec<_>) =
            cases.map(|case| (case.matrix, case.elements)).unzip();
        let bytes: usize = matrices.iter().map(Matrix::bytes).sum();
        // A stack of stacks is a stack.
        let stack = Matrix::stacked(matrices).unwrap();
        let case = Case {
            matrix: Matrix::stacked(vec![stack]).unwrap(),
            elements: elements.concat(),
        };
        prop_assert_eq!(case.matrix.bytes(), bytes);
        prop_assert_eq!(case.matrix.rows() * cols, case.elements.len());
        case.check(&Pool::new(2).unwrap(), n, &mut random);
        let mut row = vec![0.0; cols];
        for (r, elements) in case.elements.chunks(cols).enumerate() {
            case.matrix.row(r, &mut row);
            let near = |(x, e): (&f32, &Element)| (f64::from(*x) - e.value).abs() <= 1e-6 * e.parts;
            prop_assert!(row.iter().zip(elements).all(near));
        }
    }
}

/// More panels than parts of one, and more groups than one.
#[test]
#[cfg_attr(
    miri,
    ignore = "takes minutes there; shorter tests take the same paths"
)]
fn large_products_equal_the_reference() {
    let mut random = Random::new(5);
    let pool = Pool::new(2).unwrap();
    for format in FORMATS {
        let case = Case::new(format, 1000, 256, &mut random);
        for n in [1, 50] {
            case.check(&pool, n, &mut random);
        }
        // So few panels that parts are stretches of inputs, and more columns than tiles take at a time.
        Case::new(format, 30, 256, &mut random).check(&pool, 300, &mut random);
        Case::new(format, 30, 4352, &mut random).check(&pool, 40, &mut random);
    }
}

#[test]
fn parts_cover_all_panels_once() {
    for (panels, least, threads) in [(0, 1, 1), (1, 4, 2), (60, 4, 2), (3072, 2, 3), (7, 100, 1)] {
        let parts: Vec<_> = Parts {
            panels,
            least,
            threads,
        }
        .iter()
        .collect();
        assert!(parts.iter().cloned().flatten().eq(0..panels));
        let (_, but_last) = parts
            .split_last()
            .map_or((None, &[][..]), |(l, b)| (Some(l), b));
        assert!(but_last.iter().all(|part| part.len() >= least));
        assert!(parts.len() <= 2 * threads * 16, "{}", parts.len());
    }
}

#[test]
fn a_stretch_is_that_of_its_panels_up_to_the_end_of_a_part() {
    let part = |rows: usize| {
        let bytes: Vec<u8> = (0..rows * 8 * 4).map(|i| (i % 251) as u8).collect();
        Matrix::from_blocks(Format::F32, rows, 8, &bytes).unwrap()
    };
    let panels = |count: usize| part(count * ROWS).bytes();
    let matrix = Matrix::stacked(vec![part(3 * ROWS), part(2 * ROWS)]).unwrap();
    for (range, expected) in [
        (0..2, panels(2)),
        (1..5, panels(2)),
        (3..4, panels(1)),
        (4..5, panels(1)),
        (5..5, 0),
        (0..0, 0),
    ] {
        assert_eq!(matrix.stretch(range.clone()).len(), expected, "{range:?}");
    }
    let first = Panel::of(&matrix, 3).unwrap();
    assert_eq!(matrix.stretch(3..4), first.bytes);
}

#[test]
fn what_is_expected_changes_no_product() {
    let pool = Pool::new(3).unwrap();
    let mut random = Random::new(7);
    let rows = amount(1000, 50);
    let case = Case::new(Format::Q4_1, rows, 256, &mut random);
    let x: Vec<f32> = (0..256).map(|i| (i % 17) as f32 - 8.0).collect();
    let product = || {
        let mut out = vec![f32::NAN; rows];
        multiply_as(
            Precision::Int8,
            Level::best(),
            &pool,
            &case.matrix,
            &x,
            1,
            &mut out,
        );
        out
    };
    let before = product();
    for _ in 0..amount(100, 5) {
        expect(&pool, &case.matrix);
        assert_eq!(product(), before);
    }
}

#[test]
#[cfg_attr(
    miri,
    ignore = "takes minutes there; shorter tests take the same paths"
)]
fn memory_is_that_of_the_blocks_for_whole_panels() {
    for (format, bytes) in [
        (Format::F32, 4.0),
        (Format::Bf16, 2.0),
        (Format::Q8_0, 34.0 / 32.0),
        (Format::Q4_1, 20.0 / 32.0),
        // One byte instead of 6 bits for each scale and offset.
        (Format::Q4K, 148.0 / 256.0),
        (Format::Q6K, 210.0 / 256.0),
    ] {
        let matrix = Case::new(format, 64, 512, &mut Random::new(1)).matrix;
        assert_eq!(matrix.bytes() as f64, bytes * 64.0 * 512.0, "{format:?}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let from = |format, rows, cols, bytes| {
        Matrix::from_blocks(format, rows, cols, &vec![0; bytes]).map(|matrix| matrix.rows())
    };
    assert_eq!(from(Format::Q4_1, 2, 64, 80), Ok(2));
    for (rows, cols) in [(0, 32), (2, 0)] {
        let error = MatrixError::Empty { rows, cols };
        assert_eq!(from(Format::Q4_1, rows, cols, 0), Err(error));
    }
    for (format, cols) in [(Format::Q4_0, 48), (Format::Q6K, 128)] {
        let error = MatrixError::Columns { format, cols };
        assert_eq!(from(format, 2, cols, 54), Err(error));
    }
    for (rows, bytes) in [(2, 79), (2, 81), (2, 0), (usize::MAX, 80)] {
        let format = Format::Q4_1;
        let cols = 64;
        let error = MatrixError::Bytes {
            format,
            rows,
            cols,
            bytes,
        };
        assert_eq!(from(format, rows, cols, bytes), Err(error));
    }
    let part = |cols| Matrix::from_blocks(Format::F32, 1, cols, &vec![0; 4 * cols]).unwrap();
    let error = |parts| {
        Matrix::stacked(parts)
            .map(|matrix| matrix.rows())
            .unwrap_err()
    };
    assert_eq!(error(vec![]), MatrixError::Empty { rows: 0, cols: 0 });
    let (part_index, cols, expected) = (1, 4, 3);
    let widths = MatrixError::Widths {
        part: part_index,
        cols,
        expected,
    };
    assert_eq!(error(vec![part(3), part(4)]), widths);
}

#[test]
fn wrong_lengths_and_orders_panic() {
    let matrix = || Case::new(Format::F32, 3, 5, &mut Random::new(1)).matrix;
    let panics =
        |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
    let pool = Pool::new(1).unwrap();
    let product = |x: usize, n: usize, out: usize| {
        let x = vec![0.0; x];
        panics(&|| multiply(Level::best(), &pool, &matrix(), &x, n, &mut vec![0.0; out]))
    };
    assert!(!product(10, 2, 6));
    assert!(!product(0, 0, 0));
    assert!(product(9, 2, 6) && product(10, 2, 5) && product(10, 3, 6) && product(10, 0, 0));
    let permute = |order: &'static [usize]| panics(&|| matrix().permute_rows(order));
    assert!(!permute(&[2, 0, 1]));
    assert!(permute(&[0, 1]) && permute(&[0, 1, 1]) && permute(&[0, 1, 3]));
    assert!(panics(&|| {
        let mut stack = Matrix::stacked(vec![matrix(), matrix()]).unwrap();
        stack.permute_rows(&[0, 1, 2, 3, 4, 5]);
    }));
    assert!(panics(&|| matrix().row(3, &mut [0.0; 5])));
    assert!(panics(&|| matrix().row(2, &mut [0.0; 4])));
}
