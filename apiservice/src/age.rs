//! Ages as Kubernetes' Tables show them.

use std::fmt;

/// A duration in seconds, shown in at most two units, the coarser the longer it is: `30s`, `5m12s`, `3h5m`,
/// `2d3h`, `40d`, `2y10d`. The steps are those of `HumanDuration` in `k8s.io/apimachinery/pkg/util/duration`.
#[derive(Debug, Clone, Copy)]
pub struct Age(
    /// The duration in seconds.
    pub i64,
);

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // The clocks of two machines may differ by a second; a time further in the future is not an age.
            ..-1 => f.write_str("<invalid>"),
            -1 => f.write_str("0s"),
            seconds @ 0..120 => write!(f, "{seconds}s"),
            seconds @ 120..600 => two(f, seconds, (MINUTE, "m"), (1, "s")),
            seconds if seconds < 3 * HOUR => write!(f, "{}m", seconds / MINUTE),
            seconds if seconds < 8 * HOUR => two(f, seconds, (HOUR, "h"), (MINUTE, "m")),
            seconds if seconds < 2 * DAY => write!(f, "{}h", seconds / HOUR),
            seconds if seconds < 8 * DAY => two(f, seconds, (DAY, "d"), (HOUR, "h")),
            seconds if seconds < 2 * YEAR => write!(f, "{}d", seconds / DAY),
            seconds if seconds < 8 * YEAR => two(f, seconds, (YEAR, "y"), (DAY, "d")),
            seconds => write!(f, "{}y", seconds / YEAR),
        }
    }
}

/// Writes the whole coarse units, and the rest in fine units unless it is zero.
fn two(
    f: &mut fmt::Formatter<'_>,
    seconds: i64,
    (coarse, coarse_unit): (i64, &str),
    (fine, fine_unit): (i64, &str),
) -> fmt::Result {
    write!(f, "{}{coarse_unit}", seconds / coarse)?;
    match seconds % coarse / fine {
        0 => Ok(()),
        rest => write!(f, "{rest}{fine_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_as_kubectl_users_know_them() {
        for (seconds, shown) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (312, "5m12s"),
            (600, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR + 5 * MINUTE, "3h5m"),
            (8 * HOUR, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY + 3 * HOUR, "2d3h"),
            (40 * DAY, "40d"),
            (2 * YEAR + 10 * DAY, "2y10d"),
            (9 * YEAR, "9y"),
        ] {
            assert_eq!(Age(seconds).to_string(), shown, "{seconds} s");
        }
    }
}
