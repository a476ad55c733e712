//! Admission reviews, from their bytes to the verdict.

use std::sync::LazyLock;

use futures::FutureExt;
use gatehouse_apiservice::policy::{FieldError, GROUP, ReconcilePolicy, TenantQuota};
use gatehouse_policy::{
    Accounts, Case, Dependencies, Kind, ObjectName, Policy, Subject, defaults, depends_on,
};
use gatehouse_quota::{CompiledQuota, GroupResource, NoTemplates, Quantity, usage};
use gatehouse_webhooks::review::{Answer, Request, Unreadable};
use http_body_util::BodyExt;
use serde_json::{Value, value::RawValue};

/// Bytes that kube-apiserver, or anybody in its place, sends. Nothing but a review is read as one, and whatever it is
/// about is judged without harm: what does not make sense is refused in words.
pub fn review(bytes: &[u8]) {
    match Request::parse(bytes) {
        Ok(request) => read(bytes, &request),
        Err(Unreadable::Refused { uid, why }) => {
            assert!(!uid.is_empty(), "an answer names the review");
            assert!(why.code().is_client_error(), "{why}");
            let answer = answered(Answer::refused(why), &uid);
            assert_eq!(answer["response"]["allowed"], false, "{answer}");
        }
        Err(Unreadable::NotAReview(why)) => assert!(why.code().is_client_error(), "{why}"),
    }
}

fn read(bytes: &[u8], request: &Request<'_>) {
    // What nobody looks at may be deeper than a value can be, and no text.
    if let Ok(whole) = serde_json::from_slice::<Value>(bytes) {
        assert_eq!(whole["kind"], "AdmissionReview");
        assert_eq!(whole["apiVersion"], "admission.k8s.io/v1");
    }
    assert!(!request.uid.is_empty(), "a review has a uid");
    answered(Answer::allowed(), &request.uid);
    let parsed = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let (new, old) = (parsed(request.object), parsed(request.old_object));
    for object in new.iter().chain(&old) {
        charged(request, object);
        own(request, object);
    }
    judged(request, new, old);
}

fn answered(answer: Answer, uid: &str) -> Value {
    let response = answer.into_response(uid);
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().now_or_never().expect("an answer is there at once");
    let body = body.unwrap_or_else(|error| panic!("an answer cannot fail: {error:?}")).to_bytes();
    let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    assert_eq!(answer["response"]["uid"], uid);
    answer
}

/// What an object takes up is never less than nothing.
fn charged(request: &Request<'_>, object: &Value) {
    let resource = GroupResource::new(&request.resource.group, &request.resource.resource);
    if let Ok(usage) = usage(&resource, object, &NoTemplates) {
        for (dimension, amount) in &usage.amounts {
            assert!(*amount >= Quantity::ZERO, "{dimension}={amount}");
        }
    }
}

/// Policies and quotas themselves: what does not compile is refused by field.
fn own(request: &Request<'_>, object: &Value) {
    if request.resource.group != GROUP {
        return;
    }
    let named = |errors: Vec<FieldError>| {
        assert!(!errors.is_empty(), "what is refused is refused for a reason");
        assert!(errors.iter().all(|error| error.field.starts_with("spec")), "{errors:?}");
    };
    match &*request.resource.resource {
        "reconcilepolicies" => {
            if let Ok(policy) = serde_json::from_value::<ReconcilePolicy>(object.clone()) {
                Policy::compile(&policy).map_or_else(named, drop);
            }
        }
        "tenantquotas" => {
            if let Ok(quota) = serde_json::from_value::<TenantQuota>(object.clone()) {
                CompiledQuota::compile(&quota).map_or_else(named, drop);
            }
        }
        _ => {}
    }
}

/// One with every rule and default.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let policy = serde_json::json!({
        "apiVersion": "policy.gatehouse.dev/v1alpha1",
        "kind": "ReconcilePolicy",
        "metadata": {"name": "all"},
        "spec": {
            "rules": {
                "interval": {"min": "1m", "max": "1h"},
                "serviceAccountName": {"required": true, "allowed": ["flux-*"]},
                "crossNamespaceRefs": "Forbid",
                "sources": {"allowed": ["https://github.com/my-org/*", "oci://*.example.com/**", "ssh://git@github.com/**"]},
                "targetNamespaces": {"allowed": ["team-*"]},
                "prune": "Required",
                "dependencyCycles": "Forbid",
                "suspension": {"requireReason": true, "maxDuration": "24h"},
                "freezes": [{"name": "w", "schedule": "0 18 * * FRI", "duration": "62h", "timeZone": "Europe/Berlin"}],
                "replicas": {"max": 50},
                "verbs": "Authorize",
                "cel": [{"expression": "!has(object.spec.timeout) || object.spec.timeout != ''", "message": "m"}],
            },
            "defaults": {
                "interval": "10m", "timeout": "5m", "retryInterval": "2m", "prune": true, "serviceAccountName": "flux-x",
                "labels": {"gatehouse.dev/managed": "true"},
                "gameServerResources": {"requests": {"cpu": "500m", "memory": "512Mi"}},
            },
        },
    });
    let policy = serde_json::from_value(policy).expect("the policy has its shape");
    Policy::compile(&policy).unwrap_or_else(|errors| panic!("{errors:?}"))
});

fn judged(request: &Request<'_>, new: Option<Value>, old: Option<Value>) {
    let Some(kind) = Kind::of_resource(&request.resource.group, &request.resource.resource) else { return };
    let subject = |object| Subject::new(kind, &request.namespace, &request.name, object);
    let (new, old) = (new.map(subject), old.map(subject));
    let accounts = Accounts::default();
    let case = Case {
        operation: request.operation,
        subresource: None,
        object: new.as_ref(),
        old: old.as_ref(),
        scaling: None,
        user: Some(&request.user_info),
        field_manager: None,
        now: jiff::Timestamp::UNIX_EPOCH,
        accounts: &accounts,
    };
    for violation in POLICY.judge(&case, &Everything(new.as_ref())) {
        assert!(!violation.rule.is_empty() && !violation.message.is_empty(), "{violation:?}");
    }
    drop(POLICY.required_verbs(&case));
    let Some(object) = &new else { return };
    drop(POLICY.audit(object, &Everything(new.as_ref())));
    // Filling in is done once: the second time there is nothing left to fill in.
    let mut filled = object.clone();
    let patch = defaults(&[&POLICY], &case);
    json_patch::patch(&mut filled.object, &patch).expect("a patch applies to what it was made for");
    let again = defaults(&[&POLICY], &Case { object: Some(&filled), ..case });
    assert!(again.0.is_empty(), "{again:?} after {patch:?}");
}

/// Every object depends on what the object under review does.
struct Everything<'a>(Option<&'a Subject>);

impl Dependencies for Everything<'_> {
    fn depends_on(&self, _of: &ObjectName) -> Option<Vec<ObjectName>> {
        self.0.map(depends_on)
    }
}
