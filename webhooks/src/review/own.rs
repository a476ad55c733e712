//! Gatehouse's own kinds: a quota or a policy that does not compile is refused when it is written, field by field.

use std::borrow::Cow;

use gatehouse_apiservice::client::explain;
use gatehouse_apiservice::policy::{FieldError, GROUP, ReconcilePolicy, TenantQuota};
use gatehouse_policy::Policy;
use gatehouse_quota::{CompiledQuota, Dimension, NO_NAMESPACE, NO_OBJECTS, uncountable};
use gatehouse_serving::ApiError;
use gatehouse_serving::error::{FieldProblem, Subject};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::LATER;
use super::request::{Operation, Request};
use crate::world::{Countable, Live};

/// Whether a request is about one of Gatehouse's own kinds.
pub(super) fn is_own(request: &Request<'_>) -> bool {
    request.resource.group == GROUP
}

/// Says whether what is written can be enforced. What is deleted, or is only the status of something, always goes.
/// `namespace`: Gatehouse's own.
pub(super) async fn compile(request: &Request<'_>, live: &Live, namespace: &str) -> Result<(), ApiError> {
    let Some(object) =
        request.object.filter(|_| request.is_whole() && request.operation != Operation::Delete)
    else {
        return Ok(());
    };
    // What was refused would be there only from before a rule was stricter. It may still be labelled, and go.
    if request.old_object.is_some_and(|old| spec(old).is_some_and(|old| Some(old) == spec(object))) {
        return Ok(());
    }
    let problems = match &*request.resource.resource {
        "tenantquotas" => match problems::<TenantQuota, _>(object, CompiledQuota::compile) {
            problems if problems.is_empty() => uncounted(object, live).await?,
            problems => problems,
        },
        "reconcilepolicies" => {
            // Compiling CEL takes more stack than is safe to take here, and more time than others should wait for.
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

/// As [`Policy::compile_new`]; parameters are read in `namespace` alone.
fn compile_policy(policy: &ReconcilePolicy, namespace: &str) -> Result<(), Vec<FieldError>> {
    let mut errors = Policy::compile_new(policy).err().unwrap_or_default();
    if let Some(of) = policy.spec.param_ref.as_ref().filter(|of| of.namespace != namespace) {
        let why =
            format!("must be {namespace}, the namespace of Gatehouse: it reads ConfigMaps nowhere else");
        errors.push(FieldError::new("spec.paramRef.namespace", &of.namespace, why));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What a quota counts and cannot be counted: it would say that it is enforced, and enforce nothing. A quota that is there
/// already goes on holding its other limits.
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
                // What is not served yet may come, and its status says so until then.
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

/// `spec` as it was sent. kube-apiserver writes equal ones alike.
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
