//! Quantities, exact: `500m`, `2Gi`, `1e3`, as `k8s.io/apimachinery/pkg/api/resource` reads and writes them.
//!
//! A quantity is a whole number of thousandths in 128 bits: no sum over a cluster comes near the end of that, and
//! what does is an error, never a wrong number. What is finer than a thousandth rounds away from zero, as Kubernetes'
//! `MilliValue` does, so that nothing that asks for something counts as nothing.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use thiserror::Error;

/// An amount of something. Two that say the same in different ways (`1000m`, `1`) are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    milli: i128,
    format: Format,
}

/// How a quantity is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `500m`, `1k`, `3G`.
    #[default]
    Decimal,
    /// `1Ki`, `3Gi`; what is not a whole number, or below 1024, is written as a decimal.
    Binary,
    /// `1e3`.
    Exponent,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// It does not follow the grammar.
    #[error("quantities must be a number with an optional suffix, such as 500m, 2 or 1.5Gi")]
    Malformed,
    /// The number is followed by something that is no suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// It is beyond what can be counted exactly.
    #[error("out of range")]
    Overflow,
}

impl Quantity {
    /// None.
    pub const ZERO: Self = Self { milli: 0, format: Format::Decimal };

    /// The most that Kubernetes can count: 2^63-1.
    pub const MAX_KUBERNETES: Self = Self::from_integer(i64::MAX);

    /// So many.
    pub const fn from_integer(value: i64) -> Self {
        // 2^63 thousandths-thousand stay far below 2^127.
        Self { milli: value as i128 * 1000, format: Format::Decimal }
    }

    /// So many thousandths.
    pub const fn from_milli(milli: i128) -> Self {
        Self { milli, format: Format::Decimal }
    }

    /// The same, to be written otherwise.
    #[must_use]
    pub const fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// In thousandths.
    pub const fn milli(self) -> i128 {
        self.milli
    }

    /// How it is written.
    pub const fn format(self) -> Format {
        self.format
    }

    /// The whole number it is; none if it is not whole, or too large.
    pub fn integer(self) -> Option<i64> {
        if self.is_integer() { i64::try_from(self.milli / 1000).ok() } else { None }
    }

    /// Whether it is a whole number.
    pub const fn is_integer(self) -> bool {
        self.milli % 1000 == 0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.milli == 0
    }

    /// Whether it is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.milli < 0
    }

    /// The sum, written as `self`; none beyond the range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let milli = self.milli.checked_add(other.milli)?;
        Some(Self { milli, format: self.format_with(other) })
    }

    /// The difference, written as `self`; none beyond the range.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let milli = self.milli.checked_sub(other.milli)?;
        Some(Self { milli, format: self.format_with(other) })
    }

    /// So many times as much; none beyond the range.
    pub fn checked_mul(self, times: i64) -> Option<Self> {
        Some(Self { milli: self.milli.checked_mul(i128::from(times))?, format: self.format })
    }

    /// Nothing has no format of its own.
    fn format_with(self, other: Self) -> Format {
        if self.is_zero() { other.format } else { self.format }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.milli.cmp(&other.milli)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.milli.hash(state);
    }
}

impl From<u32> for Quantity {
    fn from(value: u32) -> Self {
        Self::from_integer(value.into())
    }
}

/// What a suffix multiplies by: 2 or 10 to the power of something.
#[derive(Clone, Copy)]
enum Scale {
    Two(u32),
    Ten(i64),
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (milli, format) = parse(text, MILLI)?;
        // Less than one byte is no number of kibibytes.
        let is_less = format == Format::Binary && milli.unsigned_abs() < 1000;
        Ok(Self { milli, format: if is_less { Format::Decimal } else { format } })
    }
}

/// A quantity in thousand-millionths, the finest that Kubernetes keeps: what is finer rounds away from zero.
pub fn nanos(text: &str) -> Result<i128, QuantityError> {
    parse(text, NANO).map(|(nanos, _)| nanos)
}

/// Decimal places of thousandths.
const MILLI: u32 = 3;
/// Decimal places of thousand-millionths.
const NANO: u32 = 9;

/// A whole number of units of so many decimal places, and how it is written.
fn parse(text: &str, places: u32) -> Result<(i128, Format), QuantityError> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = unsigned.split_at(digits(unsigned));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(QuantityError::Malformed);
    }
    let (scale, format) = scale(suffix)?;
    let magnitude = match scale {
        Scale::Two(power) => binary(whole, fraction, power, places)?,
        Scale::Ten(power) => decimal(whole, fraction, power + i64::from(places))?,
    };
    Ok((if negative { -magnitude } else { magnitude }, format))
}

fn scale(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    let known = match suffix {
        "n" => (Scale::Ten(-9), Format::Decimal),
        "u" => (Scale::Ten(-6), Format::Decimal),
        "m" => (Scale::Ten(-3), Format::Decimal),
        "" => (Scale::Ten(0), Format::Decimal),
        "k" => (Scale::Ten(3), Format::Decimal),
        "M" => (Scale::Ten(6), Format::Decimal),
        "G" => (Scale::Ten(9), Format::Decimal),
        "T" => (Scale::Ten(12), Format::Decimal),
        "P" => (Scale::Ten(15), Format::Decimal),
        "E" => (Scale::Ten(18), Format::Decimal),
        "Ki" => (Scale::Two(10), Format::Binary),
        "Mi" => (Scale::Two(20), Format::Binary),
        "Gi" => (Scale::Two(30), Format::Binary),
        "Ti" => (Scale::Two(40), Format::Binary),
        "Pi" => (Scale::Two(50), Format::Binary),
        "Ei" => (Scale::Two(60), Format::Binary),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            (Scale::Ten(power_of_ten(exponent)?), Format::Exponent)
        }
    };
    Ok(known)
}

/// A signed number. What does not fit is cut to what is out of all range anyway.
fn power_of_ten(text: &str) -> Result<i64, QuantityError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::Suffix);
    }
    let limit = if text.starts_with('-') { i64::from(i32::MIN) } else { i64::from(i32::MAX) };
    Ok(text.parse::<i32>().map_or(limit, i64::from))
}

/// `whole.fraction × 10^power`, rounded up.
fn decimal(whole: &str, fraction: &str, power: i64) -> Result<i128, QuantityError> {
    let digits = || whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0'));
    // The digits are those of a whole number; this is how many of them, from the right, are less than one.
    let length = |text: &str| i64::try_from(text.len()).map_err(|_| QuantityError::Overflow);
    let beyond = length(fraction)? - power;
    let kept = length(whole)? + length(fraction)? - beyond.max(0);
    let mut units: i128 = 0;
    let mut more = false;
    for (position, digit) in digits().enumerate() {
        if i64::try_from(position).is_ok_and(|position| position < kept) {
            units = times_ten(units, 1)?.checked_add(digit).ok_or(QuantityError::Overflow)?;
        } else {
            more |= digit != 0;
        }
    }
    let units = times_ten(units, -beyond)?;
    units.checked_add(i128::from(more)).ok_or(QuantityError::Overflow)
}

fn times_ten(value: i128, power: i64) -> Result<i128, QuantityError> {
    if value == 0 || power <= 0 {
        return Ok(value);
    }
    let factor = u32::try_from(power).ok().and_then(|power| 10_i128.checked_pow(power));
    factor.and_then(|factor| value.checked_mul(factor)).ok_or(QuantityError::Overflow)
}

/// Units of so many decimal places of `whole.fraction × 2^power`, rounded up.
fn binary(whole: &str, fraction: &str, power: u32, places: u32) -> Result<i128, QuantityError> {
    // Less than 2^90: ten to the ninth, and two to the sixtieth.
    let factor = 10_i128.pow(places) << power;
    let whole = decimal(whole, "", 0)?;
    // Long multiplication of the fraction, its last digit first: what is carried over the point is whole.
    let mut carried = 0;
    let mut more = false;
    for digit in fraction.bytes().rev() {
        let product = i128::from(digit - b'0') * factor + carried;
        carried = product / 10;
        more |= product % 10 != 0;
    }
    let units = whole.checked_mul(factor).and_then(|units| units.checked_add(carried + i128::from(more)));
    units.ok_or(QuantityError::Overflow)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        // From thousandths upwards.
        const DECIMAL: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];
        if self.is_zero() {
            return f.write_str("0");
        }
        let whole = self.milli / 1000;
        if self.format == Format::Binary && self.is_integer() && whole.unsigned_abs() >= 1024 {
            let (number, power) = without_factors(whole, 1024, BINARY.len() - 1);
            return write!(f, "{number}{}", BINARY[power]);
        }
        let (number, thousands) = without_factors(self.milli, 1000, DECIMAL.len() - 1);
        match self.format {
            Format::Exponent if thousands == 1 => write!(f, "{number}"),
            Format::Exponent => {
                write!(f, "{number}e{}", 3 * i128::try_from(thousands).unwrap_or_default() - 3)
            }
            Format::Decimal | Format::Binary => write!(f, "{number}{}", DECIMAL[thousands]),
        }
    }
}

/// `value` as a number times `factor` to a power of `most` at most.
fn without_factors(mut value: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && value % factor == 0 {
        value /= factor;
        power += 1;
    }
    (value, power)
}

#[cfg(test)]
#[path = "quantity_tests.rs"]
mod tests;
