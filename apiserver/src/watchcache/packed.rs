//! Packed text: a row's JSON in which known phrases are replaced by one byte each, and what it repeats by four.
//!
//! Most of a rendered object are the names of its fields, and its cells repeat its fields. Packing saves two
//! thirds of the memory of the rows, and costs a list at most a fifth more CPU, since a row is written with a
//! few dozen copies instead of one. Two things change although the row's content does not: its version, and the
//! ages in Table cells. The packed text has placeholders for them.
//!
//! A packed text is a sequence of steps. A byte below [`PHRASE_LIMIT`] stands for that phrase. [`VERSION`],
//! [`AGE`] (eight bytes of seconds follow) and [`NO_AGE`] are placeholders. [`UID`] and [`TIME`] stand for what
//! takes more bytes as text. [`REPEAT`] copies bytes of the packed text itself, wherever these are. Any other
//! byte, less [`LITERAL`], plus one, is the number of literal bytes that follow.

use std::{io::Write as _, ops::Bound, sync::LazyLock};

use gatehouse_apiservice::{Time, age::Age};
use uuid::Uuid;

use super::instant;

/// Phrases that are common in rows, in any order. A phrase that no longer occurs does no harm but takes one
/// of the bytes below [`PHRASE_LIMIT`]; a row without any of these phrases only takes more memory. The test
/// `packing_halves_a_row` guards the most common ones.
const PHRASES: &[&str] = &[
    // metadata
    "\"metadata\":{\"name\":\"local.kustomization.",
    "\"metadata\":{\"name\":\"local.helmrelease.",
    "\"metadata\":{\"name\":\"local.",
    "\"metadata\":{\"name\":\"",
    "\",\"namespace\":\"",
    "\",\"uid\":\"",
    "\",\"resourceVersion\":\"",
    "\",\"creationTimestamp\":\"",
    "\",\"labels\":{\"gatehouse.dev/cluster\":\"local\",\"gatehouse.dev/tenant\":\"",
    "\",\"labels\":{\"gatehouse.dev/cluster\":\"local\"}}",
    "\"}},\"status\":{\"cluster\":\"local\",\"group\":\"",
    ",\"status\":{\"cluster\":\"local\",\"group\":\"",
    "\"}},\"status\":{\"cluster\":\"local\",\"kind\":\"Kustomization\",\"name\":\"",
    "\"}},\"status\":{\"cluster\":\"local\",\"kind\":\"",
    ",\"status\":{\"cluster\":\"local\",\"kind\":\"",
    // fluxresources
    "kustomize.toolkit.fluxcd.io\",\"kind\":\"Kustomization\",\"name\":\"",
    "helm.toolkit.fluxcd.io\",\"kind\":\"HelmRelease\",\"name\":\"",
    "source.toolkit.fluxcd.io\",\"kind\":\"",
    "notification.toolkit.fluxcd.io\",\"kind\":\"",
    "image.toolkit.fluxcd.io\",\"kind\":\"",
    "\",\"kind\":\"",
    "\",\"name\":\"",
    "\",\"state\":\"Ready\",\"suspended\":false,\"reason\":\"ReconciliationSucceeded\",\"message\":\"Applied revision: ",
    "\",\"state\":\"Ready\",\"suspended\":false,\"reason\":\"",
    "\",\"state\":\"Ready\",",
    "\",\"state\":\"",
    "\",\"lastOutcome\":\"",
    "\",\"suspended\":false,\"reason\":\"",
    "\",\"suspended\":true,\"",
    "\",\"reason\":\"",
    "\",\"message\":\"",
    "\",\"since\":\"",
    "\",\"revision\":\"",
    "\",\"source\":{\"kind\":\"GitRepository\",\"namespace\":\"",
    "\",\"source\":{\"kind\":\"",
    "\",\"name\":\"flux-system\"},",
    "\"blockedBy\":{\"reason\":\"",
    "\",\"path\":[",
    "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"lastTransitionTime\":\"",
    "\"conditions\":[{\"type\":\"Ready\",\"status\":\"",
    "\",\"lastTransitionTime\":\"",
    "\",\"reason\":\"Ready\",\"message\":\"\"},{\"type\":\"Fresh\",\"status\":\"True\",\"lastTransitionTime\":\"",
    "\",\"message\":\"\"},{\"type\":\"Fresh\",\"status\":\"True\",\"lastTransitionTime\":\"",
    "\"},{\"type\":\"Fresh\",\"status\":\"",
    "\",\"reason\":\"Observed\",\"message\":\"\"}]}",
    // fluxdependencies
    "\"dependsOn\":[{\"kind\":\"Kustomization\",\"namespace\":\"",
    "\"dependsOn\":[],\"dependents\":",
    "\"dependsOn\":[{\"kind\":\"",
    "\"},{\"kind\":\"Kustomization\",\"namespace\":\"",
    "\"},{\"kind\":\"",
    "\",\"state\":\"Ready\"}],\"dependents\":",
    "\"}],\"dependents\":",
    ",\"depth\":",
    ",\"cycle\":false,",
    ",\"cycle\":true,\"cyclePath\":[{\"kind\":\"",
    "\",\"reason\":\"DependenciesReady\",\"message\":\"\"},{\"type\":\"Fresh\",\"status\":\"True\",\"lastTransitionTime\":\"",
    // gameserversummaries
    ",\"status\":{\"cluster\":\"local\",\"fleets\":",
    ",\"desired\":",
    ",\"ready\":",
    ",\"allocated\":",
    ",\"reserved\":0,\"withdrawn\":0,\"unhealthy\":0,\"missing\":0,\"players\":",
    ",\"reserved\":0,\"withdrawn\":0,\"unhealthy\":0,\"missing\":0",
    ",\"reserved\":",
    ",\"withdrawn\":",
    ",\"unhealthy\":",
    ",\"missing\":",
    ",\"players\":",
    ",\"capacity\":",
    ",\"engines\":[{\"engine\":\"",
    "\",\"group\":\"",
    "\",\"total\":",
    ",\"failures\":[{\"kind\":\"",
    ",\"failuresOmitted\":",
    ",\"lastObservedTime\":\"",
    // fluxhistories
    "\",\"result\":\"Succeeded\",\"reason\":\"ReconciliationSucceeded\",\"first\":\"",
    "\",\"result\":\"Succeeded\",\"reason\":\"",
    "\",\"result\":\"Failed\",\"reason\":\"",
    "\",\"first\":\"",
    "\",\"last\":\"",
    "\",\"took\":\"",
    "\",\"times\":",
    ",\"current\":false,\"firstFailure\":false}",
    ",\"current\":true,\"firstFailure\":false}",
    // cells
    "\",\"Kustomization/",
    "\",\"Succeeded\",\"\",",
    "\",\"ReconciliationSucceeded\",\"False\",\"False\",\"local\"]",
    "\",\"ReconciliationSucceeded\",\"True\",\"False\",\"local\"]",
    "[\"local.kustomization.",
    "[\"local.helmrelease.",
    "[\"local.",
    "\",\"Kustomization\",\"",
    "\",\"HelmRelease\",\"",
    "\",\"Ready\",\"\",",
    "\",\"Ready\",\"",
    "\",\"False\",\"\",",
    ",\"Applied revision: ",
    "\",\"ReconciliationSucceeded\",\"\",\"",
    "\",\"\",\"local\"]",
    ",\"False\",",
    ",\"\",\"local\"]",
    "GitRepository/",
    "main@sha1:",
];

/// The bytes below this one stand for phrases.
const PHRASE_LIMIT: u8 = 0x7d;
/// The placeholder of an age without a time: an empty cell.
const NO_AGE: u8 = 0x7d;
/// The placeholder of an age; the time that it counts from follows in eight bytes of seconds, little-endian.
const AGE: u8 = 0x7e;
/// The placeholder of the row's version.
const VERSION: u8 = 0x7f;
/// A step of `n` literal bytes is `LITERAL + n - 1`.
const LITERAL: u8 = 0x80;
/// The longest literal of one step.
const LONGEST_LITERAL: usize = 125;
/// The step of bytes that are in the packed text before it: their offset in two bytes, little-endian, and their
/// number in one.
const REPEAT: u8 = 0xfd;
/// A shorter repetition saves nothing.
const SHORTEST_REPEAT: usize = 6;
/// The step of a uid, whose 16 bytes follow.
const UID: u8 = 0xfe;
/// The step of a time of this century; four bytes of seconds follow, little-endian.
const TIME: u8 = 0xff;

/// The phrases by their first byte. Each group is sorted longest first, because the longest phrase that fits
/// is taken.
static BY_FIRST_BYTE: LazyLock<[Vec<u8>; 256]> = LazyLock::new(|| {
    let mut groups = [const { Vec::new() }; 256];
    for (token, phrase) in (0..PHRASE_LIMIT).zip(PHRASES) {
        groups[usize::from(phrase.as_bytes()[0])].push(token);
    }
    for group in &mut groups {
        group.sort_by_key(|token| std::cmp::Reverse(phrase(*token).len()));
    }
    groups
});

fn phrase(token: u8) -> &'static [u8] {
    PHRASES[usize::from(token)].as_bytes()
}

/// Builds a packed text.
#[derive(Debug, Default)]
pub(super) struct Packer {
    packed: Vec<u8>,
    literals: Literals,
}

/// Where the packed text has literals of four bytes: the last place for each digest of them.
#[derive(Debug)]
struct Literals([u16; 512]);

impl Default for Literals {
    fn default() -> Self {
        Self([0; _])
    }
}

impl Literals {
    fn slot(four: [u8; 4]) -> usize {
        (u32::from_le_bytes(four).wrapping_mul(0x9e37_79b1) >> 23) as usize
    }

    /// Adds the literal that the packed text ends with, from the offset `start`.
    fn add(&mut self, packed: &[u8], start: usize) {
        for (at, four) in (start..).zip(packed[start..].array_windows()) {
            let Ok(at) = u16::try_from(at) else { return };
            self.0[Self::slot(*four)] = at;
        }
    }

    /// The offset of bytes that `text` begins with, and how many. Whatever is found there, it is the same bytes.
    fn find(&self, packed: &[u8], text: &[u8]) -> Option<(u16, u8)> {
        let offset = self.0[Self::slot(*text.first_chunk()?)];
        let known = packed[offset.into()..].iter().zip(text).take(u8::MAX.into());
        let length = known.take_while(|(known, new)| known == new).count();
        (length >= SHORTEST_REPEAT).then(|| (offset, u8::try_from(length).unwrap_or(u8::MAX)))
    }
}

impl Packer {
    /// Appends text, with its phrases, its times and what it repeats packed.
    pub(super) fn text(&mut self, text: &[u8]) {
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let rest = &text[at..];
            let mut candidates = BY_FIRST_BYTE[usize::from(rest[0])].iter();
            if let Some(token) = candidates.find(|token| rest.starts_with(phrase(**token))) {
                self.literal(&text[start..at]);
                self.packed.push(*token);
                at += phrase(*token).len();
            } else if let Some(seconds) = instant::read(rest) {
                self.literal(&text[start..at]);
                self.packed.push(TIME);
                self.packed.extend_from_slice(&seconds.to_le_bytes());
                at += instant::LENGTH;
            } else {
                at += 1;
                continue;
            }
            start = at;
        }
        self.literal(&text[start..]);
    }

    /// Appends text without phrases, with what it repeats packed.
    fn literal(&mut self, text: &[u8]) {
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let Some((offset, length)) = self.literals.find(&self.packed, &text[at..]) else {
                at += 1;
                continue;
            };
            self.new_literal(&text[start..at]);
            self.packed.push(REPEAT);
            self.packed.extend_from_slice(&offset.to_le_bytes());
            self.packed.push(length);
            at += usize::from(length);
            start = at;
        }
        self.new_literal(&text[start..]);
    }

    fn new_literal(&mut self, text: &[u8]) {
        for piece in text.chunks(LONGEST_LITERAL) {
            let less_one = u8::try_from(piece.len() - 1).expect("a piece has at most 125 bytes");
            self.packed.push(LITERAL + less_one);
            self.packed.extend_from_slice(piece);
            self.literals.add(&self.packed, self.packed.len() - piece.len());
        }
    }

    /// Appends a uid.
    pub(super) fn uid(&mut self, uid: Uuid) {
        self.packed.push(UID);
        self.packed.extend_from_slice(uid.as_bytes());
    }

    /// Appends the placeholder of the version's digits.
    pub(super) fn version(&mut self) {
        self.packed.push(VERSION);
    }

    /// Appends the placeholder of an age, which is written with its quotation marks.
    pub(super) fn age(&mut self, since: Option<Time>) {
        match since {
            None => self.packed.push(NO_AGE),
            Some(Time(seconds)) => {
                self.packed.push(AGE);
                self.packed.extend_from_slice(&seconds.to_le_bytes());
            }
        }
    }

    /// The bytes of the packed text so far.
    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    /// The packed text.
    pub(super) fn finish(self) -> Box<[u8]> {
        self.packed.into()
    }
}

/// Writes out a part of a text that a [`Packer`] made, with ages as of `now` in seconds since 1970.
pub(super) fn unpack(
    packed: &[u8],
    part: (Bound<usize>, Bound<usize>),
    version: u64,
    now: i64,
    out: &mut Vec<u8>,
) {
    let mut steps = &packed[part];
    while let Some((step, rest)) = steps.split_first() {
        steps = match *step {
            token @ ..PHRASE_LIMIT => {
                out.extend_from_slice(phrase(token));
                rest
            }
            NO_AGE => {
                out.extend_from_slice(b"\"\"");
                rest
            }
            AGE => {
                let (seconds, rest) = rest.split_first_chunk().expect("eight bytes follow");
                // Writing to memory cannot fail.
                let _ = write!(out, "\"{}\"", Age(now - i64::from_le_bytes(*seconds)));
                rest
            }
            VERSION => {
                let _ = write!(out, "{version}");
                rest
            }
            REPEAT => {
                let ([low, high, length], rest) = rest.split_first_chunk().expect("three bytes follow");
                let offset = usize::from(u16::from_le_bytes([*low, *high]));
                out.extend_from_slice(&packed[offset..offset + usize::from(*length)]);
                rest
            }
            UID => {
                let (bytes, rest) = rest.split_first_chunk().expect("sixteen bytes follow");
                let mut text = Uuid::encode_buffer();
                let text = Uuid::from_bytes(*bytes).hyphenated().encode_lower(&mut text);
                out.extend_from_slice(text.as_bytes());
                rest
            }
            TIME => {
                let (seconds, rest) = rest.split_first_chunk().expect("four bytes follow");
                instant::write(u32::from_le_bytes(*seconds), out);
                rest
            }
            literal => {
                let (text, rest) = rest.split_at(usize::from(literal - LITERAL) + 1);
                out.extend_from_slice(text);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: (Bound<usize>, Bound<usize>) = (Bound::Unbounded, Bound::Unbounded);

    fn packed(text: &[u8]) -> Box<[u8]> {
        let mut packer = Packer::default();
        packer.text(text);
        packer.finish()
    }

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        unpack(packed, ALL, 7, 0, &mut out);
        out
    }

    #[test]
    fn there_are_not_more_phrases_than_bytes_for_them_and_none_twice() {
        assert!(PHRASES.len() <= usize::from(PHRASE_LIMIT));
        let mut sorted = PHRASES.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), PHRASES.len());
        assert!(PHRASES.iter().all(|phrase| phrase.len() > 1), "a phrase must save something");
    }

    #[test]
    fn places_are_filled_in_when_it_is_written_out() {
        let mut packer = Packer::default();
        packer.text(b"[");
        packer.version();
        packer.text(b",");
        packer.age(Some(Time(100)));
        packer.text(b",");
        packer.age(None);
        packer.text(b"]");
        let mut out = Vec::new();
        unpack(&packer.finish(), ALL, 42, 130, &mut out);
        assert_eq!(out, b"[42,\"30s\",\"\"]");
    }

    #[test]
    fn uids_times_and_what_is_repeated_take_few_bytes() {
        let mut packer = Packer::default();
        packer.uid(Uuid::from_u128(7));
        let uid = packer.finish();
        assert_eq!((uid.len(), unpacked(&uid)), (17, Uuid::from_u128(7).to_string().into_bytes()));
        assert_eq!(packed(b"2026-02-28T22:00:01Z").len(), 5);
        let name = b"checkout-0001";
        let (once, twice) = (packed(name), packed(&[name, &b"\",\"kind\":\""[..], name].concat()));
        assert_eq!(twice.len() - once.len(), 1 + 4, "a phrase, and the repetition");
    }

    #[test]
    fn a_part_repeats_what_another_part_has() {
        let mut packer = Packer::default();
        packer.text(b"[checkout-0001]");
        let end = packer.len();
        packer.text(b"<checkout-0001>");
        let both = packer.finish();
        let mut out = Vec::new();
        unpack(&both, (Bound::Included(end), Bound::Unbounded), 7, 0, &mut out);
        assert_eq!(out, b"<checkout-0001>");
        assert!(both.len() - end < 10, "{both:?}");
    }

    proptest! {
        #[test]
        fn what_repeats_itself_comes_out_again(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "checkout", "check", "out-0001", "2026-02-28T22:00:00Z", "2026-02-30T22:00:00Z", "20", "ééé", "\u{7f}\u{1}",
            ]), 0..200)
        ) {
            let text = pieces.concat();
            prop_assert_eq!(unpacked(&packed(text.as_bytes())), text.as_bytes());
        }

        #[test]
        fn whatever_is_packed_comes_out_again(text in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(unpacked(&packed(&text)), text);
        }

        #[test]
        fn phrases_and_other_text_come_out_in_order(
            pieces in prop::collection::vec((0..PHRASES.len(), "[a-z\",:]{0,9}"), 0..20)
        ) {
            let text: String = pieces.iter().map(|(at, rest)| PHRASES[*at].to_owned() + rest).collect();
            prop_assert_eq!(unpacked(&packed(text.as_bytes())), text.as_bytes());
        }
    }
}
