//! What the flags stand for.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    limits: LimitArgs,
}

fn parse(flags: &[&str]) -> Result<Command, String> {
    let flags = std::iter::once("gatehouse").chain(flags.iter().copied());
    Command::try_parse_from(flags).map_err(|error| error.to_string())
}

#[test]
fn a_certificate_made_on_the_spot_names_its_namespace_and_an_address_that_one_can_connect_to() {
    let leaf = parse(&[]).unwrap().serving.on_the_spot("here", "gate");
    assert_eq!((leaf.dns_names[1].as_str(), leaf.ips.len()), ("gate.here.svc", 0));
    let leaf = parse(&["--bind-address=127.0.0.1"]).unwrap().serving.on_the_spot("here", "gate");
    assert_eq!(leaf.ips, [IpAddr::from([127, 0, 0, 1])]);
}

#[test]
fn there_are_some_connections_and_not_more_than_can_be_counted() {
    assert_eq!(parse(&["--max-connections=4000"]).unwrap().limits.max_connections, 4000);
    for number in ["0", "-1", "many", &usize::MAX.to_string()] {
        let error = parse(&[&format!("--max-connections={number}")]).unwrap_err();
        assert!(error.contains("--max-connections"), "{error}");
    }
}
