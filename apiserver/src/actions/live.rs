//! A Flux object as the cluster has it, and what of it decides about an action.

use gatehouse_apiservice::{FIELD_MANAGER, annotation};
use gatehouse_inventory::Suspension;
use gatehouse_serving::ApiError;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{body::Preconditions, target::Target};

/// How far the clocks of two processes may differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);

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

    /// Whether a note of its suspension was left by an earlier one, which an action made: somebody else has taken that
    /// away and suspended the object again. What `managedFields` do not say counts as unchanged.
    pub(super) fn is_left(&self, suspension: Suspension, note: &str) -> bool {
        let Some(own) = self.own_fields() else { return false };
        let owns =
            |name: &str| own["fieldsV1"]["f:metadata"]["f:annotations"].get(format!("f:{name}")).is_some();
        if !self.is_suspended(suspension) || !owns(note) {
            return false;
        }
        if owns(annotation::SUSPENDED_AT) {
            // An action writes it together with the suspension, so that both have one owner as long as they are the same.
            return match suspension {
                Suspension::Field => own["fieldsV1"]["f:spec"].get("f:suspend").is_none(),
                Suspension::Annotation(name) => !owns(name),
                Suspension::Never => false,
            };
        }
        // Admission has noted the start of another suspension.
        let time = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
        let since = time(self.annotation(annotation::SUSPENDED_AT));
        since.zip(time(own["time"].as_str())).is_some_and(|(since, at)| since.duration_since(at) > CLOCKS)
    }

    /// The entry of `managedFields` of what actions have written last.
    fn own_fields(&self) -> Option<&Value> {
        let mut entries = self.0.pointer("/metadata/managedFields")?.as_array()?.iter();
        entries.find(|entry| {
            let is_of_object = entry["subresource"].as_str().is_none_or(str::is_empty);
            entry["manager"] == FIELD_MANAGER && entry["operation"] == "Update" && is_of_object
        })
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

#[cfg(test)]
mod tests {
    use gatehouse_apiservice::annotation::{SUSPEND_REASON, SUSPENDED_AT, SUSPENDED_BY, SUSPENDED_UNTIL};
    use gatehouse_inventory::OPERATOR_ANNOTATION;
    use serde_json::json;

    use super::*;

    /// A suspended object with these notes, of which an action has written `owned` at 10:00.
    fn suspended(since: &str, owned: &[&str], owns_suspend: bool) -> Live {
        let mut fields = json!({"f:metadata": {"f:annotations": {}}});
        for name in owned {
            fields["f:metadata"]["f:annotations"][format!("f:{name}")] = json!({});
        }
        if owns_suspend {
            fields["f:spec"] = json!({"f:suspend": {}});
        }
        Live(json!({
            "metadata": {
                "annotations": {
                    SUSPENDED_AT: since, SUSPENDED_BY: "jane", SUSPENDED_UNTIL: "2026-01-01T12:00:00Z",
                    OPERATOR_ANNOTATION: "disabled",
                },
                "managedFields": [
                    {"manager": "gatehouse", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}},
                    {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:spec": {"f:suspend": {}}}},
                    {"manager": "gatehouse", "operation": "Update", "time": "2026-01-01T10:00:00Z", "fieldsV1": fields},
                ],
            },
            "spec": {"suspend": true},
        }))
    }

    #[test]
    fn notes_of_a_suspension_that_was_taken_away_and_set_again_are_left() {
        const BEGAN: &str = "2026-01-01T10:00:00Z";
        let notes = [SUSPENDED_AT, SUSPENDED_BY, SUSPENDED_UNTIL];
        let is_left = |live: &Live, note: &str| live.is_left(Suspension::Field, note);
        let same = suspended(BEGAN, &notes, true);
        let again = suspended(BEGAN, &notes, false);
        for note in notes {
            assert!(!is_left(&same, note), "{note}");
            assert!(is_left(&again, note), "{note}");
        }
        assert!(!is_left(&again, SUSPEND_REASON), "somebody else's");
        // Suspended by somebody else, and given an end by an action.
        let ended = suspended(BEGAN, &[SUSPENDED_UNTIL], false);
        assert!(!is_left(&ended, SUSPENDED_UNTIL) && !is_left(&ended, SUSPENDED_AT));
        // Suspended again by somebody else after that, which admission has noted.
        let later = suspended("2026-01-01T11:00:00Z", &[SUSPENDED_UNTIL], false);
        assert!(is_left(&later, SUSPENDED_UNTIL) && !is_left(&later, SUSPENDED_AT));
    }

    #[test]
    fn kinds_that_an_annotation_suspends_are_judged_by_it() {
        let suspension = Suspension::Annotation(OPERATOR_ANNOTATION);
        let again = suspended("2026-01-01T10:00:00Z", &[SUSPENDED_AT, SUSPENDED_UNTIL], true);
        assert!(again.is_left(suspension, SUSPENDED_UNTIL));
        let same = [SUSPENDED_AT, SUSPENDED_UNTIL, OPERATOR_ANNOTATION];
        assert!(!suspended("2026-01-01T10:00:00Z", &same, false).is_left(suspension, SUSPENDED_UNTIL));
    }

    #[test]
    fn without_a_record_notes_count() {
        let mut live = suspended("2026-01-01T10:00:00Z", &[SUSPENDED_AT, SUSPENDED_UNTIL], false);
        for record in [json!([{}]), json!([]), json!("x"), Value::Null] {
            live.0["metadata"]["managedFields"] = record;
            assert!(!live.is_left(Suspension::Field, SUSPENDED_UNTIL));
        }
    }
}
