//! The answers that the authorizer gave about one user, and when each has to be asked again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use gatehouse_apiservice::client::jittered;
use gatehouse_inventory::Str;
use tokio::time::Instant;

use super::{rbac::Candidates, visible::Visible};

/// How long kube-apiserver may take to judge by a binding that is observed here already. While its answers contradict
/// the bindings, they are asked for again and again for this time.
const SETTLING: Duration = Duration::from_secs(5);
/// The first of these intervals; each is twice as long as all before it.
const SOON: Duration = Duration::from_millis(200);
/// The interval after which a review that failed is repeated, before as much jitter.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer is used that cannot be renewed, as with the authorization of a watch.
const OUTAGE_GRACE: Duration = Duration::from_mins(1);

/// What is asked: about a namespace, or with an empty name about all of them.
pub(super) type Question = Str;

#[derive(Debug, Clone, Copy)]
struct Answer {
    allowed: bool,
    /// When the review was sent.
    asked: Instant,
    due: Instant,
    /// Whether it could not be renewed when it was due. `due` is then when to try again.
    is_failing: bool,
    /// When a change that concerns it was observed last.
    changed: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Answers {
    given: BTreeMap<Question, Answer>,
    /// Questions that have no answer yet, each with the time when to ask.
    open: BTreeMap<Question, Instant>,
    candidates: Candidates,
    /// The most questions.
    most: usize,
    /// How many questions were left out for that.
    left_out: usize,
}

impl Answers {
    /// Takes in what the bindings say now, and in which namespaces they changed for this user; `None` if anything may
    /// have changed. At most `most` questions are asked: the first by name, so that the same namespaces are shown
    /// wherever the same is known.
    pub(super) fn update(
        &mut self,
        candidates: Candidates,
        changed: Option<&HashSet<Question>>,
        most: usize,
        now: Instant,
    ) {
        (self.candidates, self.most) = (candidates, most);
        for (question, answer) in &mut self.given {
            if changed.is_none_or(|changed| changed.contains(question)) {
                (answer.due, answer.changed) = (now, Some(now));
            }
        }
        self.complete(now);
    }

    /// Adds the questions that have to be answered, and drops those that have not.
    fn complete(&mut self, now: Instant) {
        let mut wanted: BTreeSet<Question> = BTreeSet::from(["".into()]);
        if !self.sees_everything() {
            wanted.extend(self.candidates.namespaces.iter().chain(&self.candidates.asked).cloned());
            // Another authorizer may allow what no binding does.
            let allowed = self.given.iter().filter(|(_, answer)| answer.allowed);
            wanted.extend(allowed.map(|(question, _)| Arc::clone(question)));
            // A binding that is gone may still be known to kube-apiserver, or the other way round.
            let recent = self.given.iter().filter(|(_, answer)| answer.is_settling(now));
            wanted.extend(recent.map(|(question, _)| Arc::clone(question)));
        }
        self.left_out = wanted.len().saturating_sub(self.most.max(1));
        if let Some(first) = wanted.iter().nth(self.most.max(1)).cloned() {
            drop(wanted.split_off(&first));
        }
        self.given.retain(|question, _| wanted.contains(question));
        self.open.retain(|question, _| wanted.contains(question));
        for question in wanted {
            if !self.given.contains_key(&question) {
                self.open.entry(question).or_insert(now);
            }
        }
    }

    /// The questions to ask before the answers may be used. That about everything comes alone: it may make the others
    /// superfluous.
    pub(super) fn due(&self, now: Instant) -> Vec<Question> {
        let answered = self.given.iter().filter(|(_, answer)| answer.is_failing || answer.due <= now);
        let due: BTreeSet<_> =
            answered.map(|(question, _)| question).chain(self.open.keys()).cloned().collect();
        match due.first() {
            Some(first) if first.is_empty() => vec![first.clone()],
            _ => due.into_iter().collect(),
        }
    }

    /// When to ask next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.given.values().map(|answer| answer.due).chain(self.open.values().copied()).min()
    }

    /// Takes in an answer to a review that was sent at `asked`; `None` if it failed. It is used for `lifetime`.
    pub(super) fn answered(
        &mut self,
        question: &Question,
        allowed: Option<bool>,
        asked: Instant,
        lifetime: Duration,
    ) {
        let now = Instant::now();
        let Some(allowed) = allowed else {
            let retry = now + jittered(RETRY, RETRY);
            if let Some(answer) = self.given.get_mut(question) {
                (answer.due, answer.is_failing) = (retry, true);
            } else if let Some(due) = self.open.get_mut(question) {
                *due = retry;
            }
            return;
        };
        let before = self.given.get(question);
        if before.is_none() && !self.open.contains_key(question) {
            // It has been dropped meanwhile.
            return;
        }
        let changed = before.and_then(|before| before.changed);
        // A change that was observed after the review was sent is not in its answer.
        let is_old = changed.is_some_and(|changed| changed > asked);
        // A new question comes from a binding that may be new.
        let changed = changed.or_else(|| self.open.contains_key(question).then_some(asked));
        let settling = changed.map(|changed| asked.saturating_duration_since(changed));
        let due = match settling {
            _ if is_old => now,
            Some(since) if allowed != self.expects(question) && since < SETTLING => asked + since.max(SOON),
            _ => asked + jittered(lifetime.mul_f64(0.8), lifetime.mul_f64(0.2)),
        };
        self.open.remove(question);
        let answer = Answer { allowed, asked, due, is_failing: false, changed };
        self.given.insert(question.clone(), answer);
        if question.is_empty() {
            self.complete(now);
        } else if !self.is_wanted(question, &answer, now) {
            self.given.remove(question);
            if self.left_out > 0 {
                // There is room for another.
                self.complete(now);
            }
        }
    }

    /// Whether a question is one still, as [`Self::complete`] has it.
    fn is_wanted(&self, question: &Question, answer: &Answer, now: Instant) -> bool {
        let Candidates { namespaces, asked, .. } = &self.candidates;
        !self.sees_everything()
            && (answer.allowed
                || answer.is_settling(now)
                || namespaces.contains(question)
                || asked.contains(question))
    }

    /// What RBAC alone would answer.
    fn expects(&self, question: &Question) -> bool {
        if question.is_empty() {
            self.candidates.everything
        } else {
            self.candidates.namespaces.contains(question)
        }
    }

    /// Whether every question has an answer, though some may be due.
    pub(super) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the answers are those that RBAC alone would give. Only then can another replica, which knows the same
    /// bindings, tell what was shown here.
    pub(super) fn follow_from_rbac(&self) -> bool {
        self.is_complete()
            && self.left_out == 0
            && self.given.iter().all(|(question, answer)| answer.allowed == self.expects(question))
    }

    /// What is seen by the answers that there are.
    pub(super) fn visible(&self) -> Visible {
        if self.sees_everything() {
            return Visible::Everything;
        }
        let allowed = self.given.iter().filter(|(question, answer)| answer.allowed && !question.is_empty());
        Visible::Only(Arc::new(allowed.map(|(question, _)| question.clone()).collect()))
    }

    fn sees_everything(&self) -> bool {
        self.given.get("").is_some_and(|answer| answer.allowed)
    }

    /// Whether an answer could not be renewed for too long.
    pub(super) fn is_outdated(&self, now: Instant) -> bool {
        self.given.values().any(|answer| answer.is_failing && now - answer.asked >= OUTAGE_GRACE)
    }

    /// How many answers are kept.
    pub(super) fn len(&self) -> usize {
        self.given.len() + self.open.len()
    }

    /// How many questions are not asked, because there are too many.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// The most questions.
    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Answer {
    fn is_settling(&self, now: Instant) -> bool {
        self.changed.is_some_and(|changed| now.saturating_duration_since(changed) < SETTLING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::testing::only;

    const LIFETIME: Duration = Duration::from_secs(10);
    const MOST: usize = 100;

    fn candidates(namespaces: &[&str]) -> Candidates {
        let namespaces = namespaces.iter().map(|&namespace| namespace.into()).collect();
        Candidates { namespaces, ..Candidates::default() }
    }

    fn texts(questions: &[Question]) -> Vec<&str> {
        questions.iter().map(AsRef::as_ref).collect()
    }

    fn answer(answers: &mut Answers, question: &str, allowed: bool) {
        answers.answered(&question.into(), Some(allowed), Instant::now(), LIFETIME);
    }

    fn begun(namespaces: &[&str]) -> Answers {
        let mut answers = Answers::default();
        answers.update(candidates(namespaces), None, MOST, Instant::now());
        answers
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_asked_first_and_may_be_all_there_is_to_ask() {
        let mut answers = begun(&["a", "b"]);
        let now = Instant::now();
        assert_eq!(texts(&answers.due(now)), [""]);
        answer(&mut answers, "", true);
        assert!(answers.due(now).is_empty() && answers.len() == 1);
        assert_eq!(answers.visible(), Visible::Everything);
        assert!(!answers.follow_from_rbac(), "no binding says so");

        let mut answers = begun(&["a", "b"]);
        answer(&mut answers, "", false);
        assert_eq!(texts(&answers.due(now)), ["a", "b"]);
        assert!(!answers.follow_from_rbac(), "not all is known");
        answer(&mut answers, "a", true);
        answer(&mut answers, "b", true);
        assert!(answers.due(now).is_empty() && answers.follow_from_rbac());
        assert_eq!(answers.visible(), only(&["a", "b"]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_contradicts_a_new_binding_is_soon_asked_for_again() {
        let mut answers = begun(&["a"]);
        answer(&mut answers, "", false);
        answer(&mut answers, "a", true);
        answers.update(candidates(&[]), Some(&HashSet::from(["a".into()])), MOST, Instant::now());
        assert_eq!(answers.visible(), only(&["a"]), "until the authorizer says otherwise");
        let began = Instant::now();
        let mut asked = 0;
        while began.elapsed() < SETTLING {
            assert_eq!(texts(&answers.due(Instant::now())), ["a"]);
            answer(&mut answers, "a", true);
            asked += 1;
            tokio::time::sleep_until(answers.next().expect("one")).await;
        }
        assert!((4..8).contains(&asked), "{asked}");
        answer(&mut answers, "a", false);
        assert_eq!(answers.visible(), only(&[]));
        tokio::time::advance(SETTLING).await;
        answers.update(candidates(&[]), Some(&HashSet::new()), MOST, Instant::now());
        assert_eq!(answers.len(), 1, "it is no longer a question");
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_authorizer_allows_stays_a_question_and_what_it_denies_is_not_shown() {
        let mut answers = begun(&["denied"]);
        answer(&mut answers, "", false);
        answer(&mut answers, "denied", false);
        assert_eq!((answers.visible(), answers.follow_from_rbac()), (only(&[]), false));
        tokio::time::advance(SETTLING).await;
        assert_eq!(texts(&answers.due(Instant::now())), ["denied"]);
        answer(&mut answers, "denied", true);
        answers.update(candidates(&[]), Some(&HashSet::from(["denied".into()])), MOST, Instant::now());
        tokio::time::advance(2 * SETTLING).await;
        answer(&mut answers, "denied", true);
        answers.update(candidates(&[]), Some(&HashSet::new()), MOST, Instant::now());
        assert_eq!(answers.visible(), only(&["denied"]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_label_asks_about_is_seen_if_it_is_allowed_and_does_not_follow_from_rbac() {
        let mut answers = Answers::default();
        let asked = ["a".into(), "b".into()].into();
        answers.update(Candidates { asked, ..candidates(&[]) }, None, MOST, Instant::now());
        answer(&mut answers, "", false);
        assert_eq!(texts(&answers.due(Instant::now())), ["a", "b"]);
        answer(&mut answers, "a", false);
        answer(&mut answers, "b", false);
        assert_eq!((answers.visible(), answers.follow_from_rbac()), (only(&[]), true));
        tokio::time::advance(2 * LIFETIME).await;
        answer(&mut answers, "a", true);
        assert_eq!((answers.visible(), answers.follow_from_rbac()), (only(&["a"]), false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_a_change_does_not_count_for_long() {
        let mut answers = begun(&["a"]);
        answer(&mut answers, "", false);
        let asked = Instant::now();
        answers.answered(&"a".into(), Some(true), asked, LIFETIME);
        tokio::time::advance(Duration::from_secs(1)).await;
        answers.update(candidates(&["a"]), Some(&HashSet::from(["a".into()])), MOST, Instant::now());
        answers.answered(&"a".into(), Some(true), asked, LIFETIME);
        assert_eq!(texts(&answers.due(Instant::now())), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_authorizer_that_is_down_is_asked_again_and_its_answers_expire() {
        let mut answers = begun(&["a"]);
        answer(&mut answers, "", false);
        answer(&mut answers, "a", true);
        let began = Instant::now();
        while began.elapsed() < OUTAGE_GRACE {
            assert!(!answers.is_outdated(Instant::now()), "{:?}", began.elapsed());
            for question in answers.due(Instant::now()) {
                answers.answered(&question, None, Instant::now(), LIFETIME);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(2 * RETRY).await;
        assert!(answers.is_outdated(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_exceeds_the_most_questions_is_not_seen() {
        let mut answers = Answers::default();
        answers.update(candidates(&["a", "b", "c"]), None, 3, Instant::now());
        assert_eq!((answers.len(), answers.left_out()), (3, 1), "with that about everything");
        for question in ["", "a", "b"] {
            answer(&mut answers, question, !question.is_empty());
        }
        assert_eq!(answers.visible(), only(&["a", "b"]));
        assert!(!answers.follow_from_rbac(), "another replica may leave out others");
        answers.update(candidates(&["a", "c"]), Some(&HashSet::new()), 3, Instant::now());
        assert_eq!((answers.len(), answers.left_out()), (3, 1), "b is allowed, as far as is known");
        answers.update(candidates(&["a", "b", "c"]), Some(&HashSet::new()), 2, Instant::now());
        assert_eq!((answers.visible(), answers.left_out()), (only(&["a"]), 2), "what was seen goes, too");
        answers.update(candidates(&["a", "b", "c"]), Some(&HashSet::new()), 0, Instant::now());
        answer(&mut answers, "", true);
        assert_eq!((answers.visible(), answers.left_out()), (Visible::Everything, 0));
    }
}
