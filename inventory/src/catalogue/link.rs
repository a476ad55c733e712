//! The links of an object to others, as the catalogue defines them: the objects that it uses, and its series.

use super::{
    Catalogue, Draft,
    expression::Scope,
    matching::{Lookup, Text, text},
    rule::Rules,
};
use crate::{
    Applied, Case, Deadline, End, Interner, Layer, Links, Member, ObjectKey, Seconds, State, Str, Use,
    Verdict, When,
};

/// Which object an object of this kind names.
#[derive(Debug)]
pub(super) struct TargetRule {
    /// `None` is the core group.
    pub(super) group: Option<Text>,
    pub(super) kind: Option<Text>,
    /// If there is no value, or only an empty string, no object is named.
    pub(super) name: Lookup,
    pub(super) namespace: Option<Lookup>,
}

/// An object that an object of this kind uses.
#[derive(Debug)]
pub(super) struct UseRule {
    pub(super) target: TargetRule,
    /// Whether it explains a failure of the user if it has failed itself.
    pub(super) failed: bool,
    /// Whether it explains a failure of the user if it does not exist.
    pub(super) missing: bool,
    /// The reasons with which its own failure explains nothing.
    pub(super) not_reasons: Vec<String>,
    pub(super) cases: Vec<CaseRule>,
}

/// How the verdict changes if the other object is missing or has this reason.
#[derive(Debug)]
pub(super) struct CaseRule {
    pub(super) test: CaseTest,
    pub(super) state: Option<State>,
    /// How long after it began a failure counts.
    pub(super) forget: Option<Seconds>,
    pub(super) reason: Option<Text>,
    pub(super) message: Option<Text>,
}

/// What a case is about.
#[derive(Debug)]
pub(super) enum CaseTest {
    Missing,
    Reason(String),
    States(Vec<State>),
}

/// What groups objects of a kind into a series.
#[derive(Debug)]
pub(super) struct SeriesRule {
    pub(super) name: Lookup,
    pub(super) at: Option<Lookup>,
}

/// The fields of an object that its links need.
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    pub(super) created: Seconds,
    pub(super) layer: Option<Layer>,
}

impl Rules {
    /// The links of the object to others; `None` if it has none.
    pub(super) fn links(
        &self,
        catalogue: &Catalogue,
        scope: &Scope<'_>,
        interner: &Interner,
        subject: &Subject<'_>,
        draft: &Draft<'_>,
        applied: Option<Box<Applied>>,
    ) -> Result<Option<Links>, String> {
        if self.uses.is_empty() && self.series.is_none() && applied.is_none() {
            return Ok(None);
        }
        let own = draft.clone().finish(interner);
        let mut uses = Vec::new();
        for rule in &self.uses {
            uses.extend(rule.used(catalogue, scope, interner, subject, &own)?);
        }
        let series = match &self.series {
            Some(rule) => rule.member(scope, interner, subject, &own)?,
            None => None,
        };
        if uses.is_empty() && series.is_none() && applied.is_none() {
            return Ok(None);
        }
        Ok(Some(Links { own, layer: subject.layer, uses: uses.into(), series, applied }))
    }
}

impl TargetRule {
    /// The object that is named, if its kind is observed. `own_namespace` is that of the object that names it.
    pub(super) fn key(
        &self,
        catalogue: &Catalogue,
        scope: &Scope<'_>,
        interner: &Interner,
        own_namespace: &str,
    ) -> Result<Option<ObjectKey>, String> {
        let Some(name) = self.name.text(scope)?.filter(|name| !name.is_empty()) else { return Ok(None) };
        let group = text(self.group.as_ref(), scope)?.unwrap_or_default();
        let kind = text(self.kind.as_ref(), scope)?.unwrap_or_default();
        let Some(kind) = catalogue.find(&group, &kind) else { return Ok(None) };
        let namespace = match &self.namespace {
            _ if !catalogue.kind(kind).namespaced => None,
            Some(lookup) => lookup.text(scope)?,
            None => None,
        };
        let own_namespace = if catalogue.kind(kind).namespaced { own_namespace } else { "" };
        let namespace =
            namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(own_namespace);
        Ok(Some(interner.key(kind, namespace, &name)))
    }
}

impl UseRule {
    fn used(
        &self,
        catalogue: &Catalogue,
        scope: &Scope<'_>,
        interner: &Interner,
        subject: &Subject<'_>,
        own: &Verdict,
    ) -> Result<Option<Use>, String> {
        let target = self.target.key(catalogue, scope, interner, subject.namespace)?;
        let Some(target) = target else { return Ok(None) };
        let cases = self.cases.iter().map(|case| case.case(scope, interner, subject, own));
        Ok(Some(Use {
            target,
            explains_if_failed: self.failed,
            explains_if_missing: self.missing,
            not_reasons: self.not_reasons.iter().map(|reason| interner.intern(reason)).collect(),
            cases: cases.collect::<Result<_, _>>()?,
        }))
    }
}

impl CaseRule {
    fn case(
        &self,
        scope: &Scope<'_>,
        interner: &Interner,
        subject: &Subject<'_>,
        own: &Verdict,
    ) -> Result<Case, String> {
        let words = |rule: &Option<Text>, own: &Str| -> Result<Str, String> {
            Ok(text(rule.as_ref(), scope)?.map_or_else(|| own.clone(), |words| interner.intern(&words)))
        };
        let (reason, message) = (words(&self.reason, &own.reason)?, words(&self.message, &own.message)?);
        let mut verdict = Verdict { reason, message, ..own.clone() };
        if let Some(state) = self.state {
            // What is in progress because of another object works as far as it says itself.
            verdict.last_outcome =
                Some(own.outcome()).filter(|own| state == State::Progressing && *own == State::Ready);
            (verdict.state, verdict.deadline) = (state, None);
        } else {
            let mut deadline = verdict.deadline.as_deref_mut();
            while let Some(current) = deadline {
                if current.end != End::Forgotten && self.reason.is_some() {
                    current.reason = verdict.reason.clone();
                }
                if current.end != End::Forgotten && self.message.is_some() {
                    current.message = verdict.message.clone();
                }
                deadline = current.next.as_deref_mut();
            }
        }
        if let Some(forget) = self.forget.filter(|_| verdict.state.is_failure() && verdict.deadline.is_none())
        {
            let since = verdict.since.unwrap_or(subject.created);
            verdict.deadline = Some(Box::new(Deadline {
                at: since.saturating_add(forget),
                since,
                observed: false,
                end: End::Forgotten,
                reason: verdict.reason.clone(),
                message: verdict.message.clone(),
                passed: false,
                next: None,
            }));
        }
        let when = match &self.test {
            CaseTest::Missing => When::Missing,
            CaseTest::Reason(reason) => When::Reason(interner.intern(reason)),
            CaseTest::States(states) => When::State(states.as_slice().into()),
        };
        Ok(Case { when, verdict })
    }
}

impl SeriesRule {
    fn member(
        &self,
        scope: &Scope<'_>,
        interner: &Interner,
        subject: &Subject<'_>,
        own: &Verdict,
    ) -> Result<Option<Member>, String> {
        let Some(name) = self.name.text(scope)?.filter(|name| !name.is_empty()) else { return Ok(None) };
        let at = match &self.at {
            Some(at) => at.instant(scope)?,
            None => None,
        };
        Ok(Some(Member {
            name: interner.intern(&name),
            at: at.unwrap_or(subject.created),
            finished: own.state == State::Ready || own.state.is_failure(),
        }))
    }
}
