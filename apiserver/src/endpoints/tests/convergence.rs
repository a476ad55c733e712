//! Properties: a client that applies the events of a watch has what a new list would return.

use std::collections::{BTreeMap, HashMap};

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Put {
        place: usize,
        state: usize,
    },
    Delete {
        place: usize,
    },
    /// The client reads all events that are there.
    Read,
    /// The client's connection breaks, and it resumes from the last version that it has seen.
    Reconnect,
}

const PLACES: [&str; 6] = ["a/x", "a/y", "b/x", "b/y", "b/z", "c/x"];
const STATES: [&str; 3] = ["Ready", "Failed", "Stalled"];
const SELECTORS: [[(&str, &str); 2]; 7] = [
    [("labelSelector", ""), ("fieldSelector", "")],
    [("labelSelector", "state=Ready"), ("fieldSelector", "")],
    [("labelSelector", "state notin (Ready)"), ("fieldSelector", "")],
    [("labelSelector", ""), ("fieldSelector", "status.state!=Failed")],
    [("labelSelector", ""), ("fieldSelector", "metadata.name=x")],
    [("labelSelector", "state in (Ready,Stalled)"), ("fieldSelector", "metadata.namespace=b")],
    [("labelSelector", "missing"), ("fieldSelector", "")],
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PLACES.len(), 0..STATES.len()).prop_map(|(place, state)| Step::Put { place, state }),
        3 => (0..PLACES.len()).prop_map(|place| Step::Delete { place }),
        3 => Just(Step::Read),
        1 => Just(Step::Reconnect),
    ]
}

/// What an informer stores.
#[derive(Default)]
struct Client {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Every content that was seen, by object and version.
    seen: HashMap<(String, u64), (String, Value)>,
}

fn place(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().expect("text").to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

impl Client {
    async fn list(&mut self, server: &Server, path: &str, selector: &[(&str, &str)]) {
        let list = server.get(&with(path, selector)).await;
        self.version = version_of(&list);
        self.objects =
            list["items"].as_array().unwrap().iter().map(|item| (place(item), item.clone())).collect();
    }

    /// Checks what client-go's informers rely on.
    fn take(&mut self, event: &Value) -> Result<(), TestCaseError> {
        let object = &event["object"];
        let (kind, version) = (event["type"].as_str().unwrap(), version_of(object));
        if kind == "BOOKMARK" {
            prop_assert!(version >= self.version);
            self.version = version;
            return Ok(());
        }
        prop_assert!(
            version > self.version,
            "versions increase strictly: {} after {}",
            version,
            self.version
        );
        self.version = version;
        let place = place(object);
        let content = (kind.to_owned(), object.clone());
        let known = self.seen.entry((place.clone(), version)).or_insert_with(|| content.clone());
        prop_assert_eq!(&*known, &content, "no version has two contents");
        let before = match kind {
            "DELETED" => self.objects.remove(&place),
            _ => self.objects.insert(place, object.clone()),
        };
        prop_assert_eq!(before.is_some(), kind != "ADDED", "{} of {:?}", kind, before);
        Ok(())
    }

    fn read(&mut self, watch: &mut Stream) -> Result<(), TestCaseError> {
        while let Some(event) = watch.next().now_or_never() {
            self.take(&event.expect("it does not end"))?;
        }
        Ok(())
    }
}

async fn check(
    before: Vec<Step>,
    after: Vec<Step>,
    selector: [(&'static str, &'static str); 2],
    namespace: Option<&str>,
    streaming: bool,
) -> Result<(), TestCaseError> {
    let server = Server::with(&PLACES[..3]);
    let path = namespace.map_or_else(|| SUMMARIES.to_owned(), within);
    let act = |step: &Step| match step {
        Step::Put { place, state } => drop(server.put(PLACES[*place], STATES[*state])),
        Step::Delete { place } => drop(server.delete(PLACES[*place])),
        Step::Read | Step::Reconnect => {}
    };
    before.iter().for_each(act);
    let mut client = Client::default();
    let open = async |version: u64| {
        let version = version.to_string();
        let parameters = [&selector[..], &[("resourceVersion", &version), ("allowWatchBookmarks", "true")]];
        server.watch_as(&path, &parameters.concat(), "application/json").await
    };
    let mut watch = if streaming {
        let list = [
            ("sendInitialEvents", "true"),
            ("resourceVersionMatch", "NotOlderThan"),
            ("allowWatchBookmarks", "true"),
        ];
        let mut watch = server.watch_as(&path, &[&selector[..], &list].concat(), "application/json").await;
        // The initial events are in the order of lists, not of versions.
        loop {
            let event = watch.next().await.expect("it does not end");
            if event["type"] == "BOOKMARK" {
                client.version = version_of(&event["object"]);
                break watch;
            }
            client.objects.insert(place(&event["object"]), event["object"].clone());
        }
    } else {
        client.list(&server, &path, &selector).await;
        open(client.version).await
    };
    for step in &after {
        act(step);
        match step {
            Step::Read => client.read(&mut watch)?,
            Step::Reconnect => watch = open(client.version).await,
            Step::Put { .. } | Step::Delete { .. } => {}
        }
    }
    client.read(&mut watch)?;
    let mut fresh = Client::default();
    fresh.list(&server, &path, &selector).await;
    prop_assert_eq!(client.objects, fresh.objects);
    prop_assert!(client.version <= fresh.version);
    Ok(())
}

proptest! {
    #[test]
    fn list_and_watch_together_are_a_list(
        before in prop::collection::vec(step(), 0..12),
        after in prop::collection::vec(step(), 0..40),
        selector in prop::sample::select(SELECTORS.to_vec()),
        namespace in prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
        streaming: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(before, after, selector, namespace, streaming))?;
    }
}
