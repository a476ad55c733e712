//! What single rules of the ledger are for. That they hold together, the model shows.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use gatehouse_apiservice::policy::QuotaLedgerSpec;

use super::*;

mod wire;

fn fleets() -> GroupResource {
    GroupResource::new("agones.dev", "fleets")
}

fn namespaces() -> GroupResource {
    GroupResource::new("", "namespaces")
}

fn amounts(servers: i64) -> Amounts {
    [(Dimension::GameServers, Quantity::from_integer(servers))].into_iter().collect()
}

fn hard(servers: i64) -> BTreeMap<Dimension, Quantity> {
    [(Dimension::GameServers, Quantity::from_integer(servers))].into()
}

fn create(uid: &str, new: i64) -> Proposal {
    update(uid, None, 0, new)
}

fn update(uid: &str, at: impl Into<Option<u64>>, old: i64, new: i64) -> Proposal {
    Proposal {
        uid: uid.into(),
        resource: fleets(),
        namespace: "games".into(),
        name: "lobby".into(),
        user: "jane".into(),
        at: at.into(),
        old: amounts(old),
        new: amounts(new),
        forced: false,
    }
}

/// Objects by uid: revision and servers; and how far they were seen.
#[derive(Clone, Default)]
struct Shown {
    reached: u64,
    /// How far namespaces were seen, if that is another revision.
    namespaces: Option<u64>,
    objects: HashMap<&'static str, (u64, i64)>,
    elsewhere: HashSet<&'static str>,
    deleted: HashSet<&'static str>,
}

impl Shown {
    fn new(reached: u64, objects: &[(&'static str, u64, i64)]) -> Self {
        let objects = objects.iter().map(|(uid, revision, servers)| (*uid, (*revision, *servers)));
        Self { reached, objects: objects.collect(), ..Self::default() }
    }
}

impl Truth for Shown {
    fn used(&self) -> Amounts {
        let ours = self.objects.iter().filter(|(uid, _)| !self.elsewhere.contains(**uid));
        amounts(ours.map(|(_, (_, servers))| servers).sum())
    }

    fn reached(&self, resource: &GroupResource) -> Reached {
        Reached::To(self.namespaces.filter(|_| *resource == namespaces()).unwrap_or(self.reached))
    }

    fn seen(&self, _resource: &GroupResource, uid: &str) -> Option<Seen> {
        let (revision, _) = self.objects.get(uid)?;
        Some(Seen { revision: *revision, member_since: (!self.elsewhere.contains(uid)).then_some(1) })
    }

    fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }
}

/// A ledger with one replica's block.
struct Desk {
    ledger: Ledger,
    holder: Holder,
    hard: BTreeMap<Dimension, Quantity>,
    now: Duration,
}

impl Desk {
    fn new(limit: i64, shown: &Shown) -> Self {
        let mut desk = Self {
            ledger: Ledger::new("quota"),
            holder: Holder::new("one"),
            hard: hard(limit),
            now: Duration::from_secs(100),
        };
        assert_eq!(desk.settle(shown), Settled::Changed);
        desk
    }

    fn settle(&mut self, shown: &Shown) -> Settled {
        let resources = BTreeSet::from([fleets(), namespaces()]);
        let settled = self.ledger.settle(&self.hard, &resources, shown, &[], Counted::AsSeen);
        self.holder.account.follow(&self.ledger, shown);
        settled
    }

    /// Proposes, and writes the block if it has to grow.
    fn propose(&mut self, proposal: &Proposal) -> Outcome {
        let Self { ledger, holder, hard, now } = self;
        let own = Arc::clone(holder.name());
        let totals = Totals { ledger, own: &own, hard, denies: true };
        match holder.account.propose(proposal, totals, false) {
            Outcome::Beyond => {}
            outcome => return outcome,
        }
        let outcome = holder.account.propose(proposal, totals, true);
        if matches!(outcome, Outcome::Charged(_)) {
            let block = holder.send(&Amounts::default(), totals, *now);
            ledger.put(&own, Some(block));
            holder.landed();
        }
        outcome
    }

    /// What is counted, and what is admitted beyond.
    fn sums(&self) -> (String, String) {
        let used = self.ledger.used()[&Dimension::GameServers];
        (used.to_string(), self.holder.account.charge().get(&Dimension::GameServers).to_string())
    }

    fn is(&self, used: i64, charge: i64) -> bool {
        self.sums() == (used.to_string(), charge.to_string())
    }

    fn expire(&mut self, fate: Fate) {
        let expired: Vec<_> = self.holder.account.pending().map(|entry| Expired { entry, fate }).collect();
        self.holder.account.found(&expired);
    }
}

fn is_charged(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Charged(_))
}

#[test]
fn a_refusal_reads_as_that_of_resourcequota() {
    let mut desk = Desk::new(80, &Shown::new(1, &[("a", 1, 77)]));
    assert!(is_charged(&desk.propose(&create("b", 1))));
    let Outcome::Exceeded { exceeded, is_certain: true } = desk.propose(&create("c", 5)) else {
        panic!("refused")
    };
    assert_eq!(
        gatehouse_apiservice::denial::forbidden(fleets(), "lobby", &exceeded.message("team-a")),
        r#"fleets.agones.dev "lobby" is forbidden: exceeded quota: team-a, requested: gameservers=5, used: gameservers=78, limited: gameservers=80"#
    );
    assert!(desk.is(77, 1), "a refusal changes nothing");
}

#[test]
fn what_does_not_grow_is_admitted_beyond_the_limit() {
    let mut desk = Desk::new(2, &Shown::new(1, &[("a", 1, 5)]));
    assert_eq!(desk.propose(&update("a", 1, 5, 4)), Outcome::NoIncrease);
    assert_eq!(desk.propose(&update("a", 1, 5, 5)), Outcome::NoIncrease);
    assert!(matches!(desk.propose(&update("a", 1, 5, 6)), Outcome::Exceeded { .. }));
}

#[test]
fn one_of_several_updates_of_a_revision_is_written() {
    let mut desk = Desk::new(9, &Shown::new(5, &[("a", 5, 3)]));
    assert!(is_charged(&desk.propose(&update("a", 5, 3, 5))));
    assert!(is_charged(&desk.propose(&update("a", 5, 3, 8))));
    assert!(is_charged(&desk.propose(&update("a", 5, 3, 4))));
    assert!(desk.is(3, 5));
    assert!(is_charged(&desk.propose(&update("a", 6, 4, 5))));
    assert_eq!(desk.propose(&update("a", 5, 3, 9)), Outcome::Superseded);
    assert!(desk.is(3, 2), "what was admitted upon an older revision can no longer be written");
}

#[test]
fn what_was_admitted_is_charged_until_it_is_counted() {
    let mut desk = Desk::new(9, &Shown::new(1, &[]));
    desk.propose(&create("a", 3));
    // Seen ahead of the rest of its kind.
    desk.settle(&Shown::new(4, &[("a", 5, 3)]));
    assert!(desk.is(3, 3));
    desk.settle(&Shown::new(5, &[("a", 5, 3)]));
    assert!(desk.is(3, 0) && desk.holder.account.is_empty());
    // What is counted does not make the block free again.
    assert!(desk.holder.account.limit().is_empty());
}

/// Of an object that is changed again and again, what is counted is charged no more.
#[test]
fn an_update_that_was_written_is_charged_until_it_is_counted() {
    let mut desk = Desk::new(20, &Shown::new(5, &[("a", 5, 3)]));
    desk.propose(&update("a", 5, 3, 6));
    desk.propose(&update("a", 8, 6, 10));
    assert!(desk.is(3, 7));
    desk.settle(&Shown::new(9, &[("a", 8, 6)]));
    assert!(desk.is(6, 4));
    desk.settle(&Shown::new(12, &[("a", 11, 10)]));
    assert!(desk.is(10, 0) && desk.holder.account.is_empty());
}

#[test]
fn who_has_seen_less_than_was_counted_does_not_settle() {
    let mut desk = Desk::new(9, &Shown::new(5, &[("a", 5, 3)]));
    assert_eq!(desk.settle(&Shown::new(4, &[])), Settled::Behind(fleets()));
    assert!(desk.is(3, 0));
}

#[test]
fn what_came_to_nothing_makes_the_block_free_again() {
    let mut desk = Desk::new(9, &Shown::new(1, &[("a", 1, 3)]));
    desk.propose(&create("b", 3));
    desk.propose(&update("a", 1, 3, 5));
    let limit = desk.holder.account.limit().clone();
    let deleted = HashSet::from(["b"]);
    desk.settle(&Shown { deleted, ..Shown::new(6, &[]) });
    assert!(desk.is(0, 0) && desk.holder.account.is_empty());
    assert_eq!(*desk.holder.account.limit(), limit);
    desk.propose(&create("c", 2));
    desk.expire(Fate::Absent);
    // Admitted once more: younger than what was looked for.
    desk.propose(&create("c", 2));
    desk.settle(&Shown::new(6, &[]));
    assert!(desk.is(0, 2));
    desk.expire(Fate::Absent);
    desk.settle(&Shown::new(6, &[]));
    assert!(desk.is(0, 0));
}

#[test]
fn what_expired_is_kept_until_the_object_is_counted_as_it_is() {
    let shown = Shown::new(5, &[("a", 5, 2)]);
    let mut desk = Desk::new(9, &shown);
    desk.propose(&update("a", 5, 2, 6));
    desk.propose(&update("a", 6, 6, 7));
    desk.expire(Fate::Present(6));
    desk.settle(&shown);
    assert!(desk.is(2, 5), "6 are used");
    desk.settle(&Shown::new(6, &[("a", 6, 6)]));
    assert!(desk.is(6, 0) && desk.holder.account.is_empty());
}

#[test]
fn what_is_in_a_namespace_not_known_to_be_the_tenants_stays_charged() {
    let mut desk = Desk::new(9, &Shown::new(1, &[]));
    desk.propose(&create("a", 3));
    let shown = Shown { elsewhere: HashSet::from(["a"]), ..Shown::new(5, &[("a", 5, 3)]) };
    desk.settle(&shown);
    assert!(desk.is(0, 3));
    desk.expire(Fate::Present(5));
    // Namespaces were listed anew out of an old cache, and have come to be as far again later.
    desk.settle(&Shown { namespaces: Some(4), ..shown.clone() });
    assert!(desk.is(0, 3));
    desk.settle(&shown);
    assert!(desk.holder.account.is_empty());
}

#[test]
fn a_charge_is_taken_back_unless_others_rest_on_it() {
    let mut desk = Desk::new(9, &Shown::new(1, &[("b", 1, 2)]));
    let mut charged = |proposal: &Proposal| match desk.propose(proposal) {
        Outcome::Charged(charged) => charged.receipt,
        other => panic!("{other:?}"),
    };
    let alone = charged(&create("a", 3)).unwrap();
    let shared = charged(&update("b", 1, 2, 3)).unwrap();
    assert_eq!(charged(&update("b", 1, 2, 4)), None);
    assert!(desk.holder.account.withdraw(&create("a", 3), alone));
    assert!(!desk.holder.account.withdraw(&update("b", 1, 2, 3), shared));
    assert!(desk.is(2, 2));
}

#[test]
fn a_limit_that_is_new_is_waited_for() {
    let mut desk = Desk::new(9, &Shown::new(1, &[]));
    desk.hard.insert(Dimension::Players, Quantity::from_integer(1));
    let mut proposal = create("a", 1);
    proposal.new.set(Dimension::Players, Quantity::from_integer(1));
    assert_eq!(desk.propose(&proposal), Outcome::Untracked(Dimension::Players));
}

#[test]
fn what_is_forced_is_charged_and_makes_no_room_when_it_comes_to_nothing() {
    let mut desk = Desk::new(2, &Shown::new(1, &[]));
    let forced = Proposal { forced: true, ..create("a", 5) };
    let Outcome::Charged(Charged { exceeds: Some(exceeded), .. }) = desk.propose(&forced) else {
        panic!("charged, and said")
    };
    assert_eq!(exceeded.limited, hard(2));
    assert!(desk.is(0, 5));
    desk.expire(Fate::Absent);
    desk.settle(&Shown::new(1, &[]));
    assert_eq!(*desk.holder.account.limit(), amounts(2));
}

#[test]
fn a_ceiling_counts_in_place_of_what_the_fleet_takes_up() {
    let desk = Desk::new(10, &Shown::new(1, &[("a", 1, 3), ("b", 1, 4)]));
    let over = |ceiling, limit| {
        let hard = hard(limit);
        let totals = Totals { ledger: &desk.ledger, own: "own", hard: &hard, denies: true };
        desk.holder.account.over_ceiling(&amounts(ceiling), &amounts(3), totals)
    };
    assert_eq!(over(6, 10), None);
    assert_eq!(
        over(7, 10).unwrap().message("q"),
        "exceeded quota: q, requested: gameservers=4, used: gameservers=7, limited: gameservers=10"
    );
    assert_eq!(over(2, 1), None, "it does not grow");
}

#[test]
fn one_user_stands_in_nobody_elses_way() {
    let mut desk = Desk::new(1_000_000, &Shown::new(1, &[]));
    for index in 0..MAX_OF_USER {
        assert!(is_charged(&desk.propose(&create(&format!("u{index}"), 1))));
    }
    assert_eq!(desk.propose(&create("one more", 1)), Outcome::Full);
    let other =
        |index: usize| Proposal { user: format!("user-{index}").into(), ..create(&format!("o{index}"), 1) };
    for index in MAX_OF_USER..MAX_ENTRIES {
        assert!(is_charged(&desk.propose(&other(index))));
    }
    assert_eq!(desk.propose(&other(MAX_ENTRIES)), Outcome::Full);
    let written = serde_json::to_vec(&desk.ledger.written(None)).unwrap();
    assert!(written.len() < 1024, "{} bytes", written.len());
}

/// A replica that was taken for gone still remembers what it had admitted.
#[test]
fn what_was_admitted_beyond_the_block_covers_nothing() {
    let mut desk = Desk::new(5, &Shown::new(1, &[]));
    assert!(is_charged(&desk.propose(&create("a", 3))));
    let name = Arc::clone(desk.holder.name());
    desk.ledger.put(&name, None);
    desk.holder.meet(&desk.ledger, desk.now + DEAD);
    // Others take what is left.
    let other = Block::new("two", 1, amounts(4), amounts(4), (0, 0));
    desk.ledger.put(&"two".into(), Some(other));
    assert!(matches!(desk.propose(&create("a", 3)), Outcome::Exceeded { .. }));
}

#[test]
fn what_is_admitted_while_a_block_is_written_stays_when_that_fails() {
    let mut desk = Desk::new(20, &Shown::new(1, &[]));
    let name = Arc::clone(desk.holder.name());
    let (mut ledger, hard) = (desk.ledger.clone(), hard(20));
    let holder = &mut desk.holder;
    let totals = Totals { ledger: &ledger, own: &name, hard: &hard, denies: true };
    let block = holder.send(&amounts(6), totals, desk.now);
    holder.landed();
    ledger.put(&name, Some(block));
    let totals = Totals { ledger: &ledger, own: &name, hard: &hard, denies: true };
    holder.account.stage();
    assert!(is_charged(&holder.account.propose(&create("sent", 2), totals, true)));
    holder.send(&amounts(9), totals, desk.now);
    holder.account.sent();
    assert!(is_charged(&holder.account.propose(&create("meanwhile", 3), totals, false)));
    assert_eq!(holder.account.propose(&create("meanwhile, too many", 2), totals, false), Outcome::Beyond);
    assert_eq!(holder.account.propose(&create("sent", 1), totals, false), Outcome::Beyond);
    holder.failed(true);
    assert!(desk.is(0, 3));
    assert_eq!(*desk.holder.account.limit(), amounts(6));
}

/// What others hold and do not need is asked for, before anybody is refused.
#[test]
fn who_holds_more_than_it_needs_has_not_answered() {
    let mut desk = Desk::new(10, &Shown::new(1, &[]));
    let mut other = Holder::new("two");
    let (name, hard) = (Arc::clone(other.name()), hard(10));
    let mut write = |ledger: &mut Ledger, wish: i64| {
        let totals = Totals { ledger, own: &name, hard: &hard, denies: true };
        let block = other.send(&amounts(wish), totals, Duration::ZERO);
        other.landed();
        ledger.put(&name, Some(block));
    };
    write(&mut desk.ledger, 6);
    let Outcome::Exceeded { is_certain: false, .. } = desk.propose(&create("a", 5)) else {
        panic!("in doubt")
    };
    let dimensions = BTreeSet::from([Dimension::GameServers]);
    let recall = desk.ledger.recall();
    assert!(!desk.ledger.is_answered(recall, "own", &dimensions));
    write(&mut desk.ledger, 1);
    assert!(!desk.ledger.is_answered(recall, "own", &dimensions));
    write(&mut desk.ledger, 0);
    assert!(desk.ledger.is_answered(recall, "own", &dimensions));
    assert!(is_charged(&desk.propose(&create("a", 5))));
}

#[test]
fn a_recall_is_answered_though_its_number_was_seen_before() {
    let desk = Desk::new(10, &Shown::new(1, &[]));
    let mut holder = Holder::new("two");
    // Somebody has edited the number, and the ledger was put back.
    holder.meet(&Ledger { recall: 9, ..desk.ledger.clone() }, Duration::ZERO);
    let mut ledger = desk.ledger;
    holder.meet(&ledger, Duration::ZERO);
    assert!(ledger.recall() > holder.answered());
}
