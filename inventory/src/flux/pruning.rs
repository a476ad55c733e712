//! Objects that a controller failed to delete, as its message names them: what was taken out of the source and is there
//! all the same.

use super::{NAME_BYTES, object::Status, wire::Text};
use crate::{Detail, FluxDetail, Interner, Record, Str, catalogue::clip};

/// An object that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its kind.
    pub kind: Str,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
}

/// What precedes the errors, one for each object, in the messages of Flux's and the operator's controllers
/// (`fluxcd/pkg/ssa`).
const FAILED: &str = "delete failed, errors: ";
/// What follows the object in each of them.
const ERRORS: [&str; 3] = [" delete failed: ", " query failed: ", " label selector failed: "];
/// The most objects that are kept.
const MOST: usize = 16;

/// What the condition Ready says could not be deleted.
pub(super) fn unpruned(status: &Status<'_>, interner: &Interner) -> Box<[Named]> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_.as_str() == "Ready");
    let message = ready.and_then(|ready| ready.message.as_ref()).map_or("", Text::as_str);
    let Some((_, errors)) = message.split_once(FAILED) else { return Box::default() };
    errors.split(';').filter_map(|error| named(error, interner)).take(MOST).collect()
}

/// The `Kind/namespace/name` at the beginning of an error.
fn named(error: &str, interner: &Interner) -> Option<Named> {
    let (object, _) = ERRORS.iter().find_map(|words| error.split_once(words))?;
    let mut parts: Vec<_> = object.trim().split('/').collect();
    if parts.len() == 2 {
        parts.insert(1, "");
    }
    let [kind, namespace, name] = parts[..] else { return None };
    let text = |text: &str| interner.intern(clip(text, NAME_BYTES));
    let is_object = !kind.is_empty() && !name.is_empty() && !object.trim().contains(' ');
    is_object.then(|| Named { kind: text(kind), namespace: text(namespace), name: text(name) })
}

impl FluxDetail {
    /// What its controller failed to delete.
    pub fn unpruned(&self) -> &[Named] {
        self.links.as_ref().map_or(&[], |links| &links.unpruned)
    }
}

impl Record {
    /// Keeps what could not be deleted while the next attempt is under way, as its verdict does with the message.
    pub(crate) fn remember_unpruned(&mut self, before: &Self) {
        let names_some = self.verdict.message.contains(FAILED);
        if let Detail::Flux(flux) = &mut self.detail
            && let Some(known) = before.flux().map(FluxDetail::unpruned).filter(|known| !known.is_empty())
            && names_some
            && flux.unpruned().is_empty()
        {
            flux.links.get_or_insert_default().unpruned = known.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_begins_with_its_object() {
        let interner = Interner::default();
        let read = |error: &str| {
            named(error, &interner)
                .map(|named| [named.kind, named.namespace, named.name].map(|part| part.to_string()))
        };
        let of = |parts: [&str; 3]| Some(parts.map(str::to_owned));
        let denied = "Deployment/apps/shop delete failed: admission webhook \"x\" denied the request: no";
        assert_eq!(read(denied), of(["Deployment", "apps", "shop"]));
        assert_eq!(read(" ClusterRole/ops query failed: timeout"), of(["ClusterRole", "", "ops"]));
        for other in [
            "",
            "it is late",
            "a/b/c/d delete failed: x",
            "the reason is a/b delete failed: x",
            "/x delete failed: y",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
