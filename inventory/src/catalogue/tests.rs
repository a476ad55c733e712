use super::*;

#[test]
fn the_built_in_catalogue_compiles() {
    let catalogue = Catalogue::builtin();
    assert!(catalogue.len() > 40);
}
