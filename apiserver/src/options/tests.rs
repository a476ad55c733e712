//! Tests of which parameters are accepted, and how others are refused.

use proptest::prelude::*;

use super::*;

fn parse(query: &str) -> ListOptions {
    ListOptions::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Checks the code of the refusal, and that its message names the problem.
fn refuses(query: &str, code: u16, problem: &str) {
    let error = ListOptions::parse(query).expect_err(query);
    assert_eq!(error.code().as_u16(), code, "{query}: {error}");
    assert!(error.to_string().contains(problem), "{query}: {error}");
}

#[test]
fn a_list_takes_its_parameters() {
    let query = "labelSelector=a%3Db&fieldSelector=metadata.name%3Dx&limit=500&resourceVersion=42\
                 &resourceVersionMatch=NotOlderThan&timeoutSeconds=30&includeObject=Object&pretty=true&unknown=1";
    let options = parse(query);
    assert_eq!(options.label_selector.to_string(), "a=b");
    assert_eq!(options.field_selector, "metadata.name=x");
    assert_eq!(options.limit, NonZeroUsize::new(500));
    assert_eq!(options.resource_version, Some(ResourceVersion(42)));
    assert_eq!(options.resource_version_match, Some(ResourceVersionMatch::NotOlderThan));
    assert_eq!(options.timeout, Some(Duration::from_secs(30)));
    assert_eq!(options.include_object, IncludeObject::Object);
    assert_eq!(options.pretty, Some(true));
    assert!(!options.watch);
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(parse(""), ListOptions::default());
    assert_eq!(
        parse("resourceVersion=&continue=&labelSelector=&limit=0&timeoutSeconds=0"),
        ListOptions::default()
    );
    assert_eq!(parse("limit=-1"), ListOptions::default());
}

#[test]
fn flags_are_true_unless_they_say_no() {
    for yes in ["watch", "watch=", "watch=1", "watch=true", "watch=yes", "watch=true&watch=false"] {
        assert!(parse(yes).watch, "{yes}");
    }
    for no in ["watch=0", "watch=false", "watch=FALSE"] {
        assert!(!parse(no).watch, "{no}");
    }
}

#[test]
fn a_parameter_that_cannot_be_read_returns_400() {
    refuses("limit=ten", 400, "limit: Invalid value: \"ten\"");
    refuses("limit=", 400, "limit: ");
    refuses("timeoutSeconds=1.5", 400, "timeoutSeconds: ");
    refuses("continue=nope", 400, "continue key is not valid");
    refuses("labelSelector=a%20b", 400, "labelSelector: unable to parse requirement: ");
    refuses("includeObject=all", 400, "includeObject: Invalid value: \"all\"");
}

#[test]
fn an_invalid_resource_version_is_named() {
    for bad in ["abc", "-1", "007", "18446744073709551616", "1%00"] {
        refuses(&format!("resourceVersion={bad}"), 400, "resourceVersion: Invalid value: ");
        refuses(&format!("watch=1&resourceVersion={bad}"), 422, "resourceVersion: Invalid value: ");
        assert!(GetOptions::parse(&format!("resourceVersion={bad}")).is_err());
    }
}

#[test]
fn parameters_that_do_not_go_together_return_422() {
    let needs_version = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    refuses("resourceVersionMatch=Exact", 422, needs_version);
    refuses("resourceVersionMatch=NotOlderThan&resourceVersion=", 422, needs_version);
    let token = ContinueToken { version: None, namespace: String::new(), name: "a".into() }.encode();
    let no_continue = "resourceVersionMatch is forbidden when continue is provided";
    refuses(&format!("resourceVersionMatch=Exact&resourceVersion=1&continue={token}"), 422, no_continue);
    refuses("resourceVersionMatch=Exact&resourceVersion=0", 422, "is forbidden for resourceVersion \"0\"");
    let values = "Unsupported value: \"exact\": supported values: \"Exact\", \"NotOlderThan\", \"\"";
    refuses("resourceVersionMatch=exact&resourceVersion=1", 422, values);
    refuses(
        "sendInitialEvents=false",
        422,
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
    );

    let needs_match = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    refuses("watch=1&sendInitialEvents=true", 422, needs_match);
    refuses("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 422, needs_match);
    let needs_events = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
    refuses("watch=1&resourceVersionMatch=NotOlderThan", 422, needs_events);
    let query = format!("watch=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan&continue={token}");
    refuses(&query, 422, no_continue);
}

#[test]
fn each_problem_is_a_cause() {
    let error = ListOptions::parse("resourceVersionMatch=x&sendInitialEvents=1").unwrap_err();
    let status = error.status();
    assert_eq!(status["reason"], "Invalid");
    let fields: Vec<_> = (0..3).map(|i| status["details"]["causes"][i]["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["resourceVersionMatch", "resourceVersionMatch", "sendInitialEvents"]);
    assert!(
        error.to_string().starts_with("ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: ")
    );
}

#[test]
fn going_on_with_a_list_takes_no_version() {
    let token = ContinueToken { version: Some(ResourceVersion(7)), namespace: "n".into(), name: "a".into() };
    let query = format!("limit=2&continue={}", token.encode());
    assert_eq!(parse(&query).continue_token, Some(token));
    assert!(ListOptions::parse(&format!("{query}&resourceVersion=0")).is_ok());
    refuses(&format!("{query}&resourceVersion=7"), 400, "specifying resource version is not allowed");
    // A watch ignores it.
    assert_eq!(parse("watch=1&continue=nope").continue_token, None);
}

#[test]
fn a_watch_starts_with_what_there_is_unless_a_version_is_named() {
    let check = |query: &str, events, end| {
        let options = parse(query);
        assert_eq!((options.initial_events(), options.initial_events_end()), (events, end), "{query}");
    };
    check("watch=1", true, false);
    check("watch=1&allowWatchBookmarks=1", true, true);
    check("watch=1&resourceVersion=0", true, false);
    check("watch=1&resourceVersion=5&allowWatchBookmarks=1", false, false);
    check("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true, true);
    check("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=5", true, true);
    check("watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", false, false);
}

#[test]
fn a_timeout_is_bounded() {
    assert_eq!(parse("timeoutSeconds=-5").timeout, Some(Duration::ZERO));
    assert_eq!(parse("timeoutSeconds=9223372036854775807").timeout, Some(Duration::from_hours(24)));
}

proptest! {
    #[test]
    fn any_query_is_answered(
        query in "\\PC{0,60}|((watch|limit|resourceVersion|resourceVersionMatch|continue)=[a-zA-Z0-9%&-]{0,8}&){0,5}"
    ) {
        let _ = ListOptions::parse(&query);
        let _ = GetOptions::parse(&query);
    }
}
