//! Tests which field of which kind determines where a source fetches from.

use super::*;

#[test]
fn sources() {
    const RULE: &str = "{sources: {allowed: ['https://github.com/my-org/*', 'oci://ghcr.io/my-org/**', 'https://minio.example.com/team-a-*']}}";
    check(RULE, Kind::GitRepository, "{url: https://github.com/my-org/app.git}", &[]);
    check(
        RULE,
        Kind::GitRepository,
        "{url: https://github.com/my-organisation/x}",
        &["sources spec.url: https://github.com/my-organisation/x is not an allowed source"],
    );
    check(
        RULE,
        Kind::GitRepository,
        "{url: https://github.com/my-org/../evil/x}",
        &["sources spec.url: \"https://github.com/my-org/../evil/x\" has dot segments in its path"],
    );
    check(RULE, Kind::OciRepository, "{url: oci://ghcr.io/my-org/app/manifests}", &[]);
    check(RULE, Kind::HelmRepository, "{url: 'oci://ghcr.io/my-org/charts'}", &[]);
    check(
        RULE,
        Kind::HelmRepository,
        "{url: https://charts.example.com}",
        &["sources spec.url: https://charts.example.com is not an allowed source"],
    );
    check(RULE, Kind::ImageRepository, "{image: ghcr.io/my-org/app}", &[]);
    check(
        RULE,
        Kind::ImageRepository,
        "{image: my-org/app}",
        &["sources spec.image: oci://docker.io/my-org/app is not an allowed source"],
    );
    check(RULE, Kind::Bucket, "{endpoint: minio.example.com, bucketName: team-a-1}", &[]);
    check(
        RULE,
        Kind::Bucket,
        "{endpoint: minio.example.com, bucketName: other}",
        &["sources spec.endpoint: https://minio.example.com/other is not an allowed source"],
    );
    check(
        RULE,
        Kind::Bucket,
        "{endpoint: minio.example.com, bucketName: team-a-1, insecure: true}",
        &["sources spec.endpoint: http://minio.example.com/team-a-1 is not an allowed source"],
    );
    check(
        RULE,
        Kind::Bucket,
        "{endpoint: minio.example.com/x, bucketName: a}",
        &["sources spec.endpoint: must be a host, with a port if need be"],
    );
    check(
        RULE,
        Kind::ResourceSetInputProvider,
        "{type: GitHubBranch, url: https://github.com/my-org/app}",
        &[],
    );
    check(RULE, Kind::ResourceSetInputProvider, "{type: Static}", &[]);
    check(
        RULE,
        Kind::ResourceSetInputProvider,
        "{url: https://evil.com/}",
        &["sources spec.url: https://evil.com is not an allowed source"],
    );
    check(RULE, Kind::HelmChart, "{chart: app}", &[]);
    check(
        RULE,
        Kind::HelmRelease,
        "{chart: {spec: {chart: ../../evil/app}}}",
        &["sources spec.chart.spec.chart: \"../../evil/app\" leads out of its source"],
    );
    check(RULE, Kind::GitRepository, "{url: [a]}", &["sources spec.url: must be a string, is a list"]);
    check(RULE, Kind::Provider, "{address: https://evil.com}", &[]);
    check(
        "{sources: {allowed: []}}",
        Kind::GitRepository,
        "{url: https://a.b/c}",
        &["sources spec.url: https://a.b/c is not an allowed source"],
    );
}

/// Tests which field identifies a bucket, by provider.
#[test]
fn sources_of_buckets() {
    const RULE: &str = "{sources: {allowed: ['https://s3.amazonaws.com/team-a-*', 'https://acme.blob.core.windows.net/team-a-*', 'https://storage.googleapis.com/team-a-*', 'https://minio.example.com:9000/**']}}";
    for spec in [
        "{provider: generic, endpoint: 'minio.example.com:9000', bucketName: any}",
        "{endpoint: 'minio.example.com:9000/', bucketName: any}",
        "{provider: aws, endpoint: s3.amazonaws.com, region: eu-west-1, bucketName: team-a-1}",
        "{provider: azure, endpoint: 'https://acme.blob.core.windows.net', bucketName: team-a-1}",
        "{provider: azure, endpoint: 'https://acme.blob.core.windows.net/', bucketName: team-a-1}",
        // The client ignores the endpoint.
        "{provider: gcp, endpoint: storage.googleapis.com, bucketName: team-a-1}",
        "{provider: gcp, endpoint: 'https://evil.example.com/x', bucketName: team-a-1}",
        "{provider: gcp, bucketName: team-a-1}",
    ] {
        check(RULE, Kind::Bucket, spec, &[]);
    }
    for (spec, problem) in [
        (
            "{provider: gcp, endpoint: 'minio.example.com:9000', bucketName: evil}",
            "spec.endpoint: https://storage.googleapis.com/evil is not an allowed source",
        ),
        (
            "{provider: aws, endpoint: s3.amazonaws.com, bucketName: evil}",
            "spec.endpoint: https://s3.amazonaws.com/evil is not an allowed source",
        ),
        (
            "{provider: azure, endpoint: 'https://acme.blob.core.windows.net', bucketName: evil}",
            "spec.endpoint: https://acme.blob.core.windows.net/evil is not an allowed source",
        ),
        (
            "{provider: azure, endpoint: 'https://acme.blob.core.windows.net/evil', bucketName: team-a-1}",
            "spec.endpoint: https://acme.blob.core.windows.net/evil/team-a-1 is not an allowed source",
        ),
        (
            "{provider: azure, endpoint: 'minio.example.com:9000', bucketName: team-a-1}",
            "spec.endpoint: \"minio.example.com:9000/team-a-1\" is not a URL: it has no scheme",
        ),
        (
            "{provider: azure, endpoint: 'https://acme.blob.core.windows.net?sv=1', bucketName: team-a-1}",
            "spec.endpoint: \"https://acme.blob.core.windows.net?sv=1/team-a-1\" must not have a query",
        ),
        (
            "{provider: azure, endpoint: 'https://acme.blob.core.windows.net', bucketName: $web}",
            "spec.endpoint: https://acme.blob.core.windows.net/$web is not an allowed source",
        ),
        (
            "{endpoint: 'https://minio.example.com:9000', bucketName: a}",
            "spec.endpoint: must be a host, with a port if need be",
        ),
        (
            "{endpoint: 'minio.example.com:9000?x=', bucketName: a}",
            "spec.endpoint: \"https://minio.example.com:9000?x=/a\" must not have a query",
        ),
        (
            "{endpoint: 'evil.com#minio.example.com:9000', bucketName: a}",
            "spec.endpoint: \"https://evil.com#minio.example.com:9000/a\" must not have a fragment",
        ),
        (
            "{endpoint: 'me@minio.example.com:9000', bucketName: a}",
            "spec.endpoint: https://me@minio.example.com:9000/a is not an allowed source",
        ),
        (
            "{endpoint: 'minio.example.com:9000', bucketName: '$web'}",
            "spec.bucketName: \"$web\" is the name of no bucket",
        ),
        (
            "{endpoint: 'minio.example.com:9000', bucketName: 'a/../b'}",
            "spec.bucketName: \"a/../b\" is the name of no bucket",
        ),
        (
            "{provider: gcp, bucketName: 'team-a-1?x'}",
            "spec.bucketName: \"team-a-1?x\" is the name of no bucket",
        ),
        (
            "{endpoint: 'minio.example.com:9000', bucketName: '..'}",
            "spec.endpoint: \"https://minio.example.com:9000/..\" has dot segments in its path",
        ),
        (
            "{provider: moon, endpoint: 'minio.example.com:9000', bucketName: a}",
            "spec.provider: \"moon\" is not known: where its buckets are cannot be judged",
        ),
        ("{provider: 5, endpoint: a.b, bucketName: a}", "spec.provider: must be a string, is a number"),
    ] {
        check(RULE, Kind::Bucket, spec, &[&format!("sources {problem}")]);
    }
}

/// Tests where the Flux operator gets Flux from, and the source that it creates.
#[test]
fn sources_of_flux_itself() {
    const RULE: &str = "{sources: {allowed: ['https://github.com/my-org/*', 'oci://ghcr.io/fluxcd/**', 'oci://ghcr.io/my-org/**', 'https://minio.example.com/team-a-*', 'oci://docker.io/fluxcd/**', 'oci://registry.local:5000/**']}}";
    for spec in [
        "{distribution: {version: 2.x, registry: ghcr.io/fluxcd}}",
        "{distribution: {version: 2.x, registry: fluxcd}}",
        "{distribution: {version: 2.x, registry: 'registry.local:5000'}}",
        "{distribution: {version: 2.x, registry: ghcr.io/fluxcd, artifact: 'oci://ghcr.io/my-org/manifests:latest'}}",
        "{distribution: {version: 2.x, artifact: 'oci://registry.local:5000/manifests@sha256:abc'}}",
        "{distribution: {version: 2.x, artifact: 'oci://registry.local:5000/manifests:v1@sha256:abc'}}",
        "{sync: {kind: GitRepository, url: 'https://github.com/my-org/fleet.git', ref: refs/heads/main}}",
        "{sync: {kind: OCIRepository, url: 'oci://ghcr.io/my-org/fleet', ref: latest}}",
        "{sync: {kind: Bucket, url: minio.example.com, ref: team-a-1}}",
        "{sync: {interval: 1m}}",
    ] {
        check(RULE, Kind::FluxInstance, spec, &[]);
    }
    for (spec, problem) in [
        (
            "{distribution: {registry: evil.io/fluxcd}}",
            "spec.distribution.registry: oci://evil.io/fluxcd is not an allowed source",
        ),
        (
            "{distribution: {registry: ghcr.io}}",
            "spec.distribution.registry: oci://ghcr.io is not an allowed source",
        ),
        (
            "{distribution: {registry: ghcr.io/fluxcd/../evil}}",
            "spec.distribution.registry: \"oci://ghcr.io/fluxcd/../evil/image\" has dot segments in its path",
        ),
        (
            "{distribution: {artifact: 'oci://evil.io/manifests:latest'}}",
            "spec.distribution.artifact: oci://evil.io/manifests is not an allowed source",
        ),
        (
            "{sync: {kind: GitRepository, url: 'https://evil.com/x', ref: main}}",
            "spec.sync.url: https://evil.com/x is not an allowed source",
        ),
        (
            "{sync: {kind: OCIRepository, url: 'oci://evil.io/x', ref: latest}}",
            "spec.sync.url: oci://evil.io/x is not an allowed source",
        ),
        (
            "{sync: {kind: Bucket, url: minio.example.com, ref: evil}}",
            "spec.sync.url: https://minio.example.com/evil is not an allowed source",
        ),
        (
            "{sync: {kind: Bucket, provider: gcp, url: minio.example.com, ref: team-a-1}}",
            "spec.sync.url: https://storage.googleapis.com/team-a-1 is not an allowed source",
        ),
        ("{sync: {kind: Other, url: x}}", "spec.sync.kind: \"Other\" is no kind of a source"),
        ("{sync: {url: 'https://evil.com/x'}}", "spec.sync.kind: \"\" is no kind of a source"),
        ("{sync: [a]}", "spec.sync: must be a map, is a list"),
    ] {
        check(RULE, Kind::FluxInstance, spec, &[&format!("sources {problem}")]);
    }
}

/// Tests that a pattern that ends in `/**` also matches its root, and the other forms of an address where each is
/// valid.
#[test]
fn sources_by_kind() {
    const RULE: &str = "{sources: {allowed: ['https://charts.jetstack.io/**', 'oci://ghcr.io/my-org/**', 'https://*.github.io/**', 'https://api.example.com/**']}}";
    for (kind, spec) in [
        (Kind::HelmRepository, "{type: default, url: 'https://charts.jetstack.io'}"),
        (Kind::HelmRepository, "{type: oci, url: 'oci://ghcr.io/my-org'}"),
        (Kind::HelmRepository, "{type: oci, url: 'oci://ghcr.io/my-org/charts/'}"),
        (Kind::HelmRepository, "{type: default, url: 'https://foo.github.io'}"),
        (Kind::OciRepository, "{url: 'oci://ghcr.io/my-org/app'}"),
        (Kind::ImageRepository, "{image: ghcr.io/my-org/app}"),
        (Kind::ResourceSetInputProvider, "{type: OCIArtifactTag, url: 'oci://ghcr.io/my-org/app'}"),
        (
            Kind::ResourceSetInputProvider,
            "{type: ExternalService, url: 'https://api.example.com/v1/inputs?env=a&b=c'}",
        ),
        (Kind::GitRepository, "{include: [{repository: {name: other}}]}"),
        (Kind::ArtifactGenerator, "{sources: [{alias: a, kind: GitRepository, name: b}]}"),
        (Kind::HelmRelease, "{chart: {spec: {chart: app, sourceRef: {kind: HelmRepository, name: a}}}}"),
    ] {
        check(RULE, kind, spec, &[]);
    }
    for (kind, spec, problem) in [
        (
            Kind::OciRepository,
            "{url: 'oci://ghcr.io/my-org/app:latest'}",
            "spec.url: \"oci://ghcr.io/my-org/app:latest\" has a character in its path that no repository has",
        ),
        (
            Kind::OciRepository,
            "{url: 'oci://registry/my-org/app'}",
            "spec.url: oci://docker.io/registry/my-org/app is not an allowed source",
        ),
        (
            Kind::ResourceSetInputProvider,
            "{type: OCIArtifactTag, url: 'oci://evil.io/my-org/app'}",
            "spec.url: oci://evil.io/my-org/app is not an allowed source",
        ),
        (
            Kind::HelmRepository,
            "{type: default, url: 'https://charts.jetstack.io/a;b'}",
            "spec.url: \"https://charts.jetstack.io/a;b\" has a character in its path that no repository has",
        ),
        (
            Kind::HelmRepository,
            "{type: default, url: 'https://charts.jetstack.io/*'}",
            "spec.url: \"https://charts.jetstack.io/*\" has a character in its path that no repository has",
        ),
    ] {
        check(RULE, kind, spec, &[&format!("sources {problem}")]);
    }
}

#[test]
fn a_proxy_may_answer_for_any_address() {
    const LISTED: &str =
        "allowed: ['https://github.com/**', 'oci://ghcr.io/**', 'https://minio.example.com/**']";
    const DENIED: &str = "denied: ['*://evil.example.com']";
    let refused = "sources spec.proxySecretRef: a proxy may answer in the place of any address";
    let proxied = [
        (Kind::GitRepository, "{url: https://github.com/a/b, proxySecretRef: {name: mine}}"),
        (Kind::OciRepository, "{url: oci://ghcr.io/a, proxySecretRef: {name: mine}}"),
        (Kind::Bucket, "{endpoint: minio.example.com, bucketName: b, proxySecretRef: {name: mine}}"),
        (Kind::ImageRepository, "{image: ghcr.io/a/b, proxySecretRef: {name: mine}}"),
    ];
    for (kind, spec) in proxied {
        check(&format!("{{sources: {{{LISTED}}}}}"), kind, spec, &[refused]);
        check(&format!("{{sources: {{{DENIED}, proxies: Forbid}}}}"), kind, spec, &[refused]);
        check("{sources: {proxies: Forbid}}", kind, spec, &[refused]);
        check(&format!("{{sources: {{{LISTED}, proxies: Allow}}}}"), kind, spec, &[]);
        check(&format!("{{sources: {{{DENIED}}}}}"), kind, spec, &[]);
    }
    check(&format!("{{sources: {{{LISTED}}}}}"), Kind::GitRepository, "{url: https://github.com/a/b}", &[]);
    // A notification fetches nothing.
    check(&format!("{{sources: {{{LISTED}}}}}"), Kind::Provider, "{proxySecretRef: {name: mine}}", &[]);
}
