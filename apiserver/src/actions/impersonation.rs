//! The headers by which a request to another cluster is made as its user: `Impersonate-*` of Kubernetes.
//!
//! **Invariant:** nobody is impersonated whose name Kubernetes reserves. `system:masters` may do everything in every
//! cluster, and what else begins with `system:` is a part of one cluster that another cluster has too. Service accounts
//! pass with the groups that follow from their names; the other cluster grants them by namespace, or not.

use std::fmt::Write;

use gatehouse_apiservice::{UserInfo, dns, requester};
use gatehouse_serving::ApiError;
use http::{HeaderMap, HeaderName, HeaderValue};

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";
/// The longest description of a user, in bytes. kube-apiserver reads at most 1 MiB of headers.
const LONGEST: usize = 256 << 10;
/// What begins so is Kubernetes' own.
const RESERVED: &str = "system:";
/// kube-apiserver adds it to every user, and nobody need be allowed to impersonate it.
const AUTHENTICATED: &str = "system:authenticated";
const ACCOUNTS: &str = "system:serviceaccounts";
/// What kube-apiserver notes in extra fields about the credential. It says nothing in another cluster, and each field
/// would need a right of its own there.
const OF_THE_CREDENTIAL: &str = "authentication.kubernetes.io/";

/// The headers of a request as `user`, or 403.
pub(super) fn headers(user: &UserInfo) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::new();
    let account = account(user)?;
    headers.insert(USER, named("user", &user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, named("uid", &user.uid)?);
    }
    let implied = account.map(|namespace| [ACCOUNTS.to_owned(), format!("{ACCOUNTS}:{namespace}")]);
    let implied = implied.as_ref().map_or(&[][..], |groups| groups);
    let groups: Vec<&String> = user.groups.iter().filter(|group| *group != AUTHENTICATED).collect();
    if let Some(group) = groups.iter().find(|group| group.starts_with(RESERVED) && !implied.contains(group)) {
        return Err(refused(&format!("members of the group {group:?}")));
    }
    // kube-apiserver adds the groups of a service account if none are named, which takes no right.
    if account.is_none() || !groups.iter().all(|group| implied.contains(group)) {
        for group in groups {
            headers.append(GROUP, named("group", group)?);
        }
    }
    for (key, values) in user.extra.iter().filter(|(key, _)| !key.starts_with(OF_THE_CREDENTIAL)) {
        if key == requester::EXTRA {
            return Err(refused(&format!("users with the extra field {key:?}")));
        }
        let name = HeaderName::try_from(format!("{EXTRA}{}", escaped(key)))
            .map_err(|_| refused("users with such extra fields"))?;
        for text in values {
            headers.append(name.clone(), value("extra field", text)?);
        }
    }
    let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if length > LONGEST { Err(refused("users with so many groups")) } else { Ok(headers) }
}

/// The namespace, if the user is a service account. 403 for others whose name is reserved.
fn account(user: &UserInfo) -> Result<Option<&str>, ApiError> {
    if !user.name.starts_with(RESERVED) {
        return Ok(None);
    }
    match user.service_account() {
        Some((namespace, name)) if dns::is_label(namespace) && dns::is_subdomain(name) => Ok(Some(namespace)),
        _ => Err(refused(&format!("the user {:?}", user.name))),
    }
}

/// A name as a header. An HTTP server strips blanks from both ends, which would make another name of it.
fn named(what: &str, text: &str) -> Result<HeaderValue, ApiError> {
    if text.is_empty() || text.trim_ascii() != text {
        return Err(refused(&format!("the {what} {text:?}")));
    }
    value(what, text)
}

fn value(what: &str, text: &str) -> Result<HeaderValue, ApiError> {
    let is_whole = text.trim_ascii() == text;
    let value = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| is_whole);
    value.ok_or_else(|| refused(&format!("the {what} {text:?}")))
}

/// A key in lower case without characters that a header's name cannot have. kube-apiserver reads `%41` as `A`.
fn escaped(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02x}");
        }
    }
    escaped
}

fn refused(whom: &str) -> ApiError {
    let shown: String = whom.chars().take(300).collect();
    ApiError::denied(format!(
        "Gatehouse acts in other clusters as the user who asks, and impersonates no {shown}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        UserInfo { name: name.to_owned(), groups, ..UserInfo::default() }
    }

    fn lines(user: &UserInfo) -> Vec<String> {
        let headers = headers(user).expect("impersonated");
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
    }

    #[test]
    fn a_user_is_impersonated_as_a_whole() {
        let mut jane = user("jané", &["team-a", AUTHENTICATED, "oidc:all"]);
        jane.uid = "7".to_owned();
        jane.extra = [
            ("Scopes/x".to_owned(), vec!["a".to_owned(), String::new()]),
            ("authentication.kubernetes.io/credential-id".to_owned(), vec!["X509SHA256=ab".to_owned()]),
        ]
        .into();
        let expected = [
            "impersonate-user: jané",
            "impersonate-uid: 7",
            "impersonate-group: team-a",
            "impersonate-group: oidc:all",
            "impersonate-extra-%53copes%2fx: a",
            "impersonate-extra-%53copes%2fx: ",
        ];
        let mut lines = lines(&jane);
        lines.sort();
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_groups_of_a_service_account_follow_from_its_name() {
        let ci = "system:serviceaccount:team-a:ci";
        let own = [ACCOUNTS, "system:serviceaccounts:team-a", AUTHENTICATED];
        assert_eq!(lines(&user(ci, &own)), [format!("impersonate-user: {ci}")]);
        assert!(headers(&user(ci, &["system:serviceaccounts:team-b"])).is_err());
        assert!(headers(&user("jane", &[ACCOUNTS])).is_err());
    }

    #[test]
    fn nobody_becomes_a_part_of_the_other_cluster() {
        for name in [
            "system:admin",
            "system:anonymous",
            "system:kube-controller-manager",
            "system:node:a",
            "system:serviceaccount:team-a",
            "system:serviceaccount:team-a:a:b",
            "system:serviceaccount::ci",
            // Blanks are stripped on the way.
            " system:admin",
            "\tsystem:admin",
            "jane ",
            "",
            "jane\nImpersonate-Group: x",
        ] {
            assert_eq!(headers(&user(name, &[])).expect_err(name).code().as_u16(), 403, "{name:?}");
        }
        for group in
            ["system:masters", "system:nodes", "system:unauthenticated", " system:masters", "", "a\r\nb"]
        {
            let error = headers(&user("jane", &[group])).expect_err(group);
            assert_eq!(error.code().as_u16(), 403, "{group:?}");
        }
        let mut forger = user("jane", &[]);
        forger.extra = [(requester::EXTRA.to_owned(), vec!["{\"username\":\"root\"}".to_owned()])].into();
        assert!(headers(&forger).is_err());
        let crowd = vec!["g".repeat(1000); 300];
        assert!(headers(&UserInfo { groups: crowd, ..user("jane", &[]) }).is_err());
    }
}
