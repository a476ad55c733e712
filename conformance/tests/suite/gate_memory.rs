//! The memory of the webhooks: what reviews of the largest size take, whatever they hold, and objects of megabytes that
//! exist. And what no rule looks at may be as deep as kube-apiserver allows.
//!
//! The peak of the process is printed, and stays below the chart's default limit.

use std::sync::Arc;

use anyhow::{Context, ensure};
use gatehouse_conformance::control_plane::{ControlPlane, Options};
use gatehouse_conformance::gatehouse::Gatehouse;
use gatehouse_conformance::process::{Memory, Process};
use gatehouse_conformance::progress;
use gatehouse_conformance::webhooks::{self, Settings, Webhooks};
use http::Request;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::gate::{Gate, KNOWN, POLICY, creation};
use crate::site::Site;
use crate::world::World;

/// The chart's default limit.
const MEMORY: u64 = 512 << 20;
const NAMESPACE: &str = "memory";
const RELEASES: &str = "/apis/helm.toolkit.fluxcd.io/v2/namespaces/memory/helmreleases";
/// How many large objects there are.
const OBJECTS: usize = 10;
/// The largest object that etcd takes, with some room.
const LARGE: usize = 1_300_000;
/// The largest review that is read, but for its envelope.
const LARGEST: usize = (7 << 20) - 8192;
/// Reviews at a time.
const REVIEWS: usize = 8;

pub(crate) fn trials(world: &World) -> Vec<Trial> {
    vec![world.apart("gate_memory::large_objects_and_reviews_take_no_more_than_there_is", memory)]
}

async fn memory() -> anyhow::Result<()> {
    let control_plane = Arc::new(ControlPlane::start(&Options::default()).await?);
    let (site, gatehouse) = Site::new(Arc::clone(&control_plane)).await?;
    let site = Arc::new(site);
    webhooks::prepare(&control_plane).await?;
    let settings = Settings { executable: site.options.executable.clone(), ..Settings::default() };
    let webhooks = Webhooks::start(&control_plane, 1, &settings).await?;
    webhooks.register(&control_plane).await?;
    let replica = webhooks.replica(0);
    let kubeconfig = replica.kubeconfig_for(&control_plane, "gate", Some("system:masters"))?;
    let replicas = vec![Caller::of_kubeconfig(&kubeconfig).await?];
    let gate = Gate { caller: site.caller().await?, replicas, site };
    gate.namespace(NAMESPACE).await?;
    let quick = json!({"interval": "1s"});
    gate.policy(NAMESPACE, json!({"rules": {"interval": {"min": "1m"}}}), &release("a", &quick)).await?;
    within("nothing", replica)?;

    depth(&gate).await?;
    within("deep values", replica)?;
    objects(&gate).await?;
    within("objects that came while it ran", replica)?;
    let settings = Settings { name: Some("late".to_owned()), ..settings };
    let late = Webhooks::start(&control_plane, 1, &settings).await?;
    within("objects that were there before", late.replica(0))?;
    late.end().await?;
    reviews(&gate).await?;
    within("reviews under a policy without conditions", replica)?;

    // Conditions look at all of an object, in reviews and of what exists.
    let cel = json!({"rules": {"cel": [{"expression": "object.spec.timeout == '5m'"}]}});
    gate.policy(NAMESPACE, cel, &release("a", &json!({"timeout": "1m"}))).await?;
    let path = format!("{POLICY}/reconcilepolicies/{NAMESPACE}");
    let audited = |policy: &Value| policy["status"]["violations"] == OBJECTS;
    let found = gate.becomes(&path, KNOWN, audited).await;
    within("the audit of large objects", replica)?;
    found.context("every large object is audited by its condition")?;
    reviews(&gate).await?;
    within("reviews under a policy with conditions", replica)?;
    drop((gate, gatehouse));
    webhooks.end().await?;
    drop(control_plane);
    Ok(())
}

/// A HelmRelease with these fields in its spec.
fn release(name: &str, fields: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "interval": "10m", "timeout": "3m",
            "chart": {"spec": {"chart": "app", "sourceRef": {"kind": "HelmRepository", "name": "charts"}}},
        },
    });
    crate::gate::merge(&mut object["spec"], fields.clone());
    object
}

/// The same as text, with values that no `Value` is made of here.
fn with_values(name: &str, values: &str) -> String {
    release(name, &json!({"values": "VALUES"})).to_string().replacen("\"VALUES\"", values, 1)
}

/// Posts a text; the answer's code and text.
async fn post(caller: &Caller, path: &str, body: String) -> anyhow::Result<Result<String, String>> {
    let request = Request::post(path).header("content-type", "application/json").body(body.into_bytes())?;
    match caller.client.request_text(request).await {
        Ok(text) => Ok(Ok(text)),
        Err(kube::Error::Api(status)) => Ok(Err(format!("{}: {}", status.code, status.message))),
        Err(error) => Err(error.into()),
    }
}

/// Values are as deep as kube-apiserver takes them.
async fn depth(gate: &Gate) -> anyhow::Result<()> {
    let mut deepest = 0;
    for depth in [100, 200, 1_000, 5_000, 9_900, 20_000] {
        let values = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let path = format!("{RELEASES}?dryRun=All");
        match post(&gate.caller, &path, with_values("deep", &values)).await? {
            Ok(_) => deepest = depth,
            Err(why) => {
                progress::say(format_args!("values {depth} deep: {}", &why[..why.len().min(200)]));
                ensure!(!why.contains("gatehouse"), "refused by admission: {why}");
                break;
            }
        }
    }
    progress::say(format_args!("values are admitted {deepest} deep"));
    ensure!(deepest >= 200, "no deeper than {deepest}");
    Ok(())
}

async fn objects(gate: &Gate) -> anyhow::Result<()> {
    let entry = "{\"n\":1},";
    let values = format!("{{\"many\":[{}0]}}", entry.repeat(LARGE / entry.len()));
    for number in 0..OBJECTS {
        let body = with_values(&format!("large-{number}"), &values);
        let answer = post(&gate.caller, RELEASES, body).await?;
        answer.map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// What a reader of JSON would make the most of.
fn contents() -> Vec<(&'static str, String)> {
    let of = |many: &str, length: usize| many.repeat(length / many.len());
    let numbered = |form: fn(usize) -> String, length: usize| {
        let one = form(1_000_000).len();
        (0..length / one).map(|number| form(1_000_000 + number)).collect::<String>()
    };
    vec![
        ("lists", format!("{{\"spec\":{{\"values\":[{}0]}}}}", of("[],", LARGEST))),
        ("digits", format!("{{\"spec\":{{\"values\":[{}0]}}}}", of("0,", LARGEST))),
        ("maps", format!("{{\"spec\":{{\"dependsOn\":[{}{{}}]}}}}", of("{},", LARGEST))),
        ("escapes", format!("{{\"spec\":{{\"url\":\"{}\"}}}}", of("\\u0041", LARGEST))),
        (
            "names",
            format!(
                "{{\"spec\":{{\"values\":{{{}\"x\":0}}}}}}",
                numbered(|n| format!("\"{n}\":0,"), LARGEST)
            ),
        ),
        (
            "labels",
            format!(
                "{{\"metadata\":{{\"labels\":{{{}\"x\":\"\"}}}}}}",
                numbered(|n| format!("\"{n}\":\"\","), LARGEST)
            ),
        ),
        (
            "annotations",
            format!(
                "{{\"metadata\":{{\"annotations\":{{{}\"x\":\"\"}}}}}}",
                numbered(|n| format!("\"gatehouse.dev/{n}\":\"\","), LARGEST)
            ),
        ),
        (
            "owners",
            format!("{{\"metadata\":{{\"ownerReferences\":[{}{{}}]}}}}", of("{\"kind\":\"\"},", LARGEST)),
        ),
        (
            "managed",
            format!(
                "{{\"metadata\":{{\"managedFields\":[{}{{}}]}}}}",
                of("{\"manager\":\"gatehouse\"},", LARGEST)
            ),
        ),
        ("deep", format!("{{\"spec\":{{\"values\":{}{}}}}}", of("[", LARGEST / 2), of("]", LARGEST / 2))),
        ("fields", format!("{{{}\"x\":0}}", numbered(|n| format!("\"{n}\":0,"), LARGEST))),
    ]
}

/// Has reviews of the largest size answered, several at a time; none is admitted because of its size.
async fn reviews(gate: &Gate) -> anyhow::Result<()> {
    let outline = creation(NAMESPACE, &release("a", &json!({})));
    let mut bodies = Vec::new();
    for (what, object) in contents() {
        let mut review = outline.clone();
        review["request"]["object"] = json!("OBJECT");
        bodies.push((what, review.to_string().replacen("\"OBJECT\"", &object, 1)));
    }
    let mut groups = outline;
    groups["request"]["userInfo"]["groups"] = json!("GROUPS");
    let many = format!("[{}\"\"]", "\"\",".repeat(LARGEST / 3));
    bodies.push(("groups", groups.to_string().replacen("\"GROUPS\"", &many, 1)));
    let mut answered = 0;
    for (what, body) in bodies {
        for path in ["/validate", "/mutate", "/quota"] {
            let body: Arc<str> = body.as_str().into();
            let asked = (0..REVIEWS).map(|_| post(&gate.replicas[0], path, body.to_string()));
            for answer in futures::future::join_all(asked).await {
                // On a busy machine a body may be too slow, and is cut.
                let Ok(answer) = answer else { continue };
                match answer {
                    Ok(answer) => {
                        ensure!(answer.contains("\"uid\""), "{what} at {path}: {answer}");
                        answered += 1;
                    }
                    // No review, or no room for its body in time.
                    Err(why) => {
                        ensure!(why.starts_with('4') || why.starts_with("504"), "{what} at {path}: {why}");
                    }
                }
            }
        }
    }
    progress::say(format_args!("{answered} reviews of 7 MiB were answered"));
    ensure!(answered > contents().len(), "{answered}");
    Ok(())
}

/// Prints the most memory that the process took so far, and sees that it is not too much.
fn within(what: &str, replica: &Gatehouse) -> anyhow::Result<()> {
    let Memory { resident, peak, .. } = Process(replica.process().context("it runs")?.pid()?).memory()?;
    progress::say(format_args!("memory, {what}: {} MiB, {} MiB at most so far", resident >> 20, peak >> 20));
    ensure!(peak < MEMORY, "{what}: {} MiB", peak >> 20);
    Ok(())
}
