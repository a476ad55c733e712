//! What is judged: a request, who makes it, and what is said about it.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::{Subject, annotation};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The object does not exist yet.
    Create,
    /// The object changes.
    Update,
    /// The object goes.
    Delete,
}

impl Operation {
    /// As AdmissionReview writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A request at admission.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What it does. A scale is an update.
    pub operation: Operation,
    /// The subresource it addresses. Only `scale` is judged, by [`scaling`](Self::scaling).
    pub subresource: Option<&'a str>,
    /// The object as it would be; of a deletion, none. Of a scale: the object that is scaled, as it is stored, or
    /// with an empty spec where it is not known.
    pub object: Option<&'a Subject>,
    /// The object as it is; of a creation, none.
    pub old: Option<&'a Subject>,
    /// Of a scale: the replicas.
    pub scaling: Option<Scaling>,
    /// Who makes the request; unknown where files are checked.
    pub user: Option<&'a User>,
    /// As what it is written (`options.fieldManager`), if that is said. Anybody may say anything: it excuses from nothing.
    pub field_manager: Option<&'a str>,
    /// When.
    pub now: Timestamp,
    /// Which accounts are no people.
    pub accounts: &'a Accounts,
}

impl<'a> Case<'a> {
    /// The object that the request is about.
    pub fn subject(&self) -> Option<&'a Subject> {
        self.object.or(self.old)
    }

    /// Whether it is a new object that a freeze admits suspended. That its mark is a true one is for
    /// [`forged`](crate::freeze::forged) to say.
    pub(crate) fn is_admitted_suspended(&self) -> bool {
        let is_marked = |object: &Subject| object.annotation(annotation::FROZEN_BY).is_some();
        self.operation == Operation::Create && self.is_fluxs() && self.object.is_some_and(is_marked)
    }

    /// Whether it is written by Helm, for helm-controller.
    pub(crate) fn is_helms(&self) -> bool {
        let helm = "helm-controller";
        let is_account = |user: &User| user.service_account().is_some_and(|(_, name)| name == helm);
        self.field_manager == Some(helm) || self.user.is_some_and(is_account)
    }

    /// Whether it is written by one of Flux's controllers: under its own account, or, as a tenant's account, by its
    /// field manager.
    pub(crate) fn is_fluxs(&self) -> bool {
        let is_manager = || self.field_manager.is_some_and(|manager| FLUX.contains(&manager));
        self.user.is_some_and(|user| {
            self.accounts.is_flux(user) || user.service_account().is_some() && is_manager()
        })
    }
}

/// `spec.replicas` of autoscaling/v1 Scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// Of the Scale as it is.
    pub from: i64,
    /// Of the Scale as it would be.
    pub to: i64,
}

/// Who makes a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Their name.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
}

impl User {
    /// Namespace and name, of a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}

/// Accounts that are no people: what they do is the doing of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The namespace of Flux's controllers.
    pub flux_namespace: String,
    /// The namespace of Agones' controllers.
    pub agones_namespace: String,
    /// Namespace and name of Gatehouse's own service account. It is never judged: it freezes and resumes.
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

/// Service accounts of Flux's controllers and of the Flux operator.
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

/// What removes what belongs to a namespace or an owner that goes.
const COLLECTORS: [&str; 2] = ["namespace-controller", "generic-garbage-collector"];

/// kube-controller-manager itself, where its controllers have no accounts of their own.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Service accounts of Agones' controllers.
const AGONES: [&str; 2] = ["agones-controller", "agones-extensions"];

/// Other controllers that keep game servers running and in number: (namespace, name). A freeze stops deployments, not
/// the replacement of a server that crashed.
const GAME_CONTROLLERS: [(&str, &str); 2] =
    [("kruise-game-system", "kruise-game-controller-manager"), ("kube-system", "horizontal-pod-autoscaler")];

impl Accounts {
    /// Whether it is Gatehouse itself.
    pub fn is_gatehouse(&self, user: &User) -> bool {
        user.service_account() == Some((self.gatehouse.0.as_str(), self.gatehouse.1.as_str()))
    }

    /// Whether it is one of Flux's controllers under its own account. What they apply under a tenant's account is
    /// the tenant's doing.
    pub fn is_flux(&self, user: &User) -> bool {
        user.service_account()
            .is_some_and(|(namespace, name)| namespace == self.flux_namespace && FLUX.contains(&name))
    }

    /// Whether it collects garbage: a namespace that goes must not hang.
    pub fn is_collector(user: &User) -> bool {
        user.name == CONTROLLER_MANAGER
            || user
                .service_account()
                .is_some_and(|(namespace, name)| namespace == "kube-system" && COLLECTORS.contains(&name))
    }

    /// Whether it is one of Agones' controllers, which make the sets of Fleets and the servers of sets.
    pub fn is_agones(&self, user: &User) -> bool {
        user.service_account()
            .is_some_and(|(namespace, name)| namespace == self.agones_namespace && AGONES.contains(&name))
    }

    /// Whether it keeps game servers running.
    pub fn is_game_controller(&self, user: &User) -> bool {
        self.is_agones(user)
            || user.service_account().is_some_and(|account| GAME_CONTROLLERS.contains(&account))
    }
}

/// A right that a request takes beside that of editing: flux-operator's verbs on Flux's resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// It suspends the object.
    Suspend,
    /// It resumes the object.
    Resume,
    /// It asks for a reconciliation.
    Reconcile,
    /// It makes an object exempt from the policy: a right on the policy, not on the object.
    Exempt,
}

impl Verb {
    /// As SubjectAccessReview takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Reconcile => "reconcile",
            Self::Exempt => "exempt",
        }
    }
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as its field of `spec.rules`, or the name of a condition: `interval`, `cel[0]`.
    pub rule: Cow<'static, str>,
    /// The field of the object that breaks it: `spec.interval`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: String,
}
