//! Quantities, as objects and quotas have them.

use gatehouse_apiservice::quantity::Quantity;

/// One quantity a line. What parses is written so that it parses back to as much, in the same way; and the arithmetic
/// on two of them agrees with itself.
pub fn quantity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n').filter_map(|line| line.parse::<Quantity>().ok());
    let Some(one) = lines.next() else { return };
    written_and_read(one);
    let Some(other) = lines.next() else { return };
    if let Some(sum) = one.checked_add(other) {
        written_and_read(sum);
        assert_eq!(other.checked_add(one), Some(sum), "{one} + {other}");
        assert_eq!(sum.checked_sub(other), Some(one), "({one} + {other}) - {other}");
        assert_eq!(sum > one, other > Quantity::ZERO, "{one} + {other} = {sum}");
    }
    if let Some(times) = other.integer()
        && let Some(product) = one.checked_mul(times)
    {
        written_and_read(product);
        assert_eq!(product.milli(), one.milli() * i128::from(times), "{one} * {times}");
    }
}

fn written_and_read(quantity: Quantity) {
    let written = quantity.to_string();
    let read: Quantity = written.parse().unwrap_or_else(|error| panic!("{written:?} was written: {error}"));
    assert_eq!(read, quantity, "{written:?}");
    // Bytes that are no multiple of 1024 are written without a suffix, as Kubernetes does, and read as a decimal.
    if read.format() == quantity.format() {
        assert_eq!(read.to_string(), written, "the written form is canonical");
    }
}
