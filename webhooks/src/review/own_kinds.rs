//! Compiles quotas and policies when they are written.
//!
//! **Invariant:** a new spec that does not compile is denied, with an error for each field.

use std::borrow::Cow;

use gatehouse_apiservice::client::explain;
use gatehouse_apiservice::policy::{FieldError, GROUP, ReconcilePolicy, TenantQuota};
use gatehouse_policy::{Operation, Policy};
use gatehouse_quota::{CompiledQuota, Dimension, NO_NAMESPACE, NO_OBJECTS, uncountable};
use gatehouse_serving::ApiError;
use gatehouse_serving::error::{FieldProblem, Subject};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::LATER;
use super::request::Request;
use crate::world::{Countable, Live};

/// Whether a request is about one of Gatehouse's own kinds.
pub(super) fn is_own(request: &Request<'_>) -> bool {
    request.resource.group == GROUP
}

/// Denies a quota or a policy that cannot be enforced. Deletions and subresources such as status are always admitted.
/// `namespace` is Gatehouse's own.
pub(super) async fn compile(request: &Request<'_>, live: &Live, namespace: &str) -> Result<(), ApiError> {
    let Some(object) =
        request.object.filter(|_| request.is_whole() && request.operation != Operation::Delete)
    else {
        return Ok(());
    };
    // An invalid spec can exist only from before a rule became stricter. Such an object may still be labelled and
    // deleted.
    if request.old_object.is_some_and(|old| spec(old).is_some_and(|old| Some(old) == spec(object))) {
        return Ok(());
    }
    let problems = match &*request.resource.resource {
        "tenantquotas" => match problems::<TenantQuota, _>(object, CompiledQuota::compile) {
            problems if problems.is_empty() => uncounted(object, live).await?,
            problems => problems,
        },
        "reconcilepolicies" => {
            // Compiling CEL takes more stack than is safe to use here, and more time than other requests should wait.
            let (text, namespace) = (object.to_owned(), namespace.to_owned());
            let compile =
                move || problems::<ReconcilePolicy, _>(&text, |policy| compile_policy(policy, &namespace));
            tokio::task::spawn_blocking(compile)
                .await
                .map_err(|_| ApiError::internal("compiling the policy panicked; see the log"))?
        }
        _ => return Ok(()),
    };
    if problems.is_empty() {
        return Ok(());
    }
    let name = if request.name.is_empty() { Cow::Borrowed("") } else { Cow::clone(&request.name) };
    let subject = Subject { group: GROUP, resource: &request.kind.kind, name: &name };
    Err(ApiError::invalid_object(subject, &problems))
}

/// As [`Policy::compile_new`], and parameters may only be read from `namespace`.
fn compile_policy(policy: &ReconcilePolicy, namespace: &str) -> Result<(), Vec<FieldError>> {
    let mut errors = Policy::compile_new(policy).err().unwrap_or_default();
    if let Some(of) = policy.spec.param_ref.as_ref().filter(|of| of.namespace != namespace) {
        let why =
            format!("must be {namespace}, the namespace of Gatehouse: it reads ConfigMaps nowhere else");
        errors.push(FieldError::new("spec.paramRef.namespace", &of.namespace, why));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The resources of a quota that cannot be counted: it would claim to enforce a limit and enforce nothing. A quota
/// that exists already goes on enforcing its other limits.
async fn uncounted(object: &RawValue, live: &Live) -> Result<Vec<FieldProblem>, ApiError> {
    let mut problems = Vec::new();
    let quota: TenantQuota = serde_json::from_str(object.get())
        .map_err(|error| ApiError::bad_request(format!("request.object: {error}")))?;
    for key in quota.spec.hard.keys() {
        let Ok(Dimension::Count(resource)) = key.parse() else { continue };
        let why = match uncountable(&resource) {
            Some(why) => Some(why),
            None => match live.is_countable(&resource).await {
                Ok(Some(Countable::WithoutNamespace)) => Some(NO_NAMESPACE),
                Ok(Some(Countable::WithoutObjects)) => Some(NO_OBJECTS),
                // A resource that is not served yet may be served later; the quota's status says so until then.
                Ok(Some(Countable::Yes) | None) => None,
                Err(error) => {
                    tracing::warn!(%resource, error = %explain(&error), "cannot find out whether it can be counted");
                    let why = format!(
                        "spec.hard[{key}]: cannot find out whether {resource} can be counted: try again"
                    );
                    return Err(ApiError::try_again(why, LATER));
                }
            },
        };
        problems.extend(why.map(|why| of_field(&FieldError::new(format!("spec.hard[{key}]"), key, why))));
    }
    Ok(problems)
}

/// The text of `spec`. kube-apiserver serializes equal specs to equal text.
fn spec(object: &RawValue) -> Option<&str> {
    #[derive(serde::Deserialize)]
    struct Specified<'a> {
        #[serde(borrow)]
        spec: &'a RawValue,
    }
    serde_json::from_str(object.get()).ok().map(|Specified { spec }| spec.get())
}

fn problems<T: DeserializeOwned, C>(
    object: &RawValue,
    compile: impl Fn(&T) -> Result<C, Vec<FieldError>>,
) -> Vec<FieldProblem> {
    let mut json = serde_json::Deserializer::from_str(object.get());
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => {
            let message = format!("Invalid value: {}", error.inner());
            vec![problem(error.path().to_string(), message)]
        }
        Ok(object) => match compile(&object) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(of_field).collect(),
        },
    }
}

fn of_field(error: &FieldError) -> FieldProblem {
    let text = error.to_string();
    let message = text.strip_prefix(&error.field).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text);
    problem(error.field.clone(), message.to_owned())
}

fn problem(field: String, message: String) -> FieldProblem {
    FieldProblem { field: field.into(), reason: "FieldValueInvalid", message }
}
