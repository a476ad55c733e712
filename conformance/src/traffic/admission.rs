//! Writes that the webhooks review.

use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::objects::{FULL, JUDGED, ROOM, fleet, kustomization};
use super::score::Score;
use super::{Pace, send};

/// How many clients write, or have written.
static WRITERS: AtomicU32 = AtomicU32::new(0);

const ALLOWED: &str = "allowed writes";
const FORBIDDEN: &str = "forbidden writes";

fn fleets(namespace: &str) -> String {
    format!("/apis/agones.dev/v1/namespaces/{namespace}/fleets")
}

fn kustomizations(namespace: &str) -> String {
    format!("/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{namespace}/kustomizations")
}

/// Creates, scales and deletes Fleets within a quota that has room.
pub(super) async fn allowed_fleets(client: kube::Client, pace: Pace, score: Score) {
    let object = |name: &str| fleet(ROOM, name, 2);
    let change = json!({"spec": {"replicas": 3}});
    lives(&client, &fleets(ROOM), object, &change, pace, &score).await;
}

/// Creates, changes and deletes Kustomizations that comply with the policy.
pub(super) async fn allowed_kustomizations(client: kube::Client, pace: Pace, score: Score) {
    let object = |name: &str| kustomization(JUDGED, name, true);
    let change = json!({"spec": {"interval": "11m"}});
    lives(&client, &kustomizations(JUDGED), object, &change, pace, &score).await;
}

/// Creates, changes and deletes one object after another.
async fn lives(
    client: &kube::Client,
    collection: &str,
    object: impl Fn(&str) -> Value,
    change: &Value,
    mut pace: Pace,
    score: &Score,
) {
    // Not the name of an object that an earlier traffic has left.
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let mut made = 0_u64;
    loop {
        made += 1;
        let name = format!("object-{writer}-{made}");
        let path = format!("{collection}/{name}");
        let object = object(&name);
        let steps =
            [("POST", collection, Some(&object)), ("PATCH", &path, Some(change)), ("DELETE", &path, None)];
        for (method, path, body) in steps {
            if !pace.next().await {
                return;
            }
            let answer = send(client, method, path, body).await;
            if !score.note(ALLOWED, &format!("{method} {path}"), answer.map(drop)) {
                // An object that was not created cannot be changed or deleted.
                break;
            }
        }
    }
}

/// Creates objects beyond a quota and against a policy, in turn.
pub(super) async fn forbidden(client: kube::Client, mut pace: Pace, score: Score) {
    let beyond = (fleets(FULL), fleet(FULL, "forbidden", 1), "exceeded quota: traffic-full");
    let against =
        (kustomizations(JUDGED), kustomization(JUDGED, "forbidden", false), "spec.prune: must be true");
    let cases = [beyond, against];
    let mut cases = cases.iter().cycle();
    while let (true, Some((path, object, words))) = (pace.next().await, cases.next()) {
        match send(&client, "POST", path, Some(object)).await {
            Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(words) => {
                score.succeeded(FORBIDDEN);
            }
            Err(error) => score.failed(FORBIDDEN, not_by_our_words(path, &error)),
            Ok(_) => {
                score.unadmitted(FORBIDDEN, format_args!("POST {path} was admitted"));
                // Otherwise the next create would be refused because the object exists.
                let _ = send(&client, "DELETE", &format!("{path}/forbidden"), None).await;
            }
        }
    }
}

fn not_by_our_words(path: &str, error: &dyn Display) -> String {
    format!("POST {path} was refused for another reason: {error}")
}
