//! Decides whether Agones may create another game server while others are being deleted.
//!
//! Agones replaces a server as soon as it is deleted, while its pod still runs. What it creates for a Fleet or a set is
//! charged there, so without this check a tenant who deletes servers again and again would have as many running as fit
//! into their grace periods.

use std::collections::BTreeMap;

use crate::{Amounts, Dimension, Exceeded, Quantity, Weight};

/// The limits that `new` exceeds: with it, there would be more than the limits allow and more than is asked for. A
/// rollout's surge is asked for by its sets; room for players that running servers have added does not block others.
/// `used` is the counted usage of a tenant, and `standing` the part of it from Agones' objects; a server that was
/// admitted and is not observed yet is part of `admitted`.
pub fn exceeded_by_replacement(
    hard: &BTreeMap<Dimension, Quantity>,
    used: &Amounts,
    standing: &Weight,
    admitted: &Amounts,
    new: &Amounts,
) -> Option<Exceeded> {
    let beside = used.saturating_sub(&standing.counted());
    let exists = beside.saturating_add(&standing.exists()).saturating_add(admitted);
    let asked = beside.saturating_add(&standing.asked).saturating_add(&standing.grown);
    let with_new = exists.saturating_add(new);
    let mut exceeded = Exceeded::default();
    for (dimension, requested) in new {
        let Some(limit) = hard.get(dimension) else { continue };
        if with_new.get(dimension) > asked.get(dimension).max(*limit) {
            exceeded.insert(dimension, *requested, exists.get(dimension), *limit);
        }
    }
    (!exceeded.limited.is_empty()).then_some(exceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(servers: i64, players: i64) -> Amounts {
        let of = [(Dimension::GameServers, servers), (Dimension::Players, players)];
        of.into_iter().map(|(dimension, number)| (dimension, Quantity::from_integer(number))).collect()
    }

    /// What a replacement with room for ten exceeds, under limits of ten servers and a hundred players.
    fn exceeded(used: &Amounts, standing: &Weight) -> String {
        let hard = of(10, 100).into_iter().map(|(one, two)| (one.clone(), *two)).collect();
        let exceeded = exceeded_by_replacement(&hard, used, standing, &Amounts::default(), &of(1, 10));
        exceeded.map(|exceeded| exceeded.message("a")).unwrap_or_default()
    }

    #[test]
    fn players_that_servers_have_made_room_for_starve_no_fleet() {
        // A fleet of ten, one of which has gone; another has made room for sixty more.
        let grown = of(0, 60);
        let standing = Weight {
            asked: of(10, 100),
            stays: of(10, 150),
            there: of(9, 150),
            grown: grown.clone(),
            ..Weight::default()
        };
        assert_eq!(exceeded(&standing.counted(), &standing), "");
        // It is deleted: its room counts until it is gone, and nobody asks for it any more.
        let going =
            Weight { there: of(8, 80), going: of(1, 70), stays: of(10, 100), grown: of(0, 0), ..standing };
        assert_eq!(
            exceeded(&going.counted(), &going),
            "exceeded quota: a, requested: players=10, used: players=150, limited: players=100"
        );
    }

    #[test]
    fn what_others_take_up_counts_and_what_they_ask_for_is_asked_for() {
        let fleet = Weight { asked: of(5, 0), stays: of(5, 0), there: of(4, 0), ..Weight::default() };
        let beside = of(5, 0);
        assert_eq!(exceeded(&fleet.counted().saturating_add(&beside), &fleet), "");
        let going = Weight { going: of(1, 0), ..fleet };
        let used = going.counted().saturating_add(&beside);
        let expected =
            "exceeded quota: a, requested: gameservers=1, used: gameservers=10, limited: gameservers=10";
        assert_eq!(exceeded(&used, &going), expected);
        // A limit that was lowered under what there is starves nobody.
        let asked = Weight {
            asked: of(20, 0),
            stays: of(20, 0),
            there: of(17, 0),
            going: of(2, 0),
            ..Weight::default()
        };
        assert_eq!(exceeded(&asked.counted(), &asked), "");
    }
}
