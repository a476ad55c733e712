//! Trials of `--wait` against an API server in process, in paused time.

use gatehouse_apiservice::view::{API_VERSION, GROUP, VERSION};
use gatehouse_fake_api::FakeApi;
use serde_json::json;

use super::*;

const TOKENS: [&str; 3] = ["2026-11-29T18:20:00Z", "2026-11-29T18:20:01Z", "2026-11-29T18:20:02Z"];
/// What the command requested; the others are of before and after.
const OURS: &str = TOKENS[1];

fn api() -> FakeApi {
    let api = FakeApi::new();
    api.serve(GROUP, VERSION, RESOURCE, "FluxResource");
    api
}

/// A row whose controller has handled this token.
fn row(handled: &str, state: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "FluxResource",
        "metadata": {"namespace": "team-a", "name": "local.kustomization.shop"},
        "status": {
            "state": state, "suspended": state == "Suspended", "message": "the message",
            "request": {"token": OURS, "handled": handled},
        },
    })
}

/// Waits for our request while `meanwhile` happens: what is printed, and the exit code.
async fn waited(api: &FakeApi, meanwhile: impl Future<Output = ()>) -> (String, u8) {
    let connection = Connection { client: api.client(), namespace: "team-a".to_owned() };
    let object = Acted {
        api_version: "kustomize.toolkit.fluxcd.io/v1".to_owned(),
        kind: "Kustomization".to_owned(),
        namespace: "team-a".to_owned(),
        name: "shop".to_owned(),
        requested_at: OURS.to_owned(),
        ..Acted::default()
    };
    let requests = [Request::new("local", object, true)];
    let mut out = Vec::new();
    let limit = Duration::from_mins(1);
    let waiting = until_handled(&connection, Terminal::default(), &requests, limit, Some(&mut out));
    let (errors, ()) = tokio::join!(waiting, meanwhile);
    let code = errors.expect("a vector takes what is written").first().map_or(0, PluginError::exit_code);
    (String::from_utf8(out).expect("text"), code)
}

/// Until the plugin watches.
async fn watched(api: &FakeApi) {
    while !api.asked().iter().any(|asked| asked.contains("watch=true")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_ready_before_is_waited_for() {
    let api = api();
    api.put(row(TOKENS[0], "Ready"));
    let meanwhile = async {
        watched(&api).await;
        // Its controller begins, and ends.
        api.put(row(TOKENS[0], "Progressing"));
        tokio::task::yield_now().await;
        api.put(row(OURS, "Ready"));
    };
    let (out, code) = waited(&api, meanwhile).await;
    assert_eq!((&*out, code), ("kustomization.kustomize.toolkit.fluxcd.io/shop reconciled\n", 0));
}

#[tokio::test(start_paused = true)]
async fn a_later_request_that_was_handled_includes_ours() {
    let api = api();
    api.put(row(TOKENS[2], "Ready"));
    assert_eq!(waited(&api, async {}).await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_other_clients_are_compared_as_times() {
    // The later text is the earlier time, or no time.
    for handled in ["2026-11-29T19:19:00.5+01:00", "now", "z"] {
        let api = api();
        api.put(row(handled, "Ready"));
        assert_eq!(waited(&api, async {}).await.1, 4, "{handled}");
    }
    let api = api();
    api.put(row("2026-11-29T19:20:02.5+01:00", "Ready"));
    assert_eq!(waited(&api, async {}).await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_ready_afterwards_is_told_by_the_exit_code() {
    for state in ["Failing", "Blocked", "Suspended"] {
        let api = api();
        api.put(row(OURS, state));
        assert_eq!(waited(&api, async {}).await, (String::new(), 3), "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_ends_the_wait() {
    let api = api();
    api.put(row(TOKENS[0], "Ready"));
    let meanwhile = async {
        watched(&api).await;
        api.delete(GROUP, RESOURCE, "team-a", "local.kustomization.shop");
    };
    assert_eq!(waited(&api, meanwhile).await.1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_never_comes_ends_the_wait_at_its_limit() {
    let api = api();
    api.put(row(TOKENS[0], "Ready"));
    assert_eq!(waited(&api, async {}).await.1, 4);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_watch_it_looks_again() {
    let api = api();
    api.put(row(TOKENS[0], "Ready"));
    api.forbid(GROUP, RESOURCE, true);
    let meanwhile = async {
        watched(&api).await;
        api.put(row(OURS, "Ready"));
    };
    assert_eq!(waited(&api, meanwhile).await.1, 0);
}
