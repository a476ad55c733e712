//! Compiles names and globs, such as `flux-*`.

use globset::{GlobBuilder, GlobMatcher};

/// Globs; a name matches if any of them matches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Vec<GlobMatcher>);

impl Names {
    /// Compiles `patterns`; calls `refuse` with the index of each invalid one.
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

    /// Compiles one pattern.
    pub(crate) fn read(pattern: &str) -> Result<GlobMatcher, String> {
        if pattern.is_empty() {
            return Err("must not be empty".into());
        }
        compile(pattern)
    }

    /// From compiled patterns.
    pub(crate) fn of(names: Vec<GlobMatcher>) -> Self {
        Self(names)
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(name))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns as text for messages.
    pub(crate) fn show(&self) -> String {
        self.0.iter().map(|glob| glob.glob().glob()).collect::<Vec<_>>().join(", ")
    }
}

/// Compiles a glob in which `*` does not match `/`.
pub(crate) fn compile(pattern: &str) -> Result<GlobMatcher, String> {
    built(pattern, false)
}

/// The same, ignoring case.
pub(crate) fn compile_caseless(pattern: &str) -> Result<GlobMatcher, String> {
    built(pattern, true)
}

fn built(pattern: &str, is_caseless: bool) -> Result<GlobMatcher, String> {
    // globset compiles to a regular expression; a length limit keeps it small.
    const LONGEST: usize = 1024;
    if pattern.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let mut glob = GlobBuilder::new(pattern);
    let glob = glob.literal_separator(true).backslash_escape(true).case_insensitive(is_caseless).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("not a glob: {}", error.kind()))
}
