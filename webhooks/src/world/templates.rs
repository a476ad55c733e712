//! Objects that determine the usage of others: GameTemplates of Pteronimbus, and RuntimeClasses with an overhead.

use std::cell::RefCell;

use gatehouse_inventory::Str;
use gatehouse_quota::{GroupResource, Templates};
use serde_json::Value;

use super::{kinds, object::ObjectKey, snapshot::Snapshot};

/// The key of such an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TemplateKey {
    Game(ObjectKey),
    RuntimeClass(Str),
}

impl TemplateKey {
    /// The key of this object, if it determines the usage of others.
    pub(super) fn of(resource: &GroupResource, key: &ObjectKey) -> Option<Self> {
        if *resource == *kinds::TEMPLATES {
            Some(Self::Game(key.clone()))
        } else if *resource == *kinds::RUNTIME_CLASSES {
            Some(Self::RuntimeClass(Str::clone(&key.name)))
        } else {
            None
        }
    }
}

impl Templates for Snapshot {
    fn game_template(&self, namespace: &str, name: &str) -> Option<Value> {
        self.object(&kinds::TEMPLATES, namespace, name)?.value()
    }

    fn runtime_class(&self, name: &str) -> Option<Value> {
        self.object(&kinds::RUNTIME_CLASSES, "", name)?.value()
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
        self.asked.borrow_mut().push(TemplateKey::Game(key));
        self.templates.game_template(namespace, name)
    }

    fn runtime_class(&self, name: &str) -> Option<Value> {
        self.asked.borrow_mut().push(TemplateKey::RuntimeClass(Str::from(name)));
        self.templates.runtime_class(name)
    }
}
