//! What can be wrong with a catalogue file, and with an object.

/// A catalogue file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file cannot be read.
    #[error("{file}: cannot be read")]
    Read {
        /// The file's path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a catalogue: not YAML, or without `kinds`.
    #[error("{file}: {message}")]
    File {
        /// The file's path.
        file: String,
        /// What is wrong, with the line where it is known.
        message: String,
    },
    /// One of its kinds is wrong.
    #[error("{file}: {kind}: {field}: {message}")]
    Kind {
        /// The file's path.
        file: String,
        /// The kind's name, or its place in the list where it has none.
        kind: String,
        /// The field, as a path within the kind.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

/// An object that cannot even be named.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Undecodable {
    /// What is wrong with it, and where.
    pub message: String,
}
