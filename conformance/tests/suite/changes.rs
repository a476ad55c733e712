use crate::world::World;
use libtest_mimic::Trial;
pub(crate) fn trials(_: &World) -> Vec<Trial> {
    vec![]
}
