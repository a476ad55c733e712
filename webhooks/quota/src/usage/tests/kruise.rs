//! Pods of OpenKruiseGame's sets: what they use, and what their creation adds.

use proptest::prelude::*;

use super::*;
use crate::added_by_pod;

fn pod_of(labels: &Value, cpu: &str) -> Value {
    json!({
        "metadata": {"namespace": "games", "name": "set-0", "labels": labels},
        "spec": {"containers": [{"name": "game", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}, {"name": "log"}]},
    })
}

#[test]
fn a_pod_of_a_set_uses_what_it_requests_and_others_nothing_but_their_count() {
    let pod = pod_of(&json!({"game.kruise.io/owner-gss": "set"}), "9");
    assert_eq!(usage_text("pods", &pod), "gameservers=1,requests.cpu=9,requests.memory=1Gi");
    let usage = usage(&resource("pods"), &pod, &NoTemplates).unwrap();
    let owner = usage.owner.unwrap();
    assert_eq!((owner.resource.to_string().as_str(), &*owner.name), ("gameserversets.game.kruise.io", "set"));
    assert!(usage.unstated.is_empty(), "its set was asked");
    for labels in [json!({"app": "a"}), json!(null)] {
        assert_eq!(usage_text("pods", &pod_of(&labels, "many")), "", "{labels}");
    }
    // OpenKruiseGame writes the label itself; whatever somebody makes of it, it is a server.
    let odd = pod_of(&json!({"game.kruise.io/owner-gss": ""}), "1");
    assert_eq!(usage_text("pods", &odd), "gameservers=1,requests.cpu=1,requests.memory=1Gi");
}

fn cpu(milli: i64) -> Amounts {
    [(Dimension::RequestsCpu, Quantity::from_milli(milli.into()))].into_iter().collect()
}

#[test]
fn a_pod_adds_what_it_uses_beyond_its_share_or_beyond_what_the_set_asks_for() {
    // A set of three with one core each.
    let added = |pod, there| added_by_pod(&cpu(pod), &cpu(1000), &cpu(3000), &cpu(there));
    assert_eq!(added(1000, 0), cpu(0));
    assert_eq!(added(1000, 2000), cpu(0));
    assert_eq!(added(4000, 0), cpu(3000), "by what a GameServer states");
    assert_eq!(added(1000, 3000), cpu(1000), "beside one that is being deleted");
    assert_eq!(added(1000, 2500), cpu(500));
    assert_eq!(added(500, 3000), cpu(500));
    assert_eq!(added(1000, 9000), cpu(1000), "beside those of an earlier template");
}

proptest! {
    /// What is counted of a set is the larger of what it asks for and of its pods, and grows by no more than was charged:
    /// whether each pod is observed before the next one is created, or none of them.
    #[test]
    fn a_set_grows_by_no_more_than_its_pods_add(
        share in 1..2000_i64, pods in prop::collection::vec(1..4000_i64, 1..6), before in 0..8000_i64,
    ) {
        let asked = share * i64::try_from(pods.len()).expect("few");
        let counted = |there: i64| cpu(asked).max(&cpu(there));
        let mut there = before;
        for pod in &pods {
            let added = added_by_pod(&cpu(*pod), &cpu(share), &cpu(asked), &cpu(there));
            prop_assert!(counted(there + pod) == counted(there + pod).min(&counted(there).saturating_add(&added)));
            there += pod;
        }
        let together = pods.iter().fold(Amounts::default(), |sum, pod| {
            sum.saturating_add(&added_by_pod(&cpu(*pod), &cpu(share), &cpu(asked), &Amounts::default()))
        });
        let there = pods.iter().sum();
        prop_assert!(counted(there) == counted(there).min(&cpu(asked).saturating_add(&together)));
    }
}
