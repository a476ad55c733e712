//! What anybody may send, fed with anything at all. A target takes bytes, and panics where what must hold does not.
//!
//! `fuzz/run` has libFuzzer look for such bytes; the tests here replay the seeds, among them what was found once.

mod expression;
mod quantity;
mod review;
mod selector;

pub use expression::expression;
pub use quantity::quantity;
pub use review::review;
pub use selector::selector;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Every seed, and every prefix of it: texts that end too early are what parsers forget.
    fn replay(name: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut seeds = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let step = bytes.len().div_ceil(500).max(1);
            for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
                target(&bytes[..end]);
            }
            seeds += 1;
        }
        assert!(seeds > 3, "{seeds} seeds for {name}");
    }

    #[test]
    fn expressions_hold_on_every_seed() {
        replay("expression", expression);
    }

    #[test]
    fn quantities_hold_on_every_seed() {
        replay("quantity", quantity);
    }

    #[test]
    fn reviews_hold_on_every_seed() {
        replay("review", review);
    }

    #[test]
    fn selectors_hold_on_every_seed() {
        replay("selector", selector);
    }
}
