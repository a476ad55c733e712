//! Errors of catalogue files and of objects.

/// A catalogue file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file cannot be read.
    #[error("{file}: cannot be read")]
    Read {
        /// The file's path.
        file: String,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The file is not a catalogue: it is not YAML, or has no `kinds`.
    #[error("{file}: {message}")]
    File {
        /// The file's path.
        file: String,
        /// The error, with its line if known.
        message: String,
    },
    /// One of the kinds is invalid.
    #[error("{file}: {kind}: {field}: {message}")]
    Kind {
        /// The file's path.
        file: String,
        /// The name of the kind, or its index in the list if it has no name.
        kind: String,
        /// The field, as a path within the kind.
        field: String,
        /// The error.
        message: String,
    },
}

/// An object whose name cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Undecodable {
    /// The error and its position.
    pub message: String,
}
