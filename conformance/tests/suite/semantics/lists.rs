//! Paged lists: of one version, in order, with selectors, as Tables.

use std::sync::Arc;

use anyhow::ensure;
use http::Method;
use libtest_mimic::Trial;
use serde_json::Value;

use super::subject::{SHOWN, Subject, Turned, apart, each, number, version};
use crate::site::Site;
use crate::world::{World, settles};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

pub(super) fn trials(world: &World) -> Vec<Trial> {
    vec![
        world.shared("semantics_lists::pages_are_of_one_version_whatever_happens_between_them", pages),
        world.shared("semantics_lists::pages_under_a_selector_are_full_and_not_counted", selected_pages),
        world.shared("semantics_lists::tables_are_paged_as_lists_are", table_pages),
        world.shared("semantics_lists::any_version_is_answered_with_a_real_one", any_version),
    ]
}

/// The continue token and the remaining item count of a page.
fn left(page: &Value) -> (Option<&str>, Option<u64>) {
    let meta = &page["metadata"];
    // For complete lists of custom resources, kube-apiserver sends an empty token.
    let token = meta["continue"].as_str().filter(|token| !token.is_empty());
    (token, meta["remainingItemCount"].as_u64())
}

async fn pages(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "pages").await?, async |subject| {
        let names: Vec<_> = (0..12).map(|number| format!("p-{number:02}")).collect();
        subject.fill(&names).await?;
        let first = subject.list("limit=5").await?.ok()?;
        ensure!(subject.names(&first) == names[..5], "{first:#}");
        let (token, remaining) = left(&first);
        let token = token.unwrap_or_default();
        ensure!(remaining == Some(7), "{first:#}");

        subject.touch("p-06", 1).await?;
        subject.delete("p-08").await?;
        subject.create("p-05-and-a-half").await?;
        let now = async || subject.list("").await?.ok();
        let changed = |list: &Value| {
            let names = subject.names(list);
            let touched = list["items"]
                .as_array()
                .is_some_and(|items| items.iter().any(|item| subject.touched(item) == Some(1)));
            touched && !names.contains(&"p-08".to_owned()) && names.contains(&"p-05-and-a-half".to_owned())
        };
        let now = settles("the changes are shown", SHOWN, now, changed).await?;
        ensure!(number(&now)? > number(&first)?, "{now:#}");

        let second = subject.list(&format!("limit=5&continue={token}")).await?.ok()?;
        ensure!(subject.names(&second) == names[5..10], "{second:#}");
        ensure!(version(&second) == version(&first), "{second:#}");
        ensure!(subject.touched(&second["items"][1]).is_none(), "{second:#}");
        let (last, remaining) = left(&second);
        ensure!(remaining == Some(2), "{second:#}");
        let third = subject.list(&format!("limit=5&continue={}", last.unwrap_or_default())).await?.ok()?;
        ensure!(subject.names(&third) == names[10..] && left(&third) == (None, None), "{third:#}");
        ensure!(version(&third) == version(&first), "{third:#}");
        // Each page has its own limit.
        let rest = subject.list(&format!("continue={token}")).await?.ok()?;
        ensure!(subject.names(&rest) == names[5..] && left(&rest) == (None, None), "{rest:#}");
        Ok(())
    })
    .await
}

async fn selected_pages(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "selected-pages").await?, async |subject| {
        let names: Vec<_> = (0..8).map(|number| format!("q-{number}")).collect();
        subject.fill(&names).await?;
        let off = [0, 2, 4, 5];
        for place in off {
            subject.turn(&names[place], false).await?;
        }
        let (on, off) = (subject.selector(Turned::On), subject.selector(Turned::Off));
        let look = async || subject.list(&off).await?.ok();
        settles("four are off", SHOWN, look, |list| subject.names(list).len() == 4).await?;

        let mut found = Vec::new();
        let mut token = String::new();
        let mut versions = Vec::new();
        for expected in [2, 2] {
            let page = subject.list(&format!("limit=2&{on}&continue={token}")).await?.ok()?;
            ensure!(subject.names(&page).len() == expected, "{page:#}");
            found.extend(subject.names(&page));
            versions.push(version(&page).to_owned());
            let (next, remaining) = left(&page);
            ensure!(remaining.is_none(), "what a selector leaves is not counted: {page:#}");
            ensure!(next.is_some() == (found.len() < 4), "{page:#}");
            next.unwrap_or_default().clone_into(&mut token);
        }
        ensure!(found == ["q-1", "q-3", "q-6", "q-7"], "{found:?}");
        ensure!(versions[0] == versions[1], "{versions:?}");

        // The only match, after all objects that do not match.
        let name = subject.name("q-7");
        let one = subject.list(&format!("limit=1&fieldSelector=metadata.name%3D{name}")).await?.ok()?;
        ensure!(subject.names(&one) == ["q-7"] && left(&one).0.is_none(), "{one:#}");
        Ok(())
    })
    .await
}

async fn table_pages(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "table-pages").await?, async |subject| {
        let names: Vec<_> = (0..5).map(|number| format!("t-{number}")).collect();
        subject.fill(&names).await?;
        let table = async |query: &str| table(subject, query).await;
        let first = table("limit=2").await?;
        let (token, remaining) = left(&first);
        ensure!(first["kind"] == "Table" && subject.names(&first) == names[..2], "{first:#}");
        ensure!(remaining == Some(3), "{first:#}");
        let rest = table(&format!("continue={}", token.unwrap_or_default())).await?;
        ensure!(subject.names(&rest) == names[2..] && left(&rest) == (None, None), "{rest:#}");
        ensure!(version(&rest) == version(&first), "{rest:#}");
        Ok(())
    })
    .await
}

async fn table(subject: &Subject, query: &str) -> anyhow::Result<Value> {
    let path = format!("{}?{query}", subject.collection());
    let (code, _, mut documents) = subject.documents(&Method::GET, &path, TABLE).await?;
    ensure!(code == 200 && documents.len() == 1, "{code}: {documents:#?}");
    Ok(documents.remove(0))
}

async fn any_version(site: Arc<Site>) -> anyhow::Result<()> {
    each(&apart(&site, "any-version").await?, async |subject| {
        // An empty list needs a resourceVersion too, so that clients can watch from it.
        for query in ["", "resourceVersion=0", "limit=1"] {
            let empty = subject.list(query).await?.ok()?;
            ensure!(empty["items"] == serde_json::json!([]) && number(&empty)? > 0, "{query}: {empty:#}");
        }
        let before = subject.version().await?;
        subject.create("first").await?;
        let mut watch = subject.watch(&format!("resourceVersion={before}")).await?;
        let added = watch.reports(subject, "ADDED first").await?;
        for query in ["", "resourceVersion=0", "resourceVersionMatch=NotOlderThan&resourceVersion={N}"] {
            let query = query.replace("{N}", version(&added["object"]));
            let list = subject.list(&query).await?.ok()?;
            ensure!(
                number(&list)? >= number(&added["object"])? && subject.names(&list) == ["first"],
                "{list:#}"
            );
        }
        Ok(())
    })
    .await
}
