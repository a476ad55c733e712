//! Defines a request as policies judge it: its operation, objects and user, and the violations it has.

use std::borrow::Cow;

use gatehouse_apiservice::UserInfo;
use jiff::Timestamp;
use serde::Deserialize;

use crate::{Subject, annotation};

/// The operation of a request. CONNECT, the fourth of Kubernetes, has no object to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// Creates an object that does not exist yet.
    Create,
    /// Updates the object.
    Update,
    /// Deletes the object.
    Delete,
}

impl Operation {
    /// As AdmissionReview spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// An admission request.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The operation. A scale is an update.
    pub operation: Operation,
    /// The subresource, if any. Only `scale` is judged, by [`scaling`](Self::scaling).
    pub subresource: Option<&'a str>,
    /// The new object; `None` for a deletion. For a scale: the scaled object as stored, or with an empty spec if it is
    /// unknown.
    pub object: Option<&'a Subject>,
    /// The old object; `None` for a creation.
    pub old: Option<&'a Subject>,
    /// For a scale: the replicas.
    pub scaling: Option<Scaling>,
    /// The user; unknown if files are checked.
    pub user: Option<&'a UserInfo>,
    /// The field manager (`options.fieldManager`), if given. Any client may claim any name, so it exempts from
    /// nothing.
    pub field_manager: Option<&'a str>,
    /// The time of the request.
    pub now: Timestamp,
    /// The accounts of controllers.
    pub accounts: &'a Accounts,
}

impl<'a> Case<'a> {
    /// The new object, or else the old one.
    pub fn subject(&self) -> Option<&'a Subject> {
        self.object.or(self.old)
    }

    /// Whether it is a new object that a freeze admits suspended. Whether its mark is valid is checked by
    /// [`forged`](crate::freeze::forged).
    pub(crate) fn is_admitted_suspended(&self) -> bool {
        let is_marked = |object: &Subject| object.annotation(annotation::FROZEN_BY).is_some();
        self.operation == Operation::Create && self.is_fluxs() && self.object.is_some_and(is_marked)
    }

    /// Whether helm-controller writes it, by field manager or by account.
    pub(crate) fn is_helms(&self) -> bool {
        let helm = "helm-controller";
        let is_account = |user: &UserInfo| user.service_account().is_some_and(|(_, name)| name == helm);
        self.field_manager == Some(helm) || self.user.is_some_and(is_account)
    }

    /// Whether a controller of Flux writes it: under its own account, or under a tenant's service account with its
    /// field manager.
    pub(crate) fn is_fluxs(&self) -> bool {
        let is_manager = || self.field_manager.is_some_and(|manager| FLUX.contains(&manager));
        self.user.is_some_and(|user| {
            self.accounts.is_flux(user) || user.service_account().is_some() && is_manager()
        })
    }
}

/// `spec.replicas` of an autoscaling/v1 Scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// The old replicas.
    pub from: i64,
    /// The new replicas.
    pub to: i64,
}

/// The accounts of controllers, which are not people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The namespace of Flux's controllers.
    pub flux_namespace: String,
    /// The namespace of Agones' controllers.
    pub agones_namespace: String,
    /// The namespace and name of Gatehouse's own service account. It is never judged, because it freezes and resumes.
    pub gatehouse: (String, String),
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            flux_namespace: "flux-system".to_owned(),
            agones_namespace: "agones-system".to_owned(),
            gatehouse: ("gatehouse-system".to_owned(), "gatehouse".to_owned()),
        }
    }
}

/// The service accounts of Flux's controllers and of the Flux operator.
const FLUX: [&str; 8] = [
    "kustomize-controller",
    "helm-controller",
    "source-controller",
    "notification-controller",
    "image-reflector-controller",
    "image-automation-controller",
    "source-watcher",
    "flux-operator",
];

/// The controllers that delete the objects of a deleted namespace or owner.
const COLLECTORS: [&str; 2] = ["namespace-controller", "generic-garbage-collector"];

/// kube-controller-manager itself, where its controllers have no accounts of their own.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// The service accounts of Agones' controllers.
const AGONES: [&str; 2] = ["agones-controller", "agones-extensions"];

/// Other controllers that run and scale game servers: (namespace, name). A freeze stops deployments, not the
/// replacement of a crashed server.
const GAME_CONTROLLERS: [(&str, &str); 2] =
    [("kruise-game-system", "kruise-game-controller-manager"), ("kube-system", "horizontal-pod-autoscaler")];

impl Accounts {
    /// Whether the user is Gatehouse itself.
    pub fn is_gatehouse(&self, user: &UserInfo) -> bool {
        user.service_account() == Some((self.gatehouse.0.as_str(), self.gatehouse.1.as_str()))
    }

    /// Whether the user is a controller of Flux under its own account. What a controller applies under a tenant's
    /// account counts as the tenant's request.
    pub fn is_flux(&self, user: &UserInfo) -> bool {
        user.service_account()
            .is_some_and(|(namespace, name)| namespace == self.flux_namespace && FLUX.contains(&name))
    }

    /// Whether the user collects garbage. It must not be denied, or a namespace could not be deleted.
    pub fn is_collector(user: &UserInfo) -> bool {
        user.name == CONTROLLER_MANAGER
            || user
                .service_account()
                .is_some_and(|(namespace, name)| namespace == "kube-system" && COLLECTORS.contains(&name))
    }

    /// Whether the user is a controller of Agones, which creates the sets of Fleets and the servers of sets.
    pub fn is_agones(&self, user: &UserInfo) -> bool {
        user.service_account()
            .is_some_and(|(namespace, name)| namespace == self.agones_namespace && AGONES.contains(&name))
    }

    /// Whether the user is a controller that runs game servers.
    pub fn is_game_controller(&self, user: &UserInfo) -> bool {
        self.is_agones(user)
            || user.service_account().is_some_and(|account| GAME_CONTROLLERS.contains(&account))
    }
}

/// A verb that a request requires beside the right to edit: the verbs of flux-operator on Flux's resources, and
/// `exempt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Suspend the object.
    Suspend,
    /// Resume the object.
    Resume,
    /// Request a reconciliation.
    Reconcile,
    /// Make an object exempt from the policy: a verb on the policy, not on the object.
    Exempt,
}

impl Verb {
    /// As SubjectAccessReview spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Reconcile => "reconcile",
            Self::Exempt => "exempt",
        }
    }
}

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule: its field in `spec.rules`, or the name of a condition, such as `interval` or `cel[0]`.
    pub rule: Cow<'static, str>,
    /// The field that violates it, such as `spec.interval`.
    pub field: String,
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub hint: String,
}
