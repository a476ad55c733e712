//! Quantities against Kubernetes' own facts.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_is_written_is_worth_so_many_thousandths() {
    for (text, milli) in [
        ("0", 0),
        ("-0", 0),
        ("0Ei", 0),
        ("0e999999999999999999999", 0),
        ("1", 1000),
        ("+1", 1000),
        ("-1", -1000),
        ("1.", 1000),
        (".5", 500),
        ("007", 7000),
        ("100m", 100),
        ("1u", 1),
        ("1n", 1),
        ("-1n", -1),
        ("1001u", 2),
        ("1k", 1_000_000),
        ("1M", 1_000_000_000),
        ("1E", 1_000_000_000_000_000_000_000),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("1e+3", 1_000_000),
        ("12e-1", 1200),
        ("1e-400", 1),
        ("0.00000000000000000000000000000000000000000000000000000000001", 1),
        ("1.00000000000000000000000000000000000000000000000000000000001", 1001),
        ("1Ki", 1_024_000),
        ("0.5Ki", 512_000),
        ("1.5Gi", 1_610_612_736_000),
        ("0.1Ki", 102_400),
        ("0.0001Ki", 103),
        ("1Ei", 1_152_921_504_606_846_976_000),
        ("9223372036854775807", 9_223_372_036_854_775_807_000),
    ] {
        assert_eq!(parse(text).milli(), milli, "{text}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    use QuantityError::{Malformed, Overflow, Suffix};
    for (text, error) in [
        ("", Malformed),
        ("-", Malformed),
        (".", Malformed),
        ("Mi", Malformed),
        ("aoeu", Malformed),
        (".5i", Suffix),
        ("1i", Suffix),
        ("1K", Suffix),
        ("1mi", Suffix),
        ("0.1am", Suffix),
        ("1.1.M", Suffix),
        ("1+1.0M", Suffix),
        ("-3.01i", Suffix),
        ("-3.01e-", Suffix),
        ("1e", Suffix),
        ("1e1.5", Suffix),
        ("1e1Gi", Suffix),
        (" 1", Malformed),
        ("1 ", Suffix),
        ("1,5", Suffix),
        ("٣", Malformed),
        ("--1", Malformed),
        ("0x10", Suffix),
        ("NaN", Malformed),
        ("1e40", Overflow),
        ("1e99999999999999999999", Overflow),
        ("999999999999999999999999999999Ei", Overflow),
    ] {
        assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
    }
}

#[test]
fn it_is_written_as_kubernetes_writes_it() {
    for (text, canonical) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1000000k", "1G"),
        ("2048Mi", "2Gi"),
        ("1024Gi", "1Ti"),
        ("1.5Gi", "1536Mi"),
        ("1025Ki", "1025Ki"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),
        ("1.5Ki", "1536"),
        ("0.0005Ki", "512m"),
        ("100Ki", "100Ki"),
        ("1000Ki", "1000Ki"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("100e3", "100e3"),
        ("10000e3", "10e6"),
        ("1e-3", "1e-3"),
        ("1E1", "10"),
        ("-2048Mi", "-2Gi"),
        ("1000E", "1000E"),
        ("2000000", "2M"),
        ("0.1Ki", "102400m"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn a_sum_is_written_as_its_first_part_that_is_something() {
    let sum = |a: &str, b: &str| parse(a).checked_add(parse(b)).map(|sum| sum.to_string());
    assert_eq!(sum("1Gi", "1024Mi").as_deref(), Some("2Gi"));
    assert_eq!(sum("0", "1Gi").as_deref(), Some("1Gi"));
    assert_eq!(sum("1Gi", "1G").as_deref(), Some("2073741824"));
    assert_eq!(sum("250m", "750m").as_deref(), Some("1"));
}

#[test]
fn arithmetic_ends_where_the_range_does() {
    let most = Quantity::from_milli(i128::MAX);
    assert_eq!(most.checked_add(Quantity::from_milli(1)), None);
    assert_eq!(Quantity::from_milli(i128::MIN).checked_sub(Quantity::from_milli(1)), None);
    assert_eq!(most.checked_mul(2), None);
    assert_eq!(parse("3").checked_mul(-2), Some(parse("-6")));
    assert_eq!(Quantity::MAX_KUBERNETES.to_string(), "9223372036854775807");
    assert_eq!(parse("9223372036854775807").integer(), Some(i64::MAX));
    assert_eq!(parse("9223372036854775808").integer(), None);
    assert_eq!(parse("0.5").integer(), None);
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(
        milli in prop_oneof![any::<i128>(), (-2_000_000_i128..2_000_000), any::<i64>().prop_map(i128::from)],
        zeros in 0_u32..12,
        format in prop_oneof![Just(Format::Decimal), Just(Format::Binary), Just(Format::Exponent)],
    ) {
        let milli = milli.checked_mul(1000_i128.pow(zeros / 2)).unwrap_or(milli);
        let quantity = Quantity::from_milli(milli).with_format(format);
        let read = parse(&quantity.to_string());
        prop_assert_eq!(read, quantity);
        // Once canonical, always canonical; only a number without suffix does not tell that it was meant as binary.
        if format != Format::Binary {
            prop_assert_eq!(read.to_string(), quantity.to_string());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-+]?[0-9]{0,45}(\\.[0-9]{0,45})?[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,24}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert_eq!(parse(&quantity.to_string()), quantity);
        }
    }

    /// Another reader of the same grammar comes to the same value, within what it can hold.
    #[test]
    fn another_reader_comes_to_the_same(
        number in "[0-9]{1,9}(\\.[0-9]{1,3})?",
        suffix in prop::sample::select(vec!["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]),
        other in "[0-9]{1,9}",
    ) {
        use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
        let text = format!("{number}{suffix}");
        let theirs = |text: &str| kube_quantity::ParsedQuantity::try_from(Wire(text.to_owned())).unwrap();
        let both = format!("{other}{suffix}");
        // Ours rounds up what is finer than a thousandth, so it may be equal where theirs is not.
        if suffix != "m" || !number.contains('.') {
            prop_assert_eq!(
                parse(&text).cmp(&parse(&both)),
                theirs(&text).partial_cmp(&theirs(&both)).unwrap()
            );
        }
        let sum = parse(&text).checked_add(parse(&both)).unwrap();
        let wire = Wire::from(theirs(&text) + theirs(&both)).0;
        // Theirs keeps what is finer than a thousandth; ours has rounded each part up.
        let apart = sum.milli() - parse(&wire).milli();
        prop_assert!((0..=2).contains(&apart), "{} + {}: {} and {}", text, both, sum, wire);
    }
}
