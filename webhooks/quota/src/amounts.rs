//! Amounts of several dimensions.
//!
//! **Invariant:** a zero amount is never stored.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
};

use gatehouse_apiservice::quantity::Quantity;

use crate::Dimension;

/// An amount for each dimension. Sparse: zero amounts are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<Dimension, Quantity>);

impl Amounts {
    /// The amount of `dimension`.
    pub fn get(&self, dimension: &Dimension) -> Quantity {
        self.0.get(dimension).copied().unwrap_or(Quantity::ZERO)
    }

    /// Sets the amount of a dimension.
    pub fn set(&mut self, dimension: Dimension, quantity: Quantity) {
        if quantity.is_zero() {
            self.0.remove(&dimension);
        } else {
            self.0.insert(dimension, quantity);
        }
    }

    /// Whether all amounts are zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The amounts other than zero, ordered by the dimensions' names.
    pub fn iter(&self) -> btree_map::Iter<'_, Dimension, Quantity> {
        self.0.iter()
    }

    /// The sum; `None` on overflow.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let mut sum = self.clone();
        for (dimension, quantity) in other {
            sum.set(dimension.clone(), sum.get(dimension).checked_add(*quantity)?);
        }
        Some(sum)
    }

    /// The difference, which may be negative; `None` on overflow.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        let mut difference = self.clone();
        for (dimension, quantity) in other {
            difference.set(dimension.clone(), difference.get(dimension).checked_sub(*quantity)?);
        }
        Some(difference)
    }

    /// The amounts multiplied by `times`; `None` on overflow.
    pub fn checked_mul(&self, times: i64) -> Option<Self> {
        let mut product = Self::default();
        for (dimension, quantity) in self {
            product.set(dimension.clone(), quantity.checked_mul(times)?);
        }
        Some(product)
    }

    /// The saturating sum: for sums over existing objects, each of which is far below the range.
    #[must_use]
    pub fn saturating_add(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (dimension, quantity) in other {
            let most = Quantity::from_milli(i128::MAX);
            sum.set(dimension.clone(), sum.get(dimension).checked_add(*quantity).unwrap_or(most));
        }
        sum
    }

    /// The saturating difference.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        for (dimension, quantity) in other {
            let least = Quantity::from_milli(i128::MIN);
            difference
                .set(dimension.clone(), difference.get(dimension).checked_sub(*quantity).unwrap_or(least));
        }
        difference
    }

    /// The larger amount of each dimension.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        self.each(other, Ord::max)
    }

    /// The smaller amount of each dimension.
    #[must_use]
    pub fn min(&self, other: &Self) -> Self {
        self.each(other, Ord::min)
    }

    /// The amounts of the dimensions for which `keep` holds.
    #[must_use]
    pub fn only(&self, mut keep: impl FnMut(&Dimension) -> bool) -> Self {
        Self(self.0.iter().filter(|(one, _)| keep(one)).map(|(one, two)| (one.clone(), *two)).collect())
    }

    fn each(&self, other: &Self, choose: fn(Quantity, Quantity) -> Quantity) -> Self {
        let mut chosen = Self::default();
        for dimension in self.0.keys().chain(other.0.keys()) {
            chosen.set(dimension.clone(), choose(self.get(dimension), other.get(dimension)));
        }
        chosen
    }
}

impl<'a> IntoIterator for &'a Amounts {
    type Item = (&'a Dimension, &'a Quantity);
    type IntoIter = btree_map::Iter<'a, Dimension, Quantity>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Dimension, Quantity)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (Dimension, Quantity)>>(amounts: I) -> Self {
        Self(amounts.into_iter().filter(|(_, quantity)| !quantity.is_zero()).collect())
    }
}

/// `gameservers=5,requests.cpu=500m`, as ResourceQuota writes it.
impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (dimension, quantity)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{dimension}={}", dimension.written(*quantity))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> Amounts {
        pairs.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn zero_is_absent() {
        let some = amounts(&[("gameservers", "2"), ("players", "0")]);
        assert_eq!(some, amounts(&[("gameservers", "2")]));
        assert!(some.checked_sub(&some).unwrap().is_empty());
    }

    #[test]
    fn what_one_side_lacks_is_zero_there() {
        let one = amounts(&[("gameservers", "2"), ("players", "5")]);
        let other = amounts(&[("players", "3"), ("requests.cpu", "1")]);
        assert_eq!(
            one.max(&other),
            amounts(&[("gameservers", "2"), ("players", "5"), ("requests.cpu", "1")])
        );
        assert_eq!(one.min(&other), amounts(&[("players", "3")]));
        assert_eq!(
            one.checked_sub(&other).unwrap(),
            amounts(&[("gameservers", "2"), ("players", "2"), ("requests.cpu", "-1")])
        );
    }

    #[test]
    fn sums_end_where_the_range_does() {
        let most: Amounts = [(Dimension::Players, Quantity::from_milli(i128::MAX))].into_iter().collect();
        assert_eq!(most.checked_add(&most), None);
        assert_eq!(most.checked_mul(2), None);
        assert_eq!(most.saturating_add(&most), most);
    }

    #[test]
    fn they_are_written_as_resourcequota_writes_them() {
        let some =
            amounts(&[("requests.memory", "2147483648"), ("requests.cpu", "1.5"), ("gameservers", "3")]);
        assert_eq!(some.to_string(), "gameservers=3,requests.cpu=1500m,requests.memory=2Gi");
    }
}
