//! Names and globs, such as `flux-*`.

use globset::{GlobBuilder, GlobMatcher};

/// Names of which any is allowed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Vec<GlobMatcher>);

impl Names {
    /// Compiles `patterns`; each that is no glob is told to `refuse`, with its place.
    pub(crate) fn compile(patterns: &[String], mut refuse: impl FnMut(usize, &str, String)) -> Self {
        let mut names = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            match Self::read(pattern) {
                Ok(glob) => names.push(glob),
                Err(why) => refuse(index, pattern, why),
            }
        }
        Self(names)
    }

    /// Reads one.
    pub(crate) fn read(pattern: &str) -> Result<GlobMatcher, String> {
        if pattern.is_empty() {
            return Err("must not be empty".into());
        }
        compile(pattern)
    }

    /// Those that were read.
    pub(crate) fn of(names: Vec<GlobMatcher>) -> Self {
        Self(names)
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(name))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people.
    pub(crate) fn show(&self) -> String {
        self.0.iter().map(|glob| glob.glob().glob()).collect::<Vec<_>>().join(", ")
    }
}

/// Compiles a glob in which `*` stays within a segment.
pub(crate) fn compile(pattern: &str) -> Result<GlobMatcher, String> {
    built(pattern, false)
}

/// The same, and upper and lower case are one.
pub(crate) fn compile_caseless(pattern: &str) -> Result<GlobMatcher, String> {
    built(pattern, true)
}

fn built(pattern: &str, is_caseless: bool) -> Result<GlobMatcher, String> {
    // globset compiles to a regular expression: a short pattern keeps it small.
    const LONGEST: usize = 1024;
    if pattern.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let mut glob = GlobBuilder::new(pattern);
    let glob = glob.literal_separator(true).backslash_escape(true).case_insensitive(is_caseless).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("not a glob: {}", error.kind()))
}
