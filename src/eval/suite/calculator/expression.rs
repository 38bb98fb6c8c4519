//! What the calculator understands, and its value.

use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub, Signed, Zero};
use thiserror::Error;
use winnow::Result;
use winnow::ascii::digit1;
use winnow::combinator::{alt, cut_err, delimited, opt, preceded, repeat, terminated};
use winnow::error::{ContextError, ErrMode};
use winnow::prelude::*;
use winnow::token::take_till;

/// Bytes of the longest expression that is read.
pub const MAX_EXPRESSION: usize = 200;

/// Digits after the point of a value that has no finite decimal form.
const PLACES: usize = 10;

type Number = Ratio<i128>;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CalculatorError {
    /// Not of the grammar: names, powers, remainders, exponents, calls other than `.count`.
    #[error(
        "{0:?} is not arithmetic with + - * / // ( ) nor 'text'.count('part') or 'text'.lower().count('part')"
    )]
    Refused(String),
    /// A divisor is zero.
    #[error("{0:?} divides by zero")]
    DivisionByZero(String),
    /// A value needs more than 127 bits.
    #[error("{0:?} leaves the range of exact fractions of 127 bits")]
    Overflow(String),
    /// More than [`MAX_EXPRESSION`] bytes.
    #[error("the expression has {0} bytes; the calculator reads at most {MAX_EXPRESSION}")]
    TooLong(usize),
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Floor,
}

#[derive(Debug)]
enum Expression {
    Number(Number),
    Negative(Box<Expression>),
    Chain(Box<Expression>, Vec<(Operator, Expression)>),
}

enum Failure {
    Zero,
    Overflow,
}

/// The value of `expression` as text: a whole number, a decimal where it is finite, else rounded to 10 places.
///
/// Numbers may have commas for thousands (`1,234`) and a point; operators are `+ - * / //` and brackets, as in the
/// tool of nanochat (<https://github.com/karpathy/nanochat>), and `'strawberry'.count('r')`, after `.lower()` too.
/// The arithmetic is exact. All else is refused, above all names, powers and calls.
pub fn calculate(expression: &str) -> std::result::Result<String, CalculatorError> {
    if expression.len() > MAX_EXPRESSION {
        return Err(CalculatorError::TooLong(expression.len()));
    }
    let text = expression.trim();
    let parsed = delimited(spaces, alt((counted, sum)), spaces)
        .parse(text)
        .map_err(|_| CalculatorError::Refused(text.to_owned()))?;
    match value(&parsed) {
        Ok(number) => Ok(decimal(&number)),
        Err(Failure::Zero) => Err(CalculatorError::DivisionByZero(text.to_owned())),
        Err(Failure::Overflow) => Err(CalculatorError::Overflow(text.to_owned())),
    }
}

fn spaces(input: &mut &str) -> ModalResult<()> {
    repeat(0.., ' ').parse_next(input)
}

fn sum(input: &mut &str) -> ModalResult<Expression> {
    let operator = alt(('+'.value(Operator::Add), '-'.value(Operator::Subtract)));
    let (first, rest) = (
        product,
        repeat(0.., (delimited(spaces, operator, spaces), product)),
    )
        .parse_next(input)?;
    Ok(Expression::Chain(Box::new(first), rest))
}

fn product(input: &mut &str) -> ModalResult<Expression> {
    let operator = alt((
        "//".value(Operator::Floor),
        '/'.value(Operator::Divide),
        '*'.value(Operator::Multiply),
    ));
    let (first, rest) = (
        factor,
        repeat(0.., (delimited(spaces, operator, spaces), factor)),
    )
        .parse_next(input)?;
    Ok(Expression::Chain(Box::new(first), rest))
}

fn factor(input: &mut &str) -> ModalResult<Expression> {
    alt((
        preceded(('-', spaces), factor).map(|inner| Expression::Negative(Box::new(inner))),
        delimited(('(', spaces), sum, (spaces, ')')),
        number,
    ))
    .parse_next(input)
}

fn number(input: &mut &str) -> ModalResult<Expression> {
    let (whole, fraction) = (grouped, opt(preceded('.', cut_err(digit1)))).parse_next(input)?;
    let fraction: &str = fraction.unwrap_or_default();
    let read = || {
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Some(Number::new(digits, scale))
    };
    read()
        .map(Expression::Number)
        .ok_or_else(|| ErrMode::Cut(ContextError::new()))
}

/// Digits, where groups of three may be set off by commas.
fn grouped(input: &mut &str) -> ModalResult<String> {
    let mut digits = digit1.parse_next(input)?.to_owned();
    let group = preceded(',', digit1.verify(|group: &str| group.len() == 3));
    let groups: Vec<&str> = repeat(0.., group).parse_next(input)?;
    for group in groups {
        digits += group;
    }
    Ok(digits)
}

fn counted(input: &mut &str) -> ModalResult<Expression> {
    let (text, lower) =
        terminated((literal, opt(".lower()")), (".count(", spaces)).parse_next(input)?;
    let part = terminated(literal, (spaces, ')')).parse_next(input)?;
    let text = if lower.is_some() {
        text.to_lowercase()
    } else {
        text.to_owned()
    };
    // Python counts the places between characters for an empty part.
    let count = match part {
        "" => text.chars().count() + 1,
        _ => text.matches(part).count(),
    };
    Ok(Expression::Number(Number::from_integer(count as i128)))
}

/// Text in single or double quotes, without escapes.
fn literal<'i>(input: &mut &'i str) -> ModalResult<&'i str> {
    alt((
        delimited('\'', take_till(0.., ['\'', '\\', '\n']), '\''),
        delimited('"', take_till(0.., ['"', '\\', '\n']), '"'),
    ))
    .parse_next(input)
}

fn value(expression: &Expression) -> Result<Number, Failure> {
    match expression {
        Expression::Number(number) => Ok(*number),
        Expression::Negative(inner) => Number::zero()
            .checked_sub(&value(inner)?)
            .ok_or(Failure::Overflow),
        Expression::Chain(first, rest) => {
            let mut total = value(first)?;
            for (operator, operand) in rest {
                let operand = value(operand)?;
                let divides = matches!(operator, Operator::Divide | Operator::Floor);
                if divides && operand.is_zero() {
                    return Err(Failure::Zero);
                }
                total = match operator {
                    Operator::Add => total.checked_add(&operand),
                    Operator::Subtract => total.checked_sub(&operand),
                    Operator::Multiply => total.checked_mul(&operand),
                    Operator::Divide => total.checked_div(&operand),
                    Operator::Floor => total.checked_div(&operand).map(|exact| floor(&exact)),
                }
                .ok_or(Failure::Overflow)?;
            }
            Ok(total)
        }
    }
}

/// The largest whole number that is not above; `Ratio::floor` may overflow within.
fn floor(number: &Number) -> Number {
    Number::from_integer(number.numer().div_euclid(*number.denom()))
}

fn decimal(number: &Number) -> String {
    let (numerator, mut denominator) =
        (number.numer().unsigned_abs(), number.denom().unsigned_abs());
    let whole = numerator / denominator;
    let mut rest = numerator % denominator;
    let sign = if number.is_negative() { "-" } else { "" };
    let mut finite = finite(denominator);
    if denominator > u128::MAX / 10 {
        // A tenfold rest has to fit; four bits of more than a hundred do not reach the tenth place.
        (rest, denominator, finite) = (rest >> 4, denominator >> 4, false);
    }
    let mut digits = String::new();
    while rest != 0 && (finite || digits.len() < PLACES) {
        rest *= 10;
        digits += &(rest / denominator).to_string();
        rest %= denominator;
    }
    if rest >= denominator - rest {
        return rounded_up(sign, whole, &digits);
    }
    with_digits(sign, whole, &digits)
}

/// `whole.digits` with one more in the last place.
fn rounded_up(sign: &str, whole: u128, digits: &str) -> String {
    let mut raised = String::new();
    let mut carry = 1;
    for digit in digits.bytes().rev() {
        let sum = digit - b'0' + carry;
        carry = sum / 10;
        raised.insert(0, char::from(b'0' + sum % 10));
    }
    with_digits(sign, whole + u128::from(carry), &raised)
}

/// Without a point where nothing follows, and without a sign where nothing is left.
fn with_digits(sign: &str, whole: u128, digits: &str) -> String {
    let digits = digits.trim_end_matches('0');
    match (whole, digits) {
        (0, "") => "0".to_owned(),
        (_, "") => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{digits}"),
    }
}

fn finite(mut denominator: u128) -> bool {
    for factor in [2, 5] {
        while denominator.is_multiple_of(factor) {
            denominator /= factor;
        }
    }
    denominator == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn n8_calculator() {
        for (expression, value) in [
            ("12*7", "84"),
            ("1,234+1", "1235"),
            ("(3+4)*2", "14"),
            ("10/4", "2.5"),
            ("7//2", "3"),
            ("'strawberry'.count('r')", "3"),
            ("'Strawberry'.lower().count('r')", "3"),
        ] {
            assert_eq!(calculate(expression).as_deref(), Ok(value), "{expression}");
        }
        for expression in ["2**3", "5%2", "1e5", "'a'.upper()", "__import__('os')"] {
            assert_eq!(
                calculate(expression),
                Err(CalculatorError::Refused(expression.to_owned()))
            );
        }
        assert_eq!(
            calculate("1/0"),
            Err(CalculatorError::DivisionByZero("1/0".to_owned()))
        );
    }

    #[test]
    fn values_and_refusals() {
        for (expression, value) in [
            (" 1 + 2 ", "3"),
            ("-7//2", "-4"),
            ("0.1+0.2", "0.3"),
            ("1/3", "0.3333333333"),
            ("2/3", "0.6666666667"),
            ("-2/3", "-0.6666666667"),
            ("29999999999999/10000000000001", "3"),
            ("100000000000000000000*10", "1000000000000000000000"),
            ("1/1024", "0.0009765625"),
            ("-1/99999999999", "0"),
            (
                "12345678901234567890123456789/99999999999999999999999999999999999999",
                "0.0000000001",
            ),
            (
                "33333333333333333333333333333333333333/99999999999999999999999999999999999998",
                "0.3333333333",
            ),
            ("--3", "3"),
            ("-(1-2)", "1"),
            ("8-3-2", "3"),
            ("\"a'b'\".count(\"'\")", "2"),
            ("'ab'.count('')", "3"),
            ("1,234,567.5*2", "2469135"),
        ] {
            assert_eq!(calculate(expression).as_deref(), Ok(value), "{expression}");
        }
        for expression in [
            "",
            "1,23",
            "1.",
            "x",
            "1+",
            "(1",
            "1)",
            "'a",
            "'a'",
            "'\\n'.count('n')",
            "1 2",
            "+1",
            "1=1",
            "9999999999999999999999999999999999999999",
        ] {
            assert!(
                matches!(calculate(expression), Err(CalculatorError::Refused(_))),
                "{expression}"
            );
        }
        let large = "99999999999999999999*99999999999999999999";
        assert!(matches!(
            calculate(large),
            Err(CalculatorError::Overflow(_))
        ));
        assert_eq!(
            calculate(&"1".repeat(201)),
            Err(CalculatorError::TooLong(201))
        );
    }

    proptest! {
        #[test]
        fn as_whole_numbers(a in -10_000_i64..10_000, b in -10_000_i64..10_000, c in 1_i64..10_000) {
            prop_assert_eq!(calculate(&format!("{a}+{b}*{c}")).unwrap(), (a + b * c).to_string());
            prop_assert_eq!(calculate(&format!("({a}-{b})//{c}")).unwrap(), (a - b).div_euclid(c).to_string());
        }

        #[test]
        fn as_fractions(a in -10_000_i64..10_000, b in 1_i64..10_000) {
            let value: f64 = calculate(&format!("{a}/{b}")).unwrap().parse().unwrap();
            prop_assert!((value - a as f64 / b as f64).abs() < 1e-9);
        }

        #[test]
        fn any_text_ends(text in "[-+*/().,0-9'a-z ]{0,200}") {
            let _ = calculate(&text);
        }
    }
}
