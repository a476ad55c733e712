//! Charges requests to the quotas of their namespaces.
//!
//! **Invariant:** a request that policies deny is not charged, unless only a right is missing.

use std::sync::Arc;

use gatehouse_apiservice::policy::{self, Enforcement};
use gatehouse_policy::{Accounts, Operation};
use gatehouse_quota::{CompiledQuota, GroupResource, is_charged};
use gatehouse_serving::ApiError;
use gatehouse_serving::authz::Target;
use gatehouse_serving::events::{Level, Notice};
use http::StatusCode;
use tokio::time::Instant;

use super::LATER;
use super::answer::{Annotation, Answer};
use super::judge::Judge;
use super::messages::regarding;
use super::object::Looks;
use super::request::Request;
use super::templates::is_template;
use crate::quota::{Admission, QuotaRequest, Quotas, Refusal, Requester, Verdict, released};

/// kube-apiserver sends a Namespace as if it were inside itself.
const NAMESPACES: &str = "namespaces";

/// The reason of Events about quota decisions.
const REASON: &str = "QuotaExceeded";

impl Judge {
    /// Judges a request by the quotas that select its namespace.
    pub(super) async fn charge(&self, request: &Request<'_>, until: Instant) -> Result<Answer, ApiError> {
        if is_template(&request.resource) {
            return self.keep_template(request).await;
        }
        // A deletion is credited when the object is observed to be gone.
        if request.operation == Operation::Delete && !request.orphans() {
            return Ok(Answer::allowed());
        }
        let is_namespace = request.resource.group.is_empty() && request.resource.resource == NAMESPACES;
        if request.namespace.is_empty() || is_namespace {
            return Ok(Answer::allowed());
        }
        let resource = GroupResource::new(&request.resource.group, &request.resource.resource);
        let snapshot = self.known()?;
        let info = self.namespace(&snapshot, &request.namespace).await?;
        let over = snapshot.quotas_over(&info.labels);
        let is_judged = snapshot.policies.iter().any(|policy| policy.selects(&info.labels));
        drop(snapshot);
        if !Quotas::concerned(&over, &resource) {
            return Ok(Answer::allowed());
        }
        // kube-apiserver calls the policy webhook and the quota webhook at the same time. A request that a policy
        // denies must not be charged: a client that repeats it would take room from others until the charges expire.
        if is_judged && let Some(refusal) = self.foreseen(request, until).await? {
            return Ok(refusal);
        }
        // An object that is only counted may have any shape.
        let looks = if takes_up(&resource) { Looks::Fields } else { Looks::Metadata };
        let (objects, _room) = self.read(request, looks).await?;
        let (object, old) = (objects.object.map(|read| read.value), objects.old.map(|read| read.value));
        let requester = self.requester(request)?;
        if let (Some(object), Some(old), Requester::Other) = (&object, &old, requester)
            && let Some((field, why)) = released(&resource, object, old)
        {
            let refusal = |quota: &str| {
                format!(
                    "{field}: Forbidden: {why}, and the quota {quota} counts it as long: delete it instead"
                )
            };
            self.may_release(request, &over, refusal).await?;
        }
        let quota_request = QuotaRequest {
            requester,
            operation: request.operation,
            resource: &resource,
            version: &request.resource.version,
            subresource: &request.sub_resource,
            namespace: &request.namespace,
            object: object.as_ref(),
            old: old.as_ref(),
            user: &request.user_info.name,
            dry_run: request.dry_run,
            until,
        };
        let verdict = self.quotas.review(&over, quota_request).await;
        self.record_quota_event(request, &verdict);
        Ok(answer(verdict))
    }

    /// Denies a request by which something that runs would count no longer, unless the user may update the quotas that
    /// deny: an administrator removes finalizers if Agones is gone.
    pub(super) async fn may_release(
        &self,
        request: &Request<'_>,
        over: &[Arc<CompiledQuota>],
        refusal: impl Fn(&str) -> String,
    ) -> Result<(), ApiError> {
        for quota in over.iter().filter(|quota| quota.enforcement == Enforcement::Deny) {
            let target = Target {
                group: policy::GROUP,
                version: policy::VERSION,
                resource: "tenantquotas",
                subresource: "",
                namespace: "",
                name: &quota.name,
            };
            match self.access.check(&request.user_info, "update", target).await {
                Ok(()) => {}
                Err(why) if why.code() == StatusCode::FORBIDDEN => {
                    return Err(ApiError::unprocessable(refusal(&quota.name)));
                }
                Err(_) => {
                    let why = format!(
                        "whether the quota {} may be changed could not be asked for: try again",
                        quota.name
                    );
                    return Err(ApiError::try_again(why, LATER));
                }
            }
        }
        Ok(())
    }

    fn requester(&self, request: &Request<'_>) -> Result<Requester, ApiError> {
        let user = &request.user_info;
        let accounts = &self.own_user.known()?.accounts;
        Ok(if accounts.is_agones(user) {
            Requester::Agones
        } else if Accounts::is_collector(user) {
            Requester::Collector
        } else {
            Requester::Other
        })
    }

    /// Makes an Event of a request that exceeds a quota, unless it is a dry run.
    fn record_quota_event(&self, request: &Request<'_>, verdict: &Verdict) {
        let (cause, note) = match verdict {
            Err(Refusal::Exceeded { message, quota }) => (quota.clone(), message.clone()),
            Ok(Admission { warnings, quotas, decision: Some(decision) }) => {
                let quotas = quotas.join(",");
                let note = match warnings.as_slice() {
                    [] => format!("exceeds a quota that does not deny, of {quotas}"),
                    warnings => warnings.join("; "),
                };
                (format!("{quotas}/{decision}"), note)
            }
            _ => return,
        };
        if !request.dry_run {
            let notice = Notice {
                regarding: regarding(request),
                level: Level::Warning,
                reason: REASON,
                action: "Admission",
                note,
                cause,
            };
            self.events.record(notice);
        }
    }
}

fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Ok(Admission { warnings, quotas, decision }) => {
            let answer = warnings.into_iter().fold(Answer::allowed(), Answer::warning);
            let answer =
                quotas.iter().fold(answer, |answer, quota| answer.annotated(Annotation::Quota, quota));
            match decision {
                Some(decision) => answer.annotated(Annotation::Decision, decision),
                None => answer,
            }
        }
        Err(Refusal::Exceeded { message, quota }) => Answer::refused(ApiError::denied(message))
            .annotated(Annotation::Quota, &quota)
            .annotated(Annotation::Decision, "exceeded"),
        Err(Refusal::Contended(message)) => {
            Answer::refused(ApiError::try_again(message, LATER)).annotated(Annotation::Decision, "contended")
        }
        Err(Refusal::Exists(message)) => Answer::refused(ApiError::already_exists(message)),
        Err(Refusal::Invalid(message)) => Answer::refused(ApiError::unprocessable(message)),
    }
}

/// Whether the content of an object determines its usage. An autoscaler is charged for what its fleet may reach.
fn takes_up(resource: &GroupResource) -> bool {
    is_charged(resource)
        || resource.is_claims()
        || gatehouse_policy::governed(&resource.group, &resource.resource)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Whether it is allowed, the code, and the annotations.
    fn shown(verdict: Verdict) -> (bool, Value, Value) {
        let response = super::super::answer::testing::response(answer(verdict));
        let code = response["status"]["code"].clone();
        (response["allowed"] == true, code, response["auditAnnotations"].clone())
    }

    #[test]
    fn each_verdict_has_its_code() {
        let exceeded = Err(Refusal::Exceeded { message: "no room".into(), quota: "a".into() });
        let annotations = serde_json::json!({"quota": "a", "decision": "exceeded"});
        assert_eq!(shown(exceeded), (false, 403.into(), annotations));
        let contended = serde_json::json!({"decision": "contended"});
        assert_eq!(shown(Err(Refusal::Contended("busy".into()))), (false, 429.into(), contended));
        assert_eq!(shown(Err(Refusal::Invalid("odd".into()))), (false, 422.into(), Value::Null));
        let admit = |decision| {
            Ok(Admission { quotas: vec!["a".into(), "b".into()], decision, ..Admission::default() })
        };
        assert_eq!(shown(admit(None)), (true, Value::Null, serde_json::json!({"quota": "a,b"})));
        let warned = serde_json::json!({"quota": "a,b", "decision": "warned"});
        assert_eq!(shown(admit(Some("warned"))), (true, Value::Null, warned));
    }
}
