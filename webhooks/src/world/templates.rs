//! GameTemplates, which determine the usage of Pteronimbus servers.

use std::cell::RefCell;

use gatehouse_inventory::Str;
use gatehouse_quota::{GroupResource, Templates};
use serde_json::Value;

use super::{kinds, object::ObjectKey, snapshot::Snapshot};

/// The key of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TemplateKey(ObjectKey);

impl TemplateKey {
    /// The key of this object, if it is a template.
    pub(super) fn of(resource: &GroupResource, key: &ObjectKey) -> Option<Self> {
        (*resource == *kinds::TEMPLATES).then(|| Self(key.clone()))
    }
}

impl Templates for Snapshot {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        self.object(&kinds::TEMPLATES, namespace, name)?.value()
    }
}

/// Templates that record which of them were looked up, so that a change of these updates the object.
pub(super) struct RecordingTemplates<'a> {
    templates: &'a Snapshot,
    asked: RefCell<Vec<TemplateKey>>,
}

impl<'a> RecordingTemplates<'a> {
    pub(super) fn new(templates: &'a Snapshot) -> Self {
        Self { templates, asked: RefCell::default() }
    }

    pub(super) fn asked(self) -> Vec<TemplateKey> {
        self.asked.into_inner()
    }
}

impl Templates for RecordingTemplates<'_> {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = ObjectKey { namespace: Str::from(namespace), name: Str::from(name) };
        self.asked.borrow_mut().push(TemplateKey(key));
        self.templates.game_template(namespace, name)
    }
}
