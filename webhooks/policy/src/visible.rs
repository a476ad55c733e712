//! Checks whether a text has a visible character.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};

/// Characters in the categories of symbols and letters that are drawn blank: the empty braille cell, the object
/// replacement character, the null notehead, and the blanks among the hieroglyphs.
const BLANKS: [char; 5] = ['\u{2800}', '\u{fffc}', '\u{1d159}', '\u{13441}', '\u{13442}'];

/// Whether a text has a letter, a digit, a punctuation mark or a symbol that is drawn. Spaces, control and format
/// characters, fillers, joiners, marks without a letter, and unassigned characters do not count.
pub(crate) fn is_not_blank(text: &str) -> bool {
    let drawn = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::Number)
        .union(GeneralCategoryGroup::Punctuation)
        .union(GeneralCategoryGroup::Symbol);
    let categories = CodePointMapData::<GeneralCategory>::new();
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    text.chars().any(|char| {
        drawn.contains(categories.get(char)) && !ignorable.contains(char) && !BLANKS.contains(&char)
    })
}

#[cfg(test)]
mod tests {
    use icu_properties::props::WhiteSpace;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_says_nothing() {
        for text in [
            "",
            " ",
            "\t\n",
            "\u{a0}",
            "\u{2003}",
            "\u{3000}",
            "\u{200b}",
            "\u{200c}\u{200d}",
            "\u{2060}",
            "\u{feff}",
            "\u{ad}",
            "\u{180e}",
            "\u{115f}",
            "\u{1160}",
            "\u{3164}",
            "\u{ffa0}",
            "\u{2800}",
            "\u{34f}",
            "\u{fe0f}",
            "\u{e0041}",
            "\u{202e}",
            "\u{7}",
            "\u{85}",
            "\u{301}",
            "\u{e000}",
            "\u{378}",
            "\u{1d159}",
            "\u{13441}",
            "\u{fffc}",
            " \u{200b}\u{2800}\u{3164} ",
        ] {
            assert!(!is_not_blank(text), "{text:?}");
        }
    }

    #[test]
    fn whatever_is_drawn_says_something() {
        for text in ["x", "7", "…", "🔥", "Ω", "原因", "إصلاح", "é", "\u{200b}a\u{200b}", "-"] {
            assert!(is_not_blank(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_unicode_ignores_or_takes_for_space_says_anything(char in any::<char>()) {
            let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
            let spaces = CodePointSetData::new::<WhiteSpace>();
            let is_nothing = ignorable.contains(char) || spaces.contains(char) || char.is_control();
            prop_assert!(!(is_nothing && is_not_blank(char.encode_utf8(&mut [0; 4]))));
        }
    }
}
