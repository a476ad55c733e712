//! Sends the same requests to all three subjects and compares the responses.

use std::fmt::Debug;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};

use super::subject::{SHOWN, Subject, together};
use crate::site::Site;
use crate::world::settles;

/// The number of concurrent requests.
const PARALLEL: usize = 24;

/// All three subjects with the same three objects, which do not change.
pub(super) async fn filled(site: &Site, trial: &str) -> anyhow::Result<[Subject; 3]> {
    let subjects = together(site, trial).await?;
    let names = ["a", "b", "c"].map(str::to_owned);
    subjects[0].fill(&names).await?;
    for subject in &subjects[1..] {
        let all = |list: &serde_json::Value| subject.names(list).len() == names.len();
        settles(subject, SHOWN, async || subject.list("").await?.ok(), all).await?;
    }
    Ok(subjects)
}

/// Reports each question that Gatehouse answers differently through the aggregator and directly, or that it answers
/// differently from kube-apiserver. Differences from kube-apiserver that `differs` expects must exist.
pub(super) async fn compared<Q: Debug, A: Debug + PartialEq>(
    subjects: &[Subject; 3],
    questions: Vec<Q>,
    ask: impl AsyncFn(&Subject, &Q) -> anyhow::Result<A>,
    differs: impl Fn(&Q) -> bool,
) -> anyhow::Result<()> {
    let (ask, all) = (&ask, questions.len());
    let answers: Vec<(Q, Vec<A>)> = stream::iter(questions)
        .map(|question| async move {
            let asked = subjects.iter().map(|subject| ask(subject, &question));
            let answers = futures::future::try_join_all(asked).await;
            let answers = answers.with_context(|| format!("{question:?}"))?;
            anyhow::Ok((question, answers))
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let problems: Vec<_> = answers
        .iter()
        .filter(|(question, answers)| {
            answers[1] != answers[2] || (answers[0] == answers[1]) == differs(question)
        })
        .map(|(question, answers)| {
            let reported = subjects.iter().zip(answers);
            let reported = reported.map(|(subject, answer)| format!("\n  {:?}: {answer:?}", subject.way));
            format!("{question:?}{}", reported.collect::<String>())
        })
        .collect();
    ensure!(problems.is_empty(), "{} of {all}:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}
