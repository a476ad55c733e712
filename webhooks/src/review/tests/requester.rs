//! For whom `gatehouse apiserver` writes, and who is not believed about that.

use super::*;

const APISERVER: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver";

/// A suspension by `writer`, who reports these requesters.
fn suspension(writer: &str, reported: &[&str]) -> Value {
    let mut review = update(&json!({"interval": "5m"}), &json!({"interval": "5m", "suspend": true}));
    review["request"]["userInfo"] =
        json!({"username": writer, "extra": {"gatehouse.dev/requester": reported}});
    review
}

fn reported(user: &str) -> String {
    json!({"username": user, "groups": ["system:authenticated"]}).to_string()
}

fn site() -> Site {
    Site::new(&[("strict", json!({"rules": {"verbs": "Authorize"}}))])
}

#[tokio::test]
async fn the_requester_is_judged_if_the_api_server_writes() {
    let site = site();
    assert_eq!(site.validate(&suspension(APISERVER, &[&reported("jane")])).await["allowed"], true);
    assert_eq!(site.validate(&suspension(APISERVER, &[&reported("kim")])).await["status"]["code"], 403);
    let asked: Vec<_> = site.asked.lock().expect("lock").iter().map(|spec| spec["user"].clone()).collect();
    assert_eq!(asked, ["jane", "kim"]);
}

#[tokio::test]
async fn a_requester_that_somebody_else_reports_does_not_count() {
    for writer in
        ["kim", OWN_NAMESAKE, "system:serviceaccount:team-a:gatehouse-apiserver", "gatehouse-apiserver"]
    {
        let site = site();
        let answer = site.validate(&suspension(writer, &[&reported("jane")])).await;
        assert_eq!(answer["status"]["code"], 403, "{writer}");
        assert_eq!(site.asked.lock().expect("lock")[0]["user"], writer);
    }
}

/// A name that begins as that of the API server.
const OWN_NAMESAKE: &str = "system:serviceaccount:gatehouse-system:gatehouse-apiserver-2";

#[tokio::test]
async fn a_report_that_cannot_be_read_is_refused() {
    let site = site();
    for reported in [&["jane"][..], &[], &["{}"], &["{\"username\": \"\"}"]] {
        let review = suspension(APISERVER, reported);
        assert_eq!(site.validate(&review).await["status"]["code"], 400, "{reported:?}");
        assert_eq!(site.ask(Webhook::Quota, &review).await["allowed"], false);
        assert_eq!(site.ask(Webhook::Mutate, &review).await["allowed"], true);
    }
}

#[tokio::test]
async fn without_a_report_the_account_is_judged_itself() {
    let site = site();
    let mut review = suspension(APISERVER, &[]);
    review["request"]["userInfo"] = json!({"username": APISERVER});
    assert_eq!(site.validate(&review).await["status"]["code"], 403);
    assert_eq!(site.asked.lock().expect("lock")[0]["user"], APISERVER);
}
