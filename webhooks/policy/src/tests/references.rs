//! Tests signatures, references, and the accounts that objects are applied and decrypted with.

use super::*;

const NONE: [&str; 0] = [];

#[test]
fn signatures_must_be_verified_and_against_somebody() {
    use Kind::{Bucket, GitRepository, HelmChart, HelmRelease, HelmRepository, OciRepository};
    let required = "{verify: {required: true}}";
    let missing = |field: &str| format!("verify {field}: signatures must be verified");
    for kind in [GitRepository, OciRepository, HelmChart] {
        check(required, kind, "{}", &[&missing("spec.verify")]);
    }
    check(
        required,
        HelmRelease,
        "{chart: {spec: {sourceRef: {kind: HelmRepository}}}}",
        &[&missing("spec.chart.spec.verify")],
    );
    check(required, Bucket, "{}", &["verify spec: a Bucket has no signatures that could be verified"]);
    // Content that is fetched from another source is verified there, and an index has no signature.
    check(required, HelmRelease, "{chartRef: {kind: OCIRepository, name: a}}", &NONE);
    check(required, HelmRelease, "{chart: {spec: {sourceRef: {kind: GitRepository}}}}", &NONE);
    check(required, HelmChart, "{sourceRef: {kind: Bucket}}", &NONE);
    check(required, HelmRepository, "{}", &NONE);

    let anybody =
        "verify spec.verify.matchOIDCIdentity: without a key or an identity, anybody's signature is taken";
    check(required, OciRepository, "{verify: {provider: cosign}}", &[anybody]);
    check(required, OciRepository, "{verify: {matchOIDCIdentity: []}}", &[anybody]);
    check(required, OciRepository, "{verify: {secretRef: {name: ''}}}", &[anybody]);
    check(required, OciRepository, "{verify: {secretRef: {name: keys}}}", &NONE);
    check(required, OciRepository, "{verify: {provider: notation, secretRef: {name: trust}}}", &NONE);
    check(required, OciRepository, "{verify: {matchOIDCIdentity: [{issuer: i, subject: s}]}}", &NONE);
    check(required, GitRepository, "{verify: {mode: HEAD, secretRef: {name: a}}}", &NONE);
    // A wrong type is a violation.
    check(required, OciRepository, "{verify: x}", &["verify spec.verify: must be a map, is a string"]);

    check("{verify: {providers: [cosign]}}", OciRepository, "{}", &NONE);
    check(
        "{verify: {providers: [cosign]}}",
        OciRepository,
        "{verify: {provider: notation}}",
        &["verify spec.verify.provider: notation is not an allowed provider"],
    );
    check(
        "{verify: {modes: [TagAndHEAD]}}",
        GitRepository,
        "{verify: {}}",
        &["verify spec.verify.mode: HEAD is not an allowed mode"],
    );
    check("{verify: {modes: [HEAD]}}", GitRepository, "{verify: {mode: head}}", &NONE);
    let ours = "{verify: {identities: [{issuer: '^i$', subject: '^s$'}]}}";
    check(ours, OciRepository, "{verify: {matchOIDCIdentity: [{issuer: '^i$', subject: '^s$'}]}}", &NONE);
    check(ours, OciRepository, "{verify: {secretRef: {name: keys}}}", &NONE);
    check(
        ours,
        OciRepository,
        "{verify: {matchOIDCIdentity: [{issuer: '^i$', subject: '^s$'}, {issuer: '^i$', subject: '.*'}]}}",
        &["verify spec.verify.matchOIDCIdentity[1]: .* of ^i$ is not an allowed identity"],
    );
}

#[test]
fn a_reference_has_the_form_that_flux_goes_by() {
    use Kind::{GitRepository, HelmChart, HelmRelease, OciRepository};
    let pinned = "{ref: {allowed: [Tag, SemVer, Commit, Digest]}}";
    check(
        pinned,
        GitRepository,
        "{ref: {branch: main}}",
        &["ref spec.ref.branch: Branch is not an allowed form of reference"],
    );
    check(pinned, GitRepository, "{}", &["ref spec.ref: is not set, which means a Branch"]);
    check(pinned, GitRepository, "{ref: {tag: v1}}", &NONE);
    check(pinned, GitRepository, "{ref: {branch: main, commit: abc}}", &NONE);
    check(
        pinned,
        GitRepository,
        "{ref: {name: refs/heads/x, tag: v1}}",
        &["ref spec.ref.name: Name is not an allowed form of reference"],
    );
    let digest = "{ref: {allowed: [Digest]}}";
    check(digest, OciRepository, "{ref: {digest: 'sha256:a', tag: v1}}", &NONE);
    check(
        digest,
        OciRepository,
        "{ref: {tag: v1}}",
        &["ref spec.ref.tag: Tag is not an allowed form of reference"],
    );
    check(digest, OciRepository, "{ref: {digest: ''}}", &["ref spec.ref: is not set, which means a Tag"]);
    check(
        digest,
        HelmChart,
        "{version: 1.2.3, sourceRef: {kind: HelmRepository}}",
        &["ref spec.version: SemVer is not an allowed form of reference"],
    );
    check(digest, HelmRelease, "{chart: {spec: {version: 1.2.3, sourceRef: {kind: GitRepository}}}}", &NONE);
    check(digest, Kind::Kustomization, "{ref: {tag: a}}", &NONE);
}

#[test]
fn what_is_newest_may_be_forbidden() {
    use Kind::{GitRepository, HelmRelease, OciRepository};
    let rule = "{ref: {latest: Forbid}}";
    let judged = |kind, spec: &str| {
        let subject = subject(kind, &format!("spec: {spec}"));
        !Request::create(subject).judged(&policy(&format!("rules: {rule}"))).is_empty()
    };
    for spec in [
        "{}",
        "{ref: {}}",
        "{ref: {tag: latest}}",
        "{ref: {tag: ' Latest'}}",
        "{ref: {semver: '*'}}",
        "{ref: {semver: '>=0.0.0-0'}}",
        "{ref: {semver: '>0'}}",
        "{ref: {semver: x}}",
        "{ref: {semver: '* || *'}}",
        "{ref: {semver: '1.x || *'}}",
        "{ref: {semver: '1.x || >= 0.0.0'}}",
        "{ref: {semver: '*, x.x'}}",
        "{ref: {semver: '>=0, !=1.0.0'}}",
        "{ref: {semver: '=> 0'}}",
        "{ref: {semver: '!= 1.0.0'}}",
    ] {
        assert!(judged(OciRepository, spec), "{spec}");
    }
    for spec in [
        "{ref: {tag: v1}}",
        "{ref: {tag: latest, digest: 'sha256:a'}}",
        "{ref: {semver: 1.x}}",
        "{ref: {semver: '>=1.0.0'}}",
        "{ref: {semver: '0.1.x'}}",
        "{ref: {semver: '~0.0.1'}}",
        "{ref: {semver: '1.x || 2.x'}}",
        "{ref: {semver: '>= 0.0.0, < 2'}}",
        "{ref: {semver: '>=1 !=1.1.0'}}",
        "{ref: {semver: '0.1 - 2'}}",
        "{ref: {semver: '~>0'}}",
    ] {
        assert!(!judged(OciRepository, spec), "{spec}");
    }
    assert!(judged(GitRepository, "{}"));
    assert!(!judged(GitRepository, "{ref: {branch: main}}"));
    assert!(judged(HelmRelease, "{chart: {spec: {chart: a, sourceRef: {kind: HelmRepository}}}}"));
    assert!(judged(HelmRelease, "{chart: {spec: {version: '*', sourceRef: {kind: HelmRepository}}}}"));
    assert!(!judged(HelmRelease, "{chart: {spec: {version: '4.x', sourceRef: {kind: HelmRepository}}}}"));
}

#[test]
fn an_account_or_a_kubeconfig() {
    let rule = "{serviceAccountName: {required: true, acceptKubeConfig: true}}";
    let missing = "serviceAccountName spec.serviceAccountName: a service account must be named";
    check(rule, Kind::Kustomization, "{kubeConfig: {secretRef: {name: remote}}}", &NONE);
    check(rule, Kind::HelmRelease, "{kubeConfig: {secretRef: {name: remote}}}", &NONE);
    check(rule, Kind::Kustomization, "{}", &[missing]);
    check(rule, Kind::Kustomization, "{kubeConfig: {configMapRef: {name: remote}}}", &[missing]);
    check(rule, Kind::Kustomization, "{kubeConfig: {secretRef: {name: ''}}}", &[missing]);
    check(rule, Kind::ResourceSet, "{kubeConfig: {secretRef: {name: remote}}}", &[missing]);
    check(
        "{serviceAccountName: {required: true}}",
        Kind::Kustomization,
        "{kubeConfig: {secretRef: {name: remote}}}",
        &[missing],
    );
}

#[test]
fn what_is_decrypted_is_decrypted_by_an_account() {
    let rule = "{decryptionAccount: {required: true, allowed: [sops-*]}}";
    check(rule, Kind::Kustomization, "{}", &NONE);
    check(
        rule,
        Kind::Kustomization,
        "{decryption: {provider: sops, secretRef: {name: age}}}",
        &[
            "decryptionAccount spec.decryption.serviceAccountName: a service account to decrypt with must be named",
        ],
    );
    check(rule, Kind::Kustomization, "{decryption: {provider: sops, serviceAccountName: sops-a}}", &NONE);
    check(
        rule,
        Kind::Kustomization,
        "{decryption: {provider: sops, serviceAccountName: ops}}",
        &["decryptionAccount spec.decryption.serviceAccountName: ops is not allowed"],
    );
    check(rule, Kind::HelmRelease, "{decryption: {provider: sops}}", &NONE);
}

#[test]
fn a_target_namespace_may_be_required() {
    use Kind::{HelmRelease, Kustomization};
    let missing = "targetNamespaces spec.targetNamespace: a target namespace must be named";
    check("{targetNamespaces: {required: true}}", Kustomization, "{}", &[missing]);
    check("{targetNamespaces: {required: true}}", Kustomization, "{targetNamespace: anywhere}", &NONE);
    check("{targetNamespaces: {required: true}}", HelmRelease, "{storageNamespace: b}", &[missing]);
    let limited = "{targetNamespaces: {required: true, allowed: [team-*]}}";
    check(limited, Kustomization, "{targetNamespace: ''}", &[missing]);
    check(limited, Kustomization, "{targetNamespace: team-b}", &NONE);
    check(
        limited,
        Kustomization,
        "{targetNamespace: other}",
        &["targetNamespaces spec.targetNamespace: other is not allowed"],
    );
    check(
        "{targetNamespaces: {allowed: []}}",
        Kustomization,
        "{targetNamespace: other}",
        &["targetNamespaces spec.targetNamespace: other is not allowed"],
    );
    check("{targetNamespaces: Own}", Kustomization, "{}", &NONE);
}

#[test]
fn rules_that_ask_for_nothing_are_refused() {
    for (rules, field) in [
        ("{verify: {}}", "spec.rules.verify"),
        ("{verify: {providers: [gpg]}}", "spec.rules.verify.providers[0]"),
        ("{verify: {modes: [Head]}}", "spec.rules.verify.modes[0]"),
        ("{verify: {identities: [{issuer: '', subject: a}]}}", "spec.rules.verify.identities[0].issuer"),
        ("{ref: {}}", "spec.rules.ref"),
        ("{ref: {latest: Allow}}", "spec.rules.ref"),
        ("{sources: {}}", "spec.rules.sources"),
        ("{targetNamespaces: {}}", "spec.rules.targetNamespaces"),
        ("{decryptionAccount: {}}", "spec.rules.decryptionAccount"),
        ("{decryptionAccount: {allowed: ['{a']}}", "spec.rules.decryptionAccount.allowed[0]"),
        ("{serviceAccountName: {acceptKubeConfig: true}}", "spec.rules.serviceAccountName.acceptKubeConfig"),
    ] {
        let errors = try_policy(&format!("rules: {rules}")).expect_err(rules);
        assert!(errors[0].starts_with(&format!("{field}: Invalid value")), "{rules}: {errors:?}");
    }
}

#[test]
fn a_target_rule_with_a_misspelt_field_is_no_rule() {
    let parsed = serde_json::from_value::<ReconcilePolicy>(json!({
        "metadata": {"name": "p"}, "spec": {"rules": {"targetNamespaces": {"required": true, "alowed": ["a"]}}},
    }));
    assert!(parsed.is_err());
}

#[test]
fn what_is_denied_is_not_had_by_another_spelling() {
    use Kind::{GitRepository, OciRepository};
    let rule = "{sources: {denied: ['https://github.com/evil/**', '*://gitlab.example.com', 'https://*.bad.example', 'ssh://git@host.example:2222/x/*']}}";
    let is_denied = |kind, url: &str| {
        let subject = subject(kind, &format!("spec: {{url: '{url}'}}"));
        let judged = Request::create(subject).judged(&policy(&format!("rules: {rule}")));
        assert!(judged.iter().all(|line| line.contains("is a denied source")), "{url}: {judged:?}");
        !judged.is_empty()
    };
    for url in [
        "https://github.com/evil/a",
        "https://github.com/Evil/a.git",
        "https://GitHub.com/evil/a",
        "https://me@github.com/evil/a/b",
        "https://github.com:443/evil/a",
        "https://github.com/evil",
        "ssh://git@gitlab.example.com/a/b",
        "http://gitlab.example.com:8080/a",
        "https://deep.below.bad.example/a",
        "https://bad.example/a",
        "ssh://other@host.example:2222/x/y",
    ] {
        assert!(is_denied(GitRepository, url), "{url}");
    }
    for url in [
        "https://github.com/evilish/a",
        "https://github.com/good/evil",
        "https://notbad.example/a",
        "https://gitlab.example.com.other/a",
        "ssh://git@host.example/x/y",
    ] {
        assert!(!is_denied(GitRepository, url), "{url}");
    }
    assert!(is_denied(OciRepository, "oci://gitlab.example.com/a"));
    check(
        "{sources: {allowed: ['https://github.com/**'], denied: ['https://github.com/evil/**']}}",
        GitRepository,
        "{url: 'https://github.com/evil/a'}",
        &["sources spec.url: https://github.com/evil/a is a denied source"],
    );
    check(
        "{sources: {allowed: []}}",
        GitRepository,
        "{url: 'https://github.com/a/b'}",
        &["sources spec.url: https://github.com/a/b is not an allowed source"],
    );
}
