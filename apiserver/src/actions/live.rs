//! A Flux object as the cluster has it, and what of it decides about an action.

use gatehouse_apiservice::annotation;
use gatehouse_inventory::Suspension;
use gatehouse_serving::ApiError;
use serde_json::Value;

use super::{body::Preconditions, target::Target};

/// The object.
#[derive(Debug, Clone)]
pub(super) struct Live(pub(super) Value);

impl Live {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    pub(super) fn uid(&self) -> &str {
        self.text("/metadata/uid").unwrap_or_default()
    }

    pub(super) fn version(&self) -> &str {
        self.text("/metadata/resourceVersion").unwrap_or_default()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.0.pointer("/metadata/annotations")?.get(name)?.as_str()
    }

    pub(super) fn is_suspended(&self, suspension: Suspension) -> bool {
        let suspend = self.0.pointer("/spec/suspend").and_then(Value::as_bool);
        suspension.is_in_force(suspend, |name| self.annotation(name))
    }

    /// The freeze that holds it.
    pub(super) fn frozen_by(&self, suspension: Suspension) -> Option<&str> {
        self.annotation(annotation::FROZEN_BY).filter(|_| self.is_suspended(suspension))
    }

    fn is_terminating(&self) -> bool {
        self.0.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
    }

    /// 409 if it is being deleted, or is not the object that the client means.
    pub(super) fn ensure_acted_on(&self, target: &Target, wanted: &Preconditions) -> Result<(), ApiError> {
        let conflict = |why: String| Err(ApiError::conflict(target.subject(), why));
        if let Some(uid) = wanted.uid.as_deref().filter(|uid| *uid != self.uid()) {
            return conflict(format!(
                "the UID in the precondition ({uid}) does not match that of the object ({}), which its suspension shows",
                self.uid()
            ));
        }
        if let Some(version) = wanted.resource_version.as_deref().filter(|version| *version != self.version())
        {
            return conflict(format!(
                "the resourceVersion in the precondition ({version}) does not match that of the object ({}), which its \
                 suspension shows",
                self.version()
            ));
        }
        if self.is_terminating() {
            return conflict("it is being deleted".to_owned());
        }
        Ok(())
    }

    /// 409 if it is suspended: its controller would ignore the request.
    pub(super) fn ensure_running(&self, target: &Target) -> Result<(), ApiError> {
        if !self.is_suspended(target.suspension()) {
            return Ok(());
        }
        let why = match self.frozen_by(target.suspension()) {
            Some(freeze) => {
                format!("it is suspended by the freeze {freeze}, and its controller ignores requests")
            }
            None => "it is suspended, and its controller ignores requests: resume it first".to_owned(),
        };
        Err(ApiError::conflict(target.subject(), why))
    }

    /// 405 if its controller does not reconcile this object, whatever others of its kind.
    pub(super) fn ensure_reconciled(&self, target: &Target) -> Result<(), ApiError> {
        if target.kind == "HelmRepository" && self.text("/spec/type") == Some("oci") {
            let why = "a HelmRepository of type oci is not reconciled: what uses it reads the registry";
            return Err(ApiError::not_supported(why));
        }
        Ok(())
    }

    /// Where it takes its content from: kind, namespace and name, the first to reconcile first.
    pub(super) fn sources(&self, target: &Target) -> Vec<(String, String, String)> {
        let reference = |value: &Value, kind: &str| {
            let field = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            let kind = field("kind").unwrap_or(kind).to_owned();
            let namespace = field("namespace").unwrap_or(&target.namespace).to_owned();
            Some((kind, namespace, field("name")?.to_owned()))
        };
        let at = |pointer: &str, kind: &str| self.0.pointer(pointer).and_then(|value| reference(value, kind));
        match target.kind.as_str() {
            "ImagePolicy" => at("/spec/imageRepositoryRef", "ImageRepository").into_iter().collect(),
            "ArtifactGenerator" => {
                let sources = self.0.pointer("/spec/sources").and_then(Value::as_array);
                sources.into_iter().flatten().filter_map(|source| reference(source, "")).collect()
            }
            "HelmRelease" => {
                let chart = self.text("/status/helmChart").and_then(|chart| chart.split_once('/'));
                let chart = chart
                    .map(|(namespace, name)| ("HelmChart".to_owned(), namespace.to_owned(), name.to_owned()));
                match at("/spec/chartRef", "") {
                    Some(chart) => vec![chart],
                    None => at("/spec/chart/spec/sourceRef", "").into_iter().chain(chart).collect(),
                }
            }
            _ => at("/spec/sourceRef", "").into_iter().collect(),
        }
    }
}
