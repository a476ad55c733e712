//! The tenants of the storm, their limits, and what they really take up, counted anew by a rule of this file's own.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use gatehouse_apiservice::quantity::Quantity;
use serde_json::{Value, json};

/// Label of a tenant's namespaces.
const TENANT: &str = "gatehouse.dev/tenant";
/// The tenants; each has as many namespaces.
pub(super) const TENANTS: [&str; 3] = ["red", "green", "blue"];
const NAMESPACES: usize = 2;

/// How often a list is asked for.
const ATTEMPTS: usize = 5;

const AGONES: &str = "/apis/agones.dev/v1";
const POLICY: &str = "/apis/policy.gatehouse.dev/v1alpha1";

/// What is limited, in whole units: servers and objects, thousandths of cores, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) config_maps: i128,
    pub(super) fleets: i128,
    pub(super) game_servers: i128,
    pub(super) millicores: i128,
    pub(super) bytes: i128,
}

/// A TenantQuota.
pub(super) struct Quota {
    pub(super) name: &'static str,
    /// Whose; more than one, for the quota that lies over others.
    tenants: &'static [&'static str],
    hard: Amounts,
}

/// One for each tenant, and one over two of them that is tighter than their own together.
pub(super) const QUOTAS: [Quota; 4] = [
    Quota { name: "storm-red", tenants: &["red"], hard: hard(24, 6000, 6) },
    Quota { name: "storm-green", tenants: &["green"], hard: hard(30, 5000, 8) },
    Quota { name: "storm-blue", tenants: &["blue"], hard: hard(18, 9000, 4) },
    Quota { name: "storm-red-and-green", tenants: &["green", "red"], hard: hard(40, 8000, 10) },
];

const fn hard(game_servers: i128, millicores: i128, fleets: i128) -> Amounts {
    Amounts { config_maps: 9, fleets, game_servers, millicores, bytes: game_servers * (160 << 20) }
}

impl Amounts {
    /// By the key of `spec.hard`, in thousandths.
    fn by_key(self) -> [(&'static str, i128); 5] {
        [
            ("count/configmaps", self.config_maps * 1000),
            ("count/fleets.agones.dev", self.fleets * 1000),
            ("gameservers", self.game_servers * 1000),
            ("requests.cpu", self.millicores),
            ("requests.memory", self.bytes * 1000),
        ]
    }

    fn add(&mut self, other: Self) {
        self.config_maps += other.config_maps;
        self.fleets += other.fleets;
        self.game_servers += other.game_servers;
        self.millicores += other.millicores;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config_maps, fleets, game_servers, millicores, bytes } = self;
        write!(
            f,
            "{fleets} fleets, {game_servers} servers, {millicores}m, {} Mi, {config_maps} ConfigMaps",
            bytes >> 20
        )
    }
}

/// Every namespace, with its tenant.
pub(super) fn namespaces() -> Vec<(String, &'static str)> {
    let of = |tenant: &'static str| (0..NAMESPACES).map(move |number| (format!("{tenant}-{number}"), tenant));
    TENANTS.into_iter().flat_map(of).collect()
}

/// The namespaces and the quotas.
pub(super) fn objects() -> Vec<Value> {
    let namespace = |(name, tenant): (String, &str)| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {TENANT: tenant}}});
    let quota = |quota: &Quota| {
        let hard: BTreeMap<_, _> =
            quota.hard.by_key().into_iter().map(|(key, milli)| (key, format!("{milli}m"))).collect();
        json!({
            "apiVersion": "policy.gatehouse.dev/v1alpha1", "kind": "TenantQuota",
            "metadata": {"name": quota.name},
            "spec": {
                "namespaceSelector": {
                    "matchExpressions": [{"key": TENANT, "operator": "In", "values": quota.tenants}],
                },
                "hard": hard,
            },
        })
    };
    namespaces().into_iter().map(namespace).chain(QUOTAS.iter().map(quota)).collect()
}

/// Reads an object or a list. kube-apiserver has a short time limit for requests here, and a busy machine misses it now
/// and then.
pub(super) async fn get(client: &kube::Client, path: &str) -> anyhow::Result<Value> {
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match client.request(http::Request::get(path).body(Vec::new())?).await {
            Err(kube::Error::Api(status)) if status.code == 504 && attempts > 0 => {}
            answer => return answer.with_context(|| path.to_owned()),
        }
    }
}

/// What a tenant really takes up, and what the objects are called.
pub(super) async fn usage(client: &kube::Client) -> anyhow::Result<BTreeMap<&'static str, Amounts>> {
    let each = namespaces().into_iter().map(async |(namespace, tenant)| {
        let lists = [
            format!("{AGONES}/namespaces/{namespace}/fleets"),
            format!("{AGONES}/namespaces/{namespace}/gameservers"),
            format!("/api/v1/namespaces/{namespace}/configmaps"),
        ];
        let lists = try_join_all(lists.iter().map(|path| get(client, path))).await?;
        let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
        let mut sum = Amounts { config_maps: count(&items(&lists[2])), ..Amounts::default() };
        for fleet in items(&lists[0]) {
            let replicas = i128::from(fleet["spec"]["replicas"].as_i64().unwrap_or_default());
            let pod = &fleet["spec"]["template"]["spec"]["template"]["spec"];
            sum.add(Amounts { fleets: 1, ..servers(pod, replicas)? });
        }
        for server in items(&lists[1]) {
            sum.add(servers(&server["spec"]["template"]["spec"], 1)?);
        }
        anyhow::Ok((tenant, sum))
    });
    let mut tenants: BTreeMap<&'static str, Amounts> = BTreeMap::new();
    for (tenant, amounts) in try_join_all(each).await? {
        tenants.entry(tenant).or_default().add(amounts);
    }
    Ok(tenants)
}

fn count(items: &[Value]) -> i128 {
    i128::try_from(items.len()).unwrap_or(i128::MAX)
}

/// Game servers of one container each, which the storm always asks for as `…m` and `…Mi`.
fn servers(pod: &Value, replicas: i128) -> anyhow::Result<Amounts> {
    let requests = &pod["containers"][0]["resources"]["requests"];
    let number = |field: &str, unit: &str| {
        let text = requests[field].as_str().and_then(|text| text.strip_suffix(unit));
        text.with_context(|| format!("{field} of {pod}"))?.parse::<i128>().context("a number")
    };
    Ok(Amounts {
        game_servers: replicas,
        millicores: replicas * number("cpu", "m")?,
        bytes: replicas * (number("memory", "Mi")? << 20),
        ..Amounts::default()
    })
}

/// What a quota and its ledger say, beside the truth.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) truth: Amounts,
    /// None: there is no ledger at the moment.
    used: Option<BTreeMap<String, i128>>,
    reserved: BTreeMap<String, i128>,
    blocks: Vec<Value>,
    bytes: usize,
}

/// A ledger is no larger than this.
const MOST_BYTES: usize = 16 << 10;

impl Quota {
    /// How it stands. The truth is read first: what is in it must be in the ledger by then.
    pub(super) async fn standing(
        &self,
        client: &kube::Client,
        usage: &BTreeMap<&'static str, Amounts>,
    ) -> anyhow::Result<Standing> {
        let mut truth = Amounts::default();
        for tenant in self.tenants {
            truth.add(usage.get(tenant).copied().unwrap_or_default());
        }
        let ledger = match get(client, &format!("{POLICY}/quotaledgers/{}", self.name)).await {
            Err(error) if is_missing(&error) => Value::Null,
            ledger => ledger?,
        };
        let spec = &ledger["spec"];
        let mut reserved: BTreeMap<String, i128> = BTreeMap::new();
        let texts = spec["entries"].as_object().into_iter().flatten().filter(|(name, _)| **name != "seal");
        let blocks: Vec<Value> = texts
            .map(|(_, text)| serde_json::from_str(text.as_str().unwrap_or_default()))
            .collect::<Result<_, _>>()?;
        for block in &blocks {
            for (key, held) in milli(&block["peak"])? {
                *reserved.entry(key).or_default() += held;
            }
        }
        let used = is_sealed(&ledger).then(|| milli(&spec["used"])).transpose()?;
        Ok(Standing { truth, used, reserved, blocks, bytes: spec.to_string().len() })
    }

    /// Nothing is beyond its limit, and nothing is missing from the ledger.
    pub(super) fn holds(&self, standing: &Standing) -> anyhow::Result<()> {
        ensure!(standing.bytes <= MOST_BYTES, "{}: the ledger takes {} bytes", self.name, standing.bytes);
        for ((key, truth), (_, hard)) in standing.truth.by_key().into_iter().zip(self.hard.by_key()) {
            ensure!(
                truth <= hard,
                "{}: {key} is {truth}, beyond {hard} (thousandths): {standing:#?}",
                self.name
            );
            let Some(used) = &standing.used else { continue };
            let known = of(used, key) + of(&standing.reserved, key);
            ensure!(
                known >= truth,
                "{}: {key} is {truth}, the ledger knows of {known}: {standing:#?}",
                self.name
            );
        }
        Ok(())
    }

    /// How full it is, in percent of the tightest limit.
    pub(super) fn filled(&self, standing: &Standing) -> i128 {
        let parts = standing.truth.by_key().into_iter().zip(self.hard.by_key());
        parts.map(|((_, truth), (_, hard))| truth * 100 / hard).max().unwrap_or_default()
    }
}

impl Standing {
    /// Whether the ledger says what is true, and nothing more.
    pub(super) fn is_settled(&self) -> bool {
        let is_true = |used: &BTreeMap<_, _>| {
            self.truth.by_key().into_iter().all(|(key, truth)| of(used, key) == truth)
        };
        self.blocks.is_empty() && self.used.as_ref().is_some_and(is_true)
    }
}

/// Whether the ledger's seal names its uid and generation. Replicas admit nothing upon one that was deleted and is made
/// again until it has a seal, so what it says until then is not judged.
fn is_sealed(ledger: &Value) -> bool {
    let text = ledger["spec"]["entries"]["seal"].as_str().unwrap_or_default();
    let seal: Value = serde_json::from_str(text).unwrap_or_default();
    let metadata = &ledger["metadata"];
    seal["name"].is_string() && seal["name"] == metadata["uid"] && seal["ticket"] == metadata["generation"]
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}

/// Deletes the ledger of a quota.
pub(super) async fn delete_ledger(client: &kube::Client, quota: &str) -> anyhow::Result<()> {
    let request = http::Request::delete(format!("{POLICY}/quotaledgers/{quota}")).body(Vec::new())?;
    match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).context("a ledger"),
    }
}

fn of(amounts: &BTreeMap<String, i128>, key: &str) -> i128 {
    amounts.get(key).copied().unwrap_or_default()
}

fn milli(amounts: &Value) -> anyhow::Result<BTreeMap<String, i128>> {
    let each = amounts.as_object().into_iter().flatten().map(|(key, amount)| {
        let amount: Quantity = amount.as_str().context("a quantity is text")?.parse()?;
        anyhow::Ok((key.clone(), amount.milli()))
    });
    each.collect()
}
