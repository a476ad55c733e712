//! The index of candidates: in which namespaces RBAC lets a user list fluxsummaries, by the bindings and roles of the
//! cluster, and whom recent changes concern.
//!
//! It grants nothing. It tells which questions to ask of the authorizer, and when to ask them again.
//!
//! **Invariant:** it follows RBAC's own rules to the letter: a namespace that it leaves out is not asked about. What it
//! does not understand (a role that is missing, a subject of an unknown kind) grants nothing there either. What another
//! authorizer allows has no index; a RoleBinding with a label says whom to ask about, whatever its role grants.
//!
//! **Invariant:** a change counts for everyone whom its binding names, before or after it. Bindings of roles without
//! this right are no changes: in most clusters these are nearly all.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use gatehouse_apiservice::UserInfo;
use gatehouse_inventory::Str;

use super::counts::Counts;

/// How long changes are remembered: as long as the logs of the views remember theirs.
const MAX_AGE: Duration = Duration::from_mins(10);
/// The most changes that are remembered: some megabytes.
const MAX_CHANGES: usize = 50_000;

/// Whom a binding names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A user, service accounts included.
    User(Str),
    /// A group.
    Group(Str),
}

/// Namespace and name; without a namespace for ClusterRoles and ClusterRoleBindings.
pub(super) type Key = (Str, Str);

/// A RoleBinding or ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    /// The role; without a namespace for a ClusterRole.
    pub(super) role: Key,
    pub(super) subjects: Arc<[Subject]>,
    /// Whether the authorizer is asked about its subjects in its namespace even if the role does not grant the right.
    pub(super) is_asked: bool,
}

/// The kinds that are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Roles,
    ClusterRoles,
    RoleBindings,
    ClusterRoleBindings,
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::Roles, Self::ClusterRoles, Self::RoleBindings, Self::ClusterRoleBindings];
}

/// What a user may see by RBAC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    /// Everything, by a ClusterRoleBinding.
    pub(super) everything: bool,
    /// These namespaces, by RoleBindings.
    pub(super) namespaces: BTreeSet<Str>,
    /// The authorizer is to be asked about these namespaces, too.
    pub(super) asked: BTreeSet<Str>,
}

impl Candidates {
    /// How many namespaces there are, at most.
    pub(super) fn len(&self) -> usize {
        self.namespaces.len() + self.asked.len()
    }
}

/// A change that concerns somebody.
#[derive(Debug)]
struct Change {
    number: u64,
    at: Duration,
    /// Empty for a ClusterRoleBinding.
    namespace: Str,
    subjects: Arc<[Subject]>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rbac {
    bindings: HashMap<Key, (Binding, u32)>,
    /// Whether each role grants the right.
    roles: HashMap<Key, (bool, u32)>,
    of_role: HashMap<Key, HashSet<Key>>,
    /// Bindings that grant the right.
    granted: Counts,
    /// Bindings whose subjects are to be asked about.
    asked: Counts,
    changes: VecDeque<Change>,
    /// The number of the last change.
    last: u64,
    /// The number of the last change that was forgotten.
    forgotten: u64,
    /// All changes since then were observed one by one, and are remembered.
    since: Duration,
    /// How often each kind was listed, for what a list no longer contains.
    passes: [u32; Kind::ALL.len()],
    listed: [bool; Kind::ALL.len()],
}

impl Rbac {
    /// All objects of a kind will follow.
    pub(super) fn restart(&mut self, kind: Kind) {
        self.passes[kind as usize] += 1;
    }

    /// All objects of a kind have been applied since the restart. In between there may have been others.
    pub(super) fn synced(&mut self, kind: Kind, now: Duration) {
        let pass = self.passes[kind as usize];
        let is_of = |(namespace, _): &Key| namespace.is_empty() == is_cluster_wide(kind);
        let gone: Vec<Key> = match kind {
            Kind::Roles | Kind::ClusterRoles => {
                let old = self.roles.iter().filter(|(key, (_, of))| is_of(key) && *of != pass);
                old.map(|(key, _)| key.clone()).collect()
            }
            Kind::RoleBindings | Kind::ClusterRoleBindings => {
                let old = self.bindings.iter().filter(|(key, (_, of))| is_of(key) && *of != pass);
                old.map(|(key, _)| key.clone()).collect()
            }
        };
        for key in gone {
            match kind {
                Kind::Roles | Kind::ClusterRoles => self.role(&key, None, now),
                Kind::RoleBindings | Kind::ClusterRoleBindings => self.binding(&key, None, now),
            }
        }
        self.listed[kind as usize] = true;
        self.since = now;
    }

    /// Whether all kinds have been listed.
    pub(super) fn is_complete(&self) -> bool {
        self.listed.iter().all(|listed| *listed)
    }

    /// A role exists and grants the right or not, or does not exist.
    pub(super) fn role(&mut self, key: &Key, grants: Option<bool>, now: Duration) {
        let pass = self.passes[if key.0.is_empty() { Kind::ClusterRoles } else { Kind::Roles } as usize];
        let before = match grants {
            Some(grants) => self.roles.insert(key.clone(), (grants, pass)),
            None => self.roles.remove(key),
        };
        let [before, after] = [before.is_some_and(|(grants, _)| grants), grants.unwrap_or_default()];
        if before == after {
            return;
        }
        let bindings: Vec<Key> = self.of_role.get(key).into_iter().flatten().cloned().collect();
        for binding in bindings {
            let Some((Binding { subjects, .. }, _)) = self.bindings.get(&binding) else { continue };
            let subjects = Arc::clone(subjects);
            self.granted.count(&binding.0, &subjects, after);
            self.change(binding.0, subjects, now);
        }
    }

    /// A binding exists, or does not.
    pub(super) fn binding(&mut self, key: &Key, binding: Option<Binding>, now: Duration) {
        let kind = if key.0.is_empty() { Kind::ClusterRoleBindings } else { Kind::RoleBindings };
        let pass = self.passes[kind as usize];
        let before = match binding.clone() {
            Some(binding) => self.bindings.insert(key.clone(), (binding, pass)),
            None => self.bindings.remove(key),
        };
        let before = before.map(|(binding, _)| binding);
        if before == binding {
            return;
        }
        if let Some(before) = before {
            self.forget_use(&before.role, key);
            self.apply(&key.0, before, false, now);
        }
        if let Some(after) = binding {
            self.of_role.entry(after.role.clone()).or_default().insert(key.clone());
            self.apply(&key.0, after, true, now);
        }
    }

    /// Counts a binding, or counts it no longer.
    fn apply(&mut self, namespace: &Str, binding: Binding, more: bool, now: Duration) {
        let (grants, is_asked) = (self.grants(&binding.role), binding.is_asked);
        if grants {
            self.granted.count(namespace, &binding.subjects, more);
        }
        if is_asked {
            self.asked.count(namespace, &binding.subjects, more);
        }
        if grants || is_asked {
            self.change(namespace.clone(), binding.subjects, now);
        }
    }

    fn forget_use(&mut self, role: &Key, binding: &Key) {
        if let Some(bindings) = self.of_role.get_mut(role) {
            bindings.remove(binding);
            if bindings.is_empty() {
                self.of_role.remove(role);
            }
        }
    }

    fn grants(&self, role: &Key) -> bool {
        self.roles.get(role).is_some_and(|(grants, _)| *grants)
    }

    fn change(&mut self, namespace: Str, subjects: Arc<[Subject]>, now: Duration) {
        self.last += 1;
        self.changes.push_back(Change { number: self.last, at: now, namespace, subjects });
        let oldest = now.saturating_sub(MAX_AGE);
        while let Some(first) = self.changes.front()
            && (first.at < oldest || self.changes.len() > MAX_CHANGES)
        {
            (self.forgotten, self.since) = (first.number, self.since.max(first.at));
            self.changes.pop_front();
        }
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Where somebody may have the right.
    pub(super) fn candidates(&self, who: &[Subject]) -> Candidates {
        let mut candidates = Candidates::default();
        for namespace in self.granted.of(who) {
            if namespace.is_empty() {
                candidates.everything = true;
            } else {
                candidates.namespaces.insert(namespace.clone());
            }
        }
        candidates.asked = self.asked.of(who).cloned().collect();
        candidates
    }

    /// The namespaces, empty for the whole cluster, in which changes after `number` concern somebody. `None` if some of
    /// these changes are no longer known.
    pub(super) fn changed(&self, who: &[Subject], number: u64) -> Option<HashSet<Str>> {
        if number < self.forgotten {
            return None;
        }
        let first = self.changes.partition_point(|change| change.number <= number);
        let concerns = self.changes.range(first..).filter(|change| change.concerns(who));
        Some(concerns.map(|change| change.namespace.clone()).collect())
    }

    /// Whether it is certain that nothing after `time` concerns somebody.
    pub(super) fn is_quiet(&self, who: &[Subject], time: Duration) -> bool {
        let mut recent = self.changes.iter().rev().take_while(|change| change.at > time);
        self.is_complete() && self.since <= time && !recent.any(|change| change.concerns(who))
    }
}

impl Change {
    fn concerns(&self, who: &[Subject]) -> bool {
        self.subjects.iter().any(|subject| who.contains(subject))
    }
}

fn is_cluster_wide(kind: Kind) -> bool {
    matches!(kind, Kind::ClusterRoles | Kind::ClusterRoleBindings)
}

/// How bindings may name a user.
pub(super) fn subjects_of(user: &UserInfo) -> Box<[Subject]> {
    let groups = user.groups.iter().map(|group| Subject::Group(group.as_str().into()));
    std::iter::once(Subject::User(user.name.as_str().into())).chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.into(), name.into())
    }

    fn user(name: &str) -> Subject {
        Subject::User(name.into())
    }

    fn binding(role: Key, subjects: &[Subject]) -> Binding {
        Binding { role, subjects: subjects.into(), is_asked: false }
    }

    fn complete() -> Rbac {
        let mut rbac = Rbac::default();
        for kind in Kind::ALL {
            rbac.restart(kind);
            rbac.synced(kind, at(0));
        }
        rbac
    }

    fn namespaces(rbac: &Rbac, who: &str) -> Vec<String> {
        let found = rbac.candidates(&[user(who), Subject::Group("all".into())]);
        found.namespaces.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_binding_of_a_missing_role_grants_once_the_role_exists() {
        let mut rbac = complete();
        rbac.binding(&key("a", "b"), Some(binding(key("", "view"), &[user("jane")])), at(1));
        assert_eq!((namespaces(&rbac, "jane"), rbac.last()), (vec![], 0), "nobody has to ask again");
        rbac.role(&key("", "view"), Some(true), at(2));
        assert_eq!(namespaces(&rbac, "jane"), ["a"]);
        assert_eq!(rbac.changed(&[user("jane")], 0), Some(HashSet::from(["a".into()])));
        assert_eq!(rbac.changed(&[user("joe")], 0), Some(HashSet::new()));
        rbac.role(&key("", "view"), Some(false), at(3));
        assert_eq!(namespaces(&rbac, "jane"), Vec::<String>::new());
        assert!(rbac.granted.is_empty());
    }

    #[test]
    fn who_is_to_be_asked_about_is_a_candidate_whatever_the_role_grants() {
        let mut rbac = complete();
        let asked = Binding { is_asked: true, ..binding(key("", "none"), &[user("jane")]) };
        rbac.binding(&key("a", "b"), Some(asked.clone()), at(1));
        let candidates = rbac.candidates(&[user("jane")]);
        assert_eq!(candidates.asked, BTreeSet::from(["a".into()]));
        assert!(candidates.namespaces.is_empty(), "RBAC grants nothing");
        assert_eq!(rbac.changed(&[user("jane")], 0), Some(HashSet::from(["a".into()])));
        rbac.binding(&key("a", "b"), Some(Binding { is_asked: false, ..asked }), at(2));
        assert_eq!(rbac.candidates(&[user("jane")]), Candidates::default());
        assert!(rbac.asked.is_empty() && rbac.last() == 2);
    }

    #[test]
    fn two_bindings_count_once_each() {
        let mut rbac = complete();
        rbac.role(&key("a", "r"), Some(true), at(1));
        let group = Subject::Group("all".into());
        rbac.binding(&key("a", "one"), Some(binding(key("a", "r"), &[user("jane")])), at(1));
        rbac.binding(&key("a", "two"), Some(binding(key("a", "r"), &[group])), at(1));
        rbac.binding(&key("a", "one"), None, at(2));
        assert_eq!(namespaces(&rbac, "jane"), ["a"]);
        rbac.binding(&key("a", "two"), None, at(2));
        assert!(namespaces(&rbac, "jane").is_empty() && rbac.of_role.is_empty());
    }

    #[test]
    fn what_a_list_no_longer_contains_is_gone() {
        let mut rbac = complete();
        rbac.role(&key("", "view"), Some(true), at(1));
        for namespace in ["a", "b"] {
            let bound = binding(key("", "view"), &[user("jane")]);
            rbac.binding(&key(namespace, "x"), Some(bound), at(1));
        }
        rbac.restart(Kind::RoleBindings);
        rbac.binding(&key("b", "x"), Some(binding(key("", "view"), &[user("jane")])), at(5));
        rbac.synced(Kind::RoleBindings, at(5));
        assert_eq!(namespaces(&rbac, "jane"), ["b"]);
        assert!(!rbac.is_quiet(&[user("joe")], at(4)), "there may have been others before the list");
        assert!(rbac.is_quiet(&[user("joe")], at(5)));
    }

    #[test]
    fn quiet_is_who_had_no_change() {
        let mut rbac = complete();
        rbac.role(&key("", "view"), Some(true), at(1));
        rbac.binding(&key("", "x"), Some(binding(key("", "view"), &[user("jane")])), at(9));
        assert!(rbac.candidates(&[user("jane")]).everything);
        assert!(!rbac.is_quiet(&[user("jane")], at(8)) && rbac.is_quiet(&[user("jane")], at(9)));
        assert!(rbac.is_quiet(&[user("joe")], at(8)));
        rbac.binding(&key("", "x"), Some(binding(key("", "none"), &[user("jane")])), at(20));
        assert!(!rbac.is_quiet(&[user("jane")], at(19)), "taken away with another role");
    }

    #[test]
    fn forgotten_changes_are_known_to_be() {
        let mut rbac = complete();
        rbac.role(&key("", "view"), Some(true), at(0));
        for n in 0..3 {
            let bound = binding(key("", "view"), &[user(&format!("u{n}"))]);
            rbac.binding(&key("a", "x"), Some(bound), at(1 + n * 500));
        }
        assert_eq!(rbac.changed(&[user("u0")], 0), None);
        assert!(!rbac.is_quiet(&[user("joe")], Duration::ZERO));
    }
}
