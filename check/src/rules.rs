//! Descriptions of the rules, which code hosts display next to a finding.

/// What a rule requires, and how to fix a violation.
pub(crate) struct Description {
    pub(crate) short: &'static str,
    pub(crate) full: &'static str,
    pub(crate) help: &'static str,
}

/// The description of a rule of a ReconcilePolicy, or of a limit of a TenantQuota.
pub(crate) fn description(rule: &str) -> Description {
    let describe = |short, full, help| Description { short, full, help };
    // Expressions without a name have a generated one.
    let is_condition = rule.starts_with("cel[") || rule.starts_with("cel-");
    match if is_condition { "cel" } else { rule } {
        "interval" => describe(
            "The interval of reconciliation is within bounds",
            "An interval that is too short burdens the cluster and the sources; one that is too long leaves changes and drift unnoticed.",
            "Set spec.interval within the bounds of the policy.",
        ),
        "serviceAccountName" => describe(
            "A service account is named that the policy allows",
            "Without spec.serviceAccountName, Flux applies objects with the rights of its own controller, which are those of a cluster administrator.",
            "Set spec.serviceAccountName to an account that the policy allows.",
        ),
        "decryptionAccount" => describe(
            "What is decrypted is decrypted by a service account that the policy allows",
            "Without spec.decryption.serviceAccountName, the keys of a cloud are asked for with the rights of Flux's own controller.",
            "Set spec.decryption.serviceAccountName to an account that the policy allows.",
        ),
        "verify" => describe(
            "Signatures of sources are verified",
            "A source whose signature is not verified, or by anybody's key, may have been replaced on the way.",
            "Say in spec.verify with which keys, or against which identities, signatures are verified.",
        ),
        "ref" => describe(
            "Sources are fetched by a form of reference that the policy allows",
            "What a branch or the tag latest means changes without anybody changing the repository.",
            "Name a version in the form that the policy allows.",
        ),
        "crossNamespaceRefs" => describe(
            "References stay within the namespace",
            "A reference to an object of another namespace reads what belongs to another tenant.",
            "Refer to an object of the same namespace, or leave the namespace out.",
        ),
        "sources" => describe(
            "Sources are fetched from allowed addresses",
            "What is fetched from an address that the policy does not allow was not reviewed by those who answer for the cluster.",
            "Use an address that the policy allows, or have it added to spec.rules.sources.allowed.",
        ),
        "targetNamespaces" => describe(
            "Objects are applied to allowed namespaces",
            "A target namespace that the policy does not allow belongs to another tenant.",
            "Set spec.targetNamespace to a namespace that the policy allows.",
        ),
        "prune" => describe(
            "Objects that are removed from the source are removed from the cluster",
            "Without spec.prune, what was deleted from the source stays in the cluster.",
            "Set spec.prune to true.",
        ),
        "dependencyCycles" => describe(
            "Dependencies lead in no circle",
            "Objects that depend on each other wait for each other for ever.",
            "Remove one of the dependencies in spec.dependsOn.",
        ),
        "suspension" => describe(
            "Suspended objects say why",
            "A suspended object is not reconciled; without a reason it may stay so by accident.",
            "State the reason in the annotation that the message names, or do not suspend the object.",
        ),
        "replicas" => describe(
            "Fleets have no more replicas than allowed",
            "More game servers than the policy allows take room from other tenants.",
            "Lower spec.replicas, or the ceiling of the autoscaler.",
        ),
        "cel" => describe(
            "An expression of the policy holds",
            "The policy states a condition in CEL that every object has to meet.",
            "Change the object so that the expression in the message holds.",
        ),
        "usage" => describe(
            "What the object takes up can be counted",
            "A quota refuses an object of which it cannot tell what it takes up.",
            "Correct the field that the message names.",
        ),
        _ if rule.starts_with("count/")
            || rule.starts_with("requests.")
            || matches!(rule, "gameservers" | "players") =>
        {
            describe(
                "The tenant stays within its quota",
                "The objects in the tenant's namespaces take up more in all than its TenantQuota allows, or one does not state what it takes up.",
                "Ask for less, remove objects, or have the quota raised.",
            )
        }
        _ => describe(
            "A rule of the policy holds",
            "The policy states a rule that every object in the namespaces that it selects has to meet.",
            "Change the object as the message says.",
        ),
    }
}
