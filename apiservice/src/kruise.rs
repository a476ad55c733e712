//! What is known of OpenKruiseGame by its name.

/// The API group.
pub const GROUP: &str = "game.kruise.io";

/// The label of a pod that names its GameServerSet. OpenKruiseGame writes it into every pod template, whatever the set
/// states, and finds pods by it.
pub const SET_LABEL: &str = "game.kruise.io/owner-gss";
