//! Lists and gets through the aggregator.

use super::objects::{MARKER, VIEWS, change};
use super::score::Score;
use super::{Pace, send};

/// The path of the group version of the views.
pub(super) const API: &str = "/apis/view.gatehouse.dev/v1alpha1";

const KEPT: &str = "lists and gets";
const ANEW: &str = "lists on new connections";

/// The path of the row that is changed again and again.
pub(super) fn marker() -> String {
    format!("{}/local.kustomization.{MARKER}", rows())
}

/// The path of the list that contains this row and no other.
pub(super) fn rows() -> String {
    format!("{API}/namespaces/{VIEWS}/fluxresources")
}

/// Requests one resource after another on a kept connection.
pub(super) async fn kept(client: kube::Client, mut pace: Pace, score: Score) {
    let paths = [rows(), marker(), format!("{API}/fluxsummaries"), format!("{API}/clusterhealths/local")];
    let mut paths = paths.iter().cycle();
    while let (true, Some(path)) = (pace.next().await, paths.next()) {
        let answer = send(&client, "GET", path, None).await;
        score.note(KEPT, path, answer.map(drop));
    }
}

/// Lists on a new connection each time.
pub(super) async fn reconnecting(config: kube::Config, mut pace: Pace, score: Score) {
    let path = rows();
    while pace.next().await {
        let listed = async {
            let client = kube::Client::try_from(config.clone())?;
            let list = send(&client, "GET", &path, None).await?;
            let shown = list["items"].as_array().into_iter().flatten().filter_map(change).count();
            anyhow::ensure!(shown == 1, "the row is not there: {list}");
            Ok(())
        };
        let listed = listed.await;
        score.note(ANEW, &path, listed.map_err(|error: anyhow::Error| format!("{error:#}")));
    }
}
