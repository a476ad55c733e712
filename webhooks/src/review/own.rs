//! Gatehouse's own kinds: a quota or a policy that does not compile is refused when it is written, field by field.

use std::borrow::Cow;

use gatehouse_apiserver::ApiError;
use gatehouse_apiserver::error::{FieldProblem, Subject};
use gatehouse_apiservice::policy::{FieldError, GROUP, ReconcilePolicy, TenantQuota};
use gatehouse_policy::Policy;
use gatehouse_quota::CompiledQuota;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::request::{Operation, Request};

/// Whether a request is about one of Gatehouse's own kinds.
pub(super) fn is_own(request: &Request<'_>) -> bool {
    request.resource.group == GROUP
}

/// Says whether what is written can be enforced. What is deleted, or is only the status of something, always goes.
pub(super) async fn compile(request: &Request<'_>) -> Result<(), ApiError> {
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
        "tenantquotas" => problems::<TenantQuota, _>(object, CompiledQuota::compile),
        "reconcilepolicies" => {
            // Compiling CEL takes more stack than is safe to take here, and more time than others should wait for.
            let text = object.to_owned();
            tokio::task::spawn_blocking(move || problems::<ReconcilePolicy, _>(&text, Policy::compile_new))
                .await
                .map_err(|_| {
                    ApiError::internal("compiling the policy ended in a panic, which has been logged")
                })?
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
    compile: fn(&T) -> Result<C, Vec<FieldError>>,
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
