//! How admission refuses, and how a refusal is recognized where a controller repeats it: both stand here, so that neither
//! changes without the other.
//!
//! kube-apiserver puts `admission webhook "NAME" denied the request: ` before what a webhook says, and a controller puts its
//! own words before that. A message may be cut anywhere: a name counts only if what follows it is there too.

use std::fmt::Display;

use crate::policy::GROUP;
use crate::registration::webhooks::{COUNTS, POLICIES, QUOTAS};

const WEBHOOK: &str = "admission webhook \"";
const DENIED: &str = "\" denied the request: ";
const FORBIDDEN: &str = " is forbidden: ";
const EXCEEDED: &str = "exceeded quota: ";
const REQUESTED: &str = ", requested: ";
const FAILED: &str = "failed quota: ";
const UNSTATED: &str = ": must specify ";
const BETWEEN_POLICIES: &str = "; ";

/// A message repeats one refusal, or some. Further ones are left out.
const MOST: usize = 8;

/// What refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenierKind {
    /// A TenantQuota.
    TenantQuota,
    /// A ReconcilePolicy.
    ReconcilePolicy,
}

/// The quota or policy that refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Denier<N> {
    /// Which of the two.
    pub kind: DenierKind,
    /// Its name.
    pub name: N,
}

impl DenierKind {
    /// As it is written in `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantQuota => "TenantQuota",
            Self::ReconcilePolicy => "ReconcilePolicy",
        }
    }
}

/// `exceeded quota: team-a, requested: gameservers=5, used: gameservers=78, limited: gameservers=80`, as ResourceQuota has
/// it.
pub fn exceeded(quota: &str, requested: impl Display, used: impl Display, limited: impl Display) -> String {
    format!("{EXCEEDED}{quota}{REQUESTED}{requested}, used: {used}, limited: {limited}")
}

/// `failed quota: team-a: must specify requests.cpu for: server`, as ResourceQuota has it.
pub fn unstated(quota: &str, what: &str) -> String {
    format!("{FAILED}{quota}{UNSTATED}{what}")
}

/// That an object is refused, in the words of kube-apiserver: `fleets.agones.dev "lobby" is forbidden: …`.
pub fn forbidden(resource: impl Display, name: &str, why: &str) -> String {
    format!("{resource} {name:?}{FORBIDDEN}{why}")
}

/// `reconcilepolicies.policy.gatehouse.dev "strict"`.
pub fn policy(name: &str) -> String {
    format!("{}{name}\"", before_policy())
}

/// `reconcilepolicies.policy.gatehouse.dev "strict" denied the request: …`, of each policy that does.
pub fn by_policies<'a>(refusals: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let sentences = refusals.into_iter().map(|(name, why)| format!("{}{name}{DENIED}{why}", before_policy()));
    sentences.collect::<Vec<_>>().join(BETWEEN_POLICIES)
}

/// The quotas and policies whose refusals a message repeats, each once, in order.
pub fn deniers(message: &str) -> Vec<Denier<&str>> {
    let mut found = Vec::new();
    let mut rest = message;
    while let Some((_, after)) = rest.split_once(WEBHOOK) {
        rest = after;
        let Some((webhook, said)) = after.split_once(DENIED) else { break };
        if ![POLICIES, QUOTAS, COUNTS].contains(&webhook) {
            continue;
        }
        let said = said.split_once(WEBHOOK).map_or(said, |(said, _)| said);
        for denier in quota(said).into_iter().chain(policies(said)) {
            if found.len() < MOST && !found.contains(&denier) {
                found.push(denier);
            }
        }
    }
    found
}

fn quota(said: &str) -> Option<Denier<&str>> {
    let (_, why) = said.split_once(FORBIDDEN)?;
    let exceeded = || Some(why.strip_prefix(EXCEEDED)?.split_once(REQUESTED)?.0);
    let unstated = || Some(why.strip_prefix(FAILED)?.split_once(UNSTATED)?.0);
    let name = exceeded().or_else(unstated)?;
    is_name(name).then_some(Denier { kind: DenierKind::TenantQuota, name })
}

fn policies(said: &str) -> impl Iterator<Item = Denier<&str>> {
    let before = before_policy();
    let next = format!("{BETWEEN_POLICIES}{before}");
    let mut rest = said.strip_prefix(&before);
    std::iter::from_fn(move || {
        let (name, why) = rest?.split_once(DENIED)?;
        rest = why.split_once(&next).map(|(_, after)| after);
        is_name(name).then_some(Denier { kind: DenierKind::ReconcilePolicy, name })
    })
}

fn before_policy() -> String {
    format!("reconcilepolicies.{GROUP} \"")
}

/// Whether an object may be called so: another text that looks like a refusal is none.
fn is_name(name: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver passes it on, and kustomize-controller.
    fn said_by(webhook: &str, said: &str) -> String {
        format!(
            "Kustomization/a/b dry-run failed (Forbidden): admission webhook \"{webhook}\" denied the request: {said}\n"
        )
    }

    fn found(message: &str) -> Vec<(DenierKind, &str)> {
        deniers(message).into_iter().map(|Denier { kind, name }| (kind, name)).collect()
    }

    #[test]
    fn each_refusal_is_recognized_as_it_is_made() {
        use DenierKind::{ReconcilePolicy, TenantQuota};
        let room = exceeded("team-a.eu", "players=5", "players=78", "players=80");
        let fleet = forbidden("fleets.agones.dev", "lobby", &room);
        assert_eq!(
            fleet,
            "fleets.agones.dev \"lobby\" is forbidden: exceeded quota: team-a.eu, requested: players=5, used: \
             players=78, limited: players=80"
        );
        assert_eq!(found(&said_by(QUOTAS, &fleet)), [(TenantQuota, "team-a.eu")]);
        assert_eq!(found(&said_by(COUNTS, &fleet)), [(TenantQuota, "team-a.eu")]);
        let stated = forbidden("fleets.agones.dev", "lobby", &unstated("team-b", "requests.cpu for: server"));
        assert_eq!(found(&said_by(QUOTAS, &stated)), [(TenantQuota, "team-b")]);
        let policies = by_policies([("strict", "a (rule interval)".to_owned()), ("lax", "b; c".to_owned())]);
        assert!(policies.starts_with(&policy("strict")), "{policies}");
        for webhook in [POLICIES, QUOTAS] {
            let expected = [(ReconcilePolicy, "strict"), (ReconcilePolicy, "lax")];
            assert_eq!(found(&said_by(webhook, &policies)), expected, "{webhook}");
        }
        let several =
            [said_by(QUOTAS, &fleet), said_by(POLICIES, &policies), said_by(QUOTAS, &fleet)].concat();
        let expected = [(TenantQuota, "team-a.eu"), (ReconcilePolicy, "strict"), (ReconcilePolicy, "lax")];
        assert_eq!(found(&several), expected, "Helm lists what failed");
    }

    #[test]
    fn what_is_cut_names_nobody_or_the_whole_name() {
        let room = forbidden("fleets.agones.dev", "lobby", &exceeded("team-a", "a=1", "a=2", "a=2"));
        let policies = by_policies([("strict", "a (rule interval)".to_owned())]);
        for message in [said_by(QUOTAS, &room), said_by(POLICIES, &policies)] {
            for end in 0..message.len() {
                let names = found(&message[..end]);
                assert!(
                    names.iter().all(|(_, name)| ["team-a", "strict"].contains(name)),
                    "{}",
                    &message[..end]
                );
            }
        }
    }

    #[test]
    fn other_refusals_and_texts_name_nobody() {
        let room = forbidden("fleets.agones.dev", "lobby", &exceeded("team-a", "a=1", "a=2", "a=2"));
        let foreign = said_by("quotas.example.com", &room);
        let odd = said_by(QUOTAS, &forbidden("fleets", "x", &exceeded("A quota", "a=1", "a=1", "a=1")));
        let busy = said_by(QUOTAS, "quota \"team-a\" could not be charged in time: try again");
        let resource_quota =
            "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
        for message in [&foreign, &odd, &busy, resource_quota, "", &room] {
            assert_eq!(found(message), [], "{message}");
        }
    }
}
