//! Tests sources: which addresses patterns allow, and that no other spelling avoids a pattern.

use proptest::prelude::*;

use super::*;

fn allows(pattern: &str, text: &str, form: Form) -> bool {
    let pattern = Pattern::parse(pattern).expect(pattern);
    Address::parse(text, form).is_ok_and(|address| pattern.matches(&address))
}

#[test]
fn what_matches_is_allowed() {
    for (pattern, url) in [
        ("https://github.com/my-org/*", "https://github.com/my-org/app"),
        ("https://github.com/my-org/*", "https://github.com/my-org/app.git"),
        ("https://github.com/my-org/*", "https://github.com/my-org/app/"),
        ("https://github.com/my-org/*", "https://GitHub.COM/my-org/app"),
        ("https://github.com/my-org/*", "https://github.com:443/my-org/app"),
        ("https://github.com/my-org/*", "https://github.com./my-org/app"),
        ("https://github.com/my-org/*", "HTTPS://github.com/my-org/app"),
        ("https://github.com/my-org/*", "https://github.com/my%2Dorg/app"),
        ("https://GitHub.com/my-org/*", "https://github.com/my-org/app"),
        ("https://github.com/my-org/app", "https://github.com/my-org/app.git"),
        ("https://github.com/my-org/app.git", "https://github.com/my-org/app"),
        ("https://github.com/my-org/**", "https://github.com/my-org/deep/er/app"),
        ("https://github.com/{a,b}/*", "https://github.com/b/app"),
        ("https://*.example.com/**", "https://git.example.com/x"),
        ("https://git.example.com:8443/**", "https://git.example.com:8443/x"),
        ("http://10.0.0.1/**", "http://10.0.0.1/x"),
        ("http://[::1]:3000/**", "http://[::1]:3000/x"),
        ("ssh://git@github.com/my-org/*", "ssh://git@github.com/my-org/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:my-org/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:/my-org/app.git"),
        ("git@github.com:my-org/*", "ssh://git@github.com:22/my-org/app"),
        ("ssh://*@github.com/my-org/*", "ssh://deploy@github.com/my-org/app"),
        // The root itself.
        ("https://charts.example.com/**", "https://charts.example.com"),
        ("https://charts.example.com/**", "https://charts.example.com/"),
        ("https://*.github.io/**", "https://foo.github.io"),
        ("https://github.com/my-org/**", "https://github.com/my-org"),
        ("https://github.com/{a,b}/**", "https://github.com/b/"),
        ("http://[::1]:3000/**", "http://[0:0::1]:3000/x"),
        ("http://10.0.0.1/**", "http://10.0.0.1:80/x"),
        ("https://xn--bcher-kva.example/**", "https://XN--bcher-kva.example/x"),
        ("https://bücher.example/**", "https://xn--bcher-kva.example/x"),
        ("https://dev.azure.com/my-org/**", "https://dev.azure.com/my-org/My%20Project/_git/app"),
        ("https://dev.azure.com/my-org/My Project/**", "https://dev.azure.com/my-org/My%20Project/_git/app"),
        ("https://git.sr.ht/~me/*", "https://git.sr.ht/~me/app"),
        ("ssh://*@github.com/my-org/*", "ssh://github.com/my-org/app"),
        ("ssh://git@git.example.com:2222/**", "ssh://git@git.example.com:2222/x"),
        ("https://charts.example.com", "https://charts.example.com"),
        ("https://charts.example.com/", "https://charts.example.com"),
        ("https://charts.example.com", "https://charts.example.com/"),
    ] {
        assert!(allows(pattern, url, Form::Git), "{pattern} must allow {url}");
    }
    assert!(allows("oci://ghcr.io/my-org/**", "oci://GHCR.io/my-org/charts/app", Form::Url));
    assert!(allows("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org", Form::Url));
    assert!(allows("oci://ghcr.io/my-org/**", "oci://GHCR.io/my-org/charts/app", Form::Oci));
    assert!(
        allows("oci://docker.io/foo/*", "oci://foo/bar", Form::Oci),
        "a first segment without a dot is no host"
    );
    assert!(allows("oci://foo:5000/*", "oci://foo:5000/bar", Form::Oci));
    assert!(allows("oci://ghcr.io/my-org/**", "ghcr.io/my-org/app", Form::Image));
    assert!(allows("oci://docker.io/library/*", "nginx", Form::Image));
    assert!(allows("oci://docker.io/grafana/*", "grafana/grafana", Form::Image));
    for image in ["docker.io/nginx", "index.docker.io/library/nginx", "Index.Docker.io:443/library/nginx"] {
        assert!(allows("oci://docker.io/library/*", image, Form::Image), "{image}");
        assert!(allows("oci://index.docker.io/library/*", image, Form::Image), "{image}");
        assert!(!allows("oci://docker.io/*", image, Form::Image), "{image} is one of the library");
    }
    assert!(allows("oci://docker.io/library/*", "oci://nginx", Form::Oci));
    assert!(allows("oci://docker.io/foo/*", "oci://index.docker.io/foo/bar", Form::Url));
    assert!(allows("oci://docker.io/foo/*", "oci://registry-1.docker.io/foo/bar", Form::Oci));
    assert!(allows("oci://localhost:5000/**", "localhost:5000/app", Form::Image));
    assert!(allows("https://api.example.com/v1/*", "https://api.example.com/v1/inputs?env=prod", Form::Api));
    assert!(allows("https://minio.example.com", "https://minio.example.com/team-a", Form::Bucket));
}

#[test]
fn what_is_denied_is_denied_by_its_other_names() {
    for (pattern, text, form) in [
        ("https://github.com/my-org/secret", "https://github.com/my-org/Secret.GIT", Form::Git),
        ("https://github.com/my-org/secret.git", "https://github.com/my-org/secret", Form::Git),
        ("https://github.com/my-org/secret.git", "https://github.com/my-org/SECRET.Git", Form::Git),
        ("oci://docker.io/evil/*", "oci://registry-1.docker.io/evil/app", Form::Oci),
        ("oci://registry.hub.docker.com/evil/*", "evil/app", Form::Image),
        ("*://10.0.0.1", "https://[::ffff:10.0.0.1]/x", Form::Git),
        ("*://10.0.0.1", "https://[::ffff:a00:1]:8443/x", Form::Git),
        ("https://[::ffff:10.0.0.1]", "https://10.0.0.1/x", Form::Git),
    ] {
        let denied = Pattern::parse_denied(pattern).expect(pattern);
        assert!(denied.denies(&Address::parse(text, form).expect(text)), "{pattern} must deny {text}");
    }
}

#[test]
fn what_only_looks_alike_is_refused() {
    const PATTERN: &str = "https://github.com/my-org/*";
    for url in [
        "https://github.com/my-org/../evil/x",
        "https://github.com/my-org/..",
        "https://github.com/my-org/./x",
        "https://github.com/evil/../my-org/x",
        "https://github.com/my-org/%2e%2e/evil",
        "https://github.com/my-org/.%2E/evil",
        "https://github.com/my-org/%2e%2e%2fevil",
        "https://github.com/my-org/a%2fb",
        "https://github.com/my-org/a%5cb",
        "https://github.com/my-org/%252e%252e",
        "https://github.com/my-org/a%00",
        "https://github.com/my-org//x",
        "https://github.com//my-org/x",
        "https://github.com.evil.com/my-org/x",
        "https://evil.com/github.com/my-org/x",
        "https://evil.com/?https://github.com/my-org/x",
        "https://evil.com#https://github.com/my-org/x",
        "https://github.com@evil.com/my-org/x",
        "https://github.com:x@evil.com/my-org/x",
        "https://github.com\\@evil.com/my-org/x",
        "https://github.com\\my-org\\x",
        "https://evil.com\\.github.com/my-org/x",
        "https://git hub.com/my-org/x",
        "https://github.com/my-org/x\n",
        "https://github.com\t/my-org/x",
        "https://github.com/my-organisation/x",
        "https://github.com/my-org",
        "https://github.com/my-org/",
        "https://github.com/my-org/a/b",
        "https://github.com/MY-ORG/x",
        "https://user@github.com/my-org/x",
        "https://user:secret@github.com/my-org/x",
        "https://:secret@github.com/my-org/x",
        "https://a@b@github.com/my-org/x",
        "https://github.com:8443/my-org/x",
        "https://sub.github.com/my-org/x",
        "https://githubxcom/my-org/x",
        "https://gıthub.com/my-org/x",
        "https://github%2ecom/my-org/x",
        "http://github.com/my-org/x",
        "ssh://git@github.com/my-org/x",
        "git@github.com:my-org/x",
        "https:/github.com/my-org/x",
        "https:github.com/my-org/x",
        "https:///github.com/my-org/x",
        "//github.com/my-org/x",
        "github.com/my-org/x",
        "file:///my-org/x",
        "https://github.com/my-org/a;b",
        "https://github.com/my-org/a%3Bb",
        "https://github.com/my-org/*",
        "https://github.com/my-org/%2A",
        "https://github.com/my-org/a b",
        "https://github.com/my-org/a|b",
        "https://github.com/my-org/a$b",
        "https://github.com/my-org/a`b`",
        "https://github.com/my-org/a'b",
        "https://github.com/my-org/a\"b",
        "https://github.com/my-org/a<b>",
        "https://github.com/my-org/[a]",
        "https://github.com/my-org/{a}",
        "https://github.com/my-org/a^b",
        "https://github.com/my-org/a:b",
        "https://github.com/my-org/a,b",
        "https://github.com/my-org/a%20b%09",
        "https://github.com/my-org/a\u{7f}",
        "https://github.com/my-org/%C3%BC",
        "https://github.com/my-org/x,https://evil.com/x",
        "https://github.com;evil.com/my-org/x",
        "https://*.com/my-org/x",
        "https://github.com:443:443/my-org/x",
        "https://github.com:https/my-org/x",
        "",
    ] {
        assert!(!allows(PATTERN, url, Form::Git), "{PATTERN} must not allow {url:?}");
    }
}

#[test]
fn what_another_pattern_means_is_refused() {
    for (pattern, url) in [
        ("https://*.example.com/**", "https://example.com/x"),
        ("https://*.example.com/**", "https://a.b.example.com/x"),
        ("https://*.example.com/**", "https://.example.com/x"),
        ("https://*.example.com/**", "https://evilexample.com/x"),
        ("https://github.com/**", "https://github.com:444/x"),
        ("https://github.com/my-org/**", "https://github.com/my-org.git"),
        ("https://github.com/my-org/**", "https://github.com/my-organisation"),
        ("https://github.com/my-org/**", "https://github.com"),
        ("https://*.github.io/**", "https://github.io"),
        ("http://127.0.0.1/**", "http://127.1/x"),
        ("http://127.0.0.1/**", "http://0x7f.0.0.1/x"),
        ("http://127.0.0.1/**", "http://2130706433/x"),
        ("http://10.0.0.1/**", "http://10.0.0.01/x"),
        ("ssh://*@github.com/my-org/*", "ssh://-oProxyCommand=x@github.com/my-org/app"),
        ("ssh://*@github.com/my-org/*", "ssh://a;b@github.com/my-org/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:2222:my-org/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:~my-org/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:/my-org//app"),
        ("ssh://git@github.com/my-org/*", "git@github.com://my-org/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:my-org/%2e%2e/evil"),
        ("ssh://git@github.com/my-org/*", "git@evil.com@github.com:my-org/app"),
        ("ssh://git@github.com/my-org/*", "ssh://git@github.com:my-org/app"),
        ("ssh://git@127.0.0.1/**", "ssh://git@0x7f.1/x"),
        ("https://[::1]/**", "https://[::ffff:127.0.0.1]/x"),
        ("http://[fe80::1]/**", "http://[fe80::1%25eth0]/x"),
        ("https://example.com/**", "https://example.com%2eevil.com/x"),
        ("https://example.com/**", "https://ex\u{ad}ample.com/x"),
        ("https://example.com/**", "https://example。com/x"),
        ("https://github.com", "https://github.com/x"),
        ("ssh://git@github.com/my-org/*", "ssh://root@github.com/my-org/app"),
        ("ssh://git@github.com/my-org/*", "ssh://github.com/my-org/app"),
        ("ssh://git@github.com/my-org/*", "ssh://git@github.com/my-org/../evil/app"),
        ("ssh://git@github.com/my-org/*", "git@github.com:my-org/../evil"),
        ("ssh://git@github.com/my-org/*", "git@github.com.evil.com:my-org/app"),
        ("ssh://git@github.com/my-org/*", "ssh://git:pw@github.com/my-org/app"),
    ] {
        assert!(!allows(pattern, url, Form::Git), "{pattern} must not allow {url}");
    }
    assert!(!allows("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/../evil/app", Form::Url));
    assert!(!allows("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/%2e%2e/evil", Form::Url));
    for (pattern, url, form) in [
        ("oci://foo/**", "oci://foo/bar", Form::Oci),
        ("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/app:latest", Form::Oci),
        ("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/app@sha256:abc", Form::Oci),
        ("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/a~b", Form::Oci),
        ("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/a+b", Form::Url),
        ("oci://ghcr.io/my-org/**", "https://ghcr.io/my-org/app", Form::Oci),
        ("oci://ghcr.io/my-org/**", "oci://oci://ghcr.io/my-org/app", Form::Oci),
        ("oci://ghcr.io/my-org/**", "ghcr.io/my-org/app:v1", Form::Image),
        ("oci://ghcr.io/my-org/**", "oci://ghcr.io/my-org/app", Form::Image),
        ("oci://ghcr.io/**", "oci://ghcr.io", Form::Oci),
        ("https://minio.example.com/team-a/**", "https://minio.example.com/team-ab", Form::Bucket),
    ] {
        assert!(!allows(pattern, url, form), "{pattern} must not allow {url}");
    }
    assert!(!allows("oci://ghcr.io/my-org/**", "evil.io/my-org/app", Form::Image));
    assert!(!allows("oci://ghcr.io/my-org/**", "my-org/app", Form::Image));
    assert!(!allows("https://github.com/**", "https://github.com/x?y=z", Form::Url));
    assert!(!allows("https://minio.example.com/a", "https://minio.example.com/b", Form::Bucket));
}

#[test]
fn a_pattern_that_means_nothing_is_refused() {
    for pattern in [
        "",
        "github.com/my-org/*",
        "https://",
        "https:///x",
        "https://git*.com/x",
        "https://*/x",
        "https://a.*.com/x",
        "https://*.10.0.0.1/x",
        "https://user:pw@github.com/x",
        "https://@github.com/x",
        "https://github.com/../x",
        "https://github.com/a//b",
        "https://github.com/[a",
        "https://github.com/{a",
        "https://github.com/a%2f",
        "https://github.com:99999/x",
        "ht tp://github.com/x",
    ] {
        assert!(Pattern::parse(pattern).is_err(), "{pattern}");
    }
}

proptest! {
    /// Any text appended to an allowed organisation stays within it, or the address is rejected.
    #[test]
    fn nothing_leads_out_of_an_organisation(tail in "[a-z./%\\\\@:?#2efF-]{0,24}") {
        let url = format!("https://github.com/my-org/{tail}");
        if allows("https://github.com/my-org/**", &url, Form::Git) {
            let parsed = url::Url::parse(&url).unwrap();
            prop_assert_eq!(parsed.host_str(), Some("github.com"));
            prop_assert!(parsed.path().starts_with("/my-org/"), "{}", parsed);
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,40}", pattern in "\\PC{0,40}") {
        for form in [Form::Git, Form::Url, Form::Oci, Form::Api, Form::Bucket, Form::Image] {
            let _ = Address::parse(&text, form);
        }
        let _ = Pattern::parse(&pattern);
    }
}
