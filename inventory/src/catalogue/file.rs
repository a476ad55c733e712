//! Compiles a catalogue file into kinds.
//!
//! **Invariant:** An error names the file, and the kind and the field if they are known.

use std::collections::HashSet;

use gatehouse_apiservice::duration;
use kube_cel::cel::Value;
use serde::Deserialize;

use super::{
    CatalogueError, Judge, Kind, expression,
    form::{
        CaseForm, DeadlineForm, ExplainsForm, JudgeForm, KindForm, LookupForm, MadeForForm, OneOrMany,
        RuleFields, RuleForm, Scope, SeriesForm, TextForm, UseForm,
    },
    link::{CaseRule, CaseTest, SeriesRule, TargetRule, UseRule},
    matching::{Check, ConditionTest, Lookup, Rule, Test, Text},
    path::FieldPath,
    rule::{Rules, Span, TimedRule},
};
use crate::{
    End, GameKind, Seconds, State,
    expression::{Expression, Functions, describe},
};

/// The path of the conditions, unless a rule sets another.
const CONDITIONS: &str = "status.conditions";

/// The states that a deadline applies to by default: Ready, and the states that normally lead to it.
const WAITING: [State; 3] = [State::Ready, State::Pending, State::Progressing];

/// The default time limit of a deletion: longer than any drain of a volume or a database.
const DELETING: Seconds = 3600;

/// A catalogue file. Its kinds are deserialized one by one, so that an error can name the kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    kinds: Vec<serde_json::Value>,
}

/// Reads and compiles every kind of a catalogue file.
pub(super) fn parse(file: &str, text: &str, functions: &Functions) -> Result<Vec<Kind>, CatalogueError> {
    let form: FileForm = serde_saphyr::from_str(text)
        .map_err(|error| CatalogueError::File { file: file.into(), message: error.to_string() })?;
    let mut seen = HashSet::new();
    let mut kinds = Vec::with_capacity(form.kinds.len());
    for (index, row) in form.kinds.into_iter().enumerate() {
        let name = row.get("kind").and_then(serde_json::Value::as_str);
        let name = name.map_or_else(|| format!("kinds[{index}]"), ToOwned::to_owned);
        let wrong = |(field, message): (String, String)| CatalogueError::Kind {
            file: file.into(),
            kind: name.clone(),
            field,
            message,
        };
        let form: KindForm = serde_path_to_error::deserialize(row)
            .map_err(|error| wrong((error.path().to_string(), error.inner().to_string())))?;
        let kind = compile(form, functions).map_err(wrong)?;
        if !seen.insert(kind.resource_name()) {
            return Err(wrong(("kind".into(), format!("{} is listed twice", kind.resource_name()))));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

/// A field and its error.
type FieldError = (String, String);

fn compile(form: KindForm, functions: &Functions) -> Result<Kind, FieldError> {
    for (field, value) in [("kind", &form.kind), ("plural", &form.plural)] {
        if value.is_empty() {
            return Err((field.into(), "is empty".into()));
        }
    }
    let mut compiler = Compiler { functions, variables: Vec::new() };
    let rules = Rules {
        suspended: compiler.rules("suspended", form.suspended)?,
        broken: compiler.rules("broken", form.broken)?,
        progressing: compiler.rules("progressing", form.progressing)?,
        failed: compiler.rules("failed", form.failed)?,
        current: compiler.rules("current", form.current)?,
        deadlines: compiler.deadlines(form.deadlines)?,
        deleting: form.deleting.map_or(Ok(DELETING), |text| seconds("deleting", &text))?,
        deletion_explained_by: compiler.rules("deletionExplainedBy", form.deletion_explained_by)?,
        layers: (form.layers.into_iter().enumerate())
            .map(|(index, row)| Ok((row.layer, compiler.rule(&format!("layers[{index}].when"), row.when)?)))
            .collect::<Result<_, FieldError>>()?,
        uses: compiler.uses(form.uses)?,
        series: form.series.map(|series| compiler.series(series)).transpose()?,
        made_for: form.made_for.map(|form| compiler.made_for(form)).transpose()?,
        variables: compiler.variables,
    };
    let judge = match form.judge {
        None => Judge::Rules(Box::new(rules)),
        Some(JudgeForm::Flux) if rules.is_empty() => Judge::Flux,
        Some(JudgeForm::Pod) if rules.is_empty() => Judge::Pod,
        Some(_) => return Err(("judge".into(), "leaves no room for rules of its own".into())),
    };
    Ok(Kind {
        game: GameKind::of(&form.group, &form.kind),
        group: form.group,
        kind: form.kind,
        plural: form.plural,
        namespaced: form.scope == Scope::Namespaced,
        layer: form.layer,
        judge,
    })
}

impl Rules {
    fn is_empty(&self) -> bool {
        let rules = [&self.suspended, &self.broken, &self.progressing, &self.failed, &self.current];
        rules.into_iter().all(Vec::is_empty)
            && self.deadlines.is_empty()
            && self.layers.is_empty()
            && self.uses.is_empty()
    }
}

/// Compiles the parts of one kind.
struct Compiler<'a> {
    functions: &'a Functions,
    variables: Vec<&'static str>,
}

impl Compiler<'_> {
    fn rules(&mut self, field: &str, forms: OneOrMany<RuleForm>) -> Result<Vec<Rule>, FieldError> {
        let single = forms.0.len() == 1;
        let place = |index| if single { field.to_owned() } else { format!("{field}[{index}]") };
        forms.0.into_iter().enumerate().map(|(index, form)| self.rule(&place(index), form)).collect()
    }

    fn rule(&mut self, field: &str, RuleForm(form): RuleForm) -> Result<Rule, FieldError> {
        let mut form = *form;
        let since =
            form.since.take().map(|since| self.lookup(&format!("{field}.since"), since)).transpose()?;
        let reason = self.text(&format!("{field}.reason"), form.reason.take())?;
        let message = self.text(&format!("{field}.message"), form.message.take())?;
        Ok(Rule { test: self.test(field, form)?, reason, message, since })
    }

    fn test(&mut self, field: &str, form: RuleFields) -> Result<Test, FieldError> {
        let wrong = |message: &str| (field.to_owned(), message.to_owned());
        let of_path =
            [form.equals.is_some(), form.one_of.is_some(), form.not_in.is_some(), form.exists.is_some()];
        let of_path = of_path.into_iter().filter(|given| *given).count();
        let of_condition = form.status.is_some()
            || form.with_reason.is_some()
            || form.not_reason.is_some()
            || form.latest.is_some()
            || form.conditions.is_some();
        match (form.cel, form.path, form.condition) {
            (Some(cel), None, None) if of_path == 0 && !of_condition => {
                Ok(Test::Cel(self.expression(field, &cel)?))
            }
            (None, Some(path), None) if of_path == 1 && !of_condition => {
                let path = field_path(&format!("{field}.path"), &path)?;
                let among = |name: &str, values| scalars(&format!("{field}.{name}"), values);
                let check = match (form.equals, form.one_of, form.not_in, form.exists) {
                    (Some(value), ..) => Check::In(among("equals", vec![value])?),
                    (_, Some(values), ..) => Check::In(among("in", values)?),
                    (_, _, Some(values), _) => Check::NotIn(among("notIn", values)?),
                    (.., exists) => Check::Exists(exists.unwrap_or(true)),
                };
                Ok(Test::Path(path, check))
            }
            (None, Some(_), None) if !of_condition => {
                Err(wrong("a path needs exactly one of equals, in, notIn and exists"))
            }
            (None, None, Some(types)) if of_path == 0 => {
                let lists = form.conditions.as_deref().unwrap_or(CONDITIONS);
                Ok(Test::Condition(ConditionTest {
                    lists: field_path(&format!("{field}.conditions"), lists)?,
                    types: types.0,
                    statuses: form.status.map_or_else(|| vec!["True".into()], |statuses| statuses.0),
                    reasons: form.with_reason.unwrap_or_default().0,
                    not_reasons: form.not_reason.unwrap_or_default().0,
                    latest: form.latest.unwrap_or_default(),
                }))
            }
            _ => Err(wrong(
                "expected one of: cel · path with equals, in, notIn or exists · condition with status, \
                 withReason, notReason, latest, conditions",
            )),
        }
    }

    fn deadlines(&mut self, forms: Vec<DeadlineForm>) -> Result<Vec<TimedRule>, FieldError> {
        let compile = |(index, form): (usize, DeadlineForm)| {
            let field = format!("deadlines[{index}]");
            let after = match form.after {
                None if form.at.is_none() => return Err((field, "needs at, after or both".into())),
                None => Span::Given(0),
                Some(TextForm::Literal(text)) => Span::Given(seconds(&format!("{field}.after"), &text)?),
                Some(TextForm::Found(lookup)) => Span::Found(self.lookup(&format!("{field}.after"), lookup)?),
            };
            let end = match form.state {
                Some(_) if form.forget => return Err((field, "either forgets or has a state".into())),
                None if form.forget => End::Forgotten,
                state => End::State(state.unwrap_or(State::Failed)),
            };
            Ok(TimedRule {
                at: form.at.map(|at| self.lookup(&format!("{field}.at"), at)).transpose()?,
                after,
                during: if form.during.is_empty() { WAITING.into() } else { form.during },
                end,
                reason: self.text(&format!("{field}.reason"), form.reason)?,
                message: self.text(&format!("{field}.message"), form.message)?,
            })
        };
        forms.into_iter().enumerate().map(compile).collect()
    }

    fn uses(&mut self, forms: Vec<UseForm>) -> Result<Vec<UseRule>, FieldError> {
        let compile = |(index, form): (usize, UseForm)| {
            let field = format!("uses[{index}]");
            let cases = form.when.into_iter().enumerate();
            let explains = |when| form.explains.as_ref().is_none_or(|explains| explains.0.contains(&when));
            Ok(UseRule {
                target: TargetRule {
                    group: self.text(&format!("{field}.group"), form.group)?,
                    kind: self.text(&format!("{field}.kind"), Some(form.kind))?,
                    name: self.lookup(&format!("{field}.name"), form.name)?,
                    namespace: form
                        .namespace
                        .map(|namespace| self.lookup(&format!("{field}.namespace"), namespace))
                        .transpose()?,
                },
                failed: explains(ExplainsForm::Failed),
                missing: explains(ExplainsForm::Missing),
                not_reasons: form.not_reason.0,
                cases: cases
                    .map(|(index, form)| self.case(&format!("{field}.when[{index}]"), form))
                    .collect::<Result<_, _>>()?,
            })
        };
        forms.into_iter().enumerate().map(compile).collect()
    }

    fn case(&mut self, field: &str, form: CaseForm) -> Result<CaseRule, FieldError> {
        let test = match (form.is, form.one_of, form.missing) {
            (Some(reason), None, false) => CaseTest::Reason(reason),
            (None, Some(states), false) if !states.0.is_empty() => CaseTest::States(states.0),
            (None, None, true) => CaseTest::Missing,
            _ => return Err((field.to_owned(), "needs one of is, in and missing".into())),
        };
        Ok(CaseRule {
            test,
            state: form.state,
            forget: form.forget.map(|text| seconds(&format!("{field}.forget"), &text)).transpose()?,
            reason: self.text(&format!("{field}.reason"), form.reason)?,
            message: self.text(&format!("{field}.message"), form.message)?,
        })
    }

    fn made_for(&mut self, form: MadeForForm) -> Result<TargetRule, FieldError> {
        Ok(TargetRule {
            group: self.text("madeFor.group", form.group)?,
            kind: self.text("madeFor.kind", Some(form.kind))?,
            name: self.lookup("madeFor.name", form.name)?,
            namespace: None,
        })
    }

    fn series(&mut self, form: SeriesForm) -> Result<SeriesRule, FieldError> {
        Ok(SeriesRule {
            name: self.lookup("series.name", form.name)?,
            at: form.at.map(|at| self.lookup("series.at", at)).transpose()?,
        })
    }

    fn text(&mut self, field: &str, form: Option<TextForm>) -> Result<Option<Text>, FieldError> {
        match form {
            None => Ok(None),
            Some(TextForm::Literal(text)) => Ok(Some(Text::Literal(text))),
            Some(TextForm::Found(lookup)) => Ok(Some(Text::Found(self.lookup(field, lookup)?))),
        }
    }

    fn lookup(&mut self, field: &str, form: LookupForm) -> Result<Lookup, FieldError> {
        match form {
            LookupForm::Path(path) => Ok(Lookup::Path(field_path(field, &path)?)),
            LookupForm::Cel(cel) => Ok(Lookup::Cel(self.expression(field, &cel)?)),
        }
    }

    fn expression(&mut self, field: &str, source: &str) -> Result<Expression, FieldError> {
        let compiled =
            expression::compile(source, self.functions).map_err(|message| (field.to_owned(), message))?;
        self.variables.extend(compiled.uses());
        self.variables.sort_unstable();
        self.variables.dedup();
        Ok(compiled)
    }
}

/// Parses a duration such as `1h30m`.
fn seconds(field: &str, text: &str) -> Result<Seconds, FieldError> {
    let span = duration::parse(text)
        .map_err(|error| (field.to_owned(), format!("{text:?} is not a duration: {error}")))?;
    Ok(span.as_secs())
}

fn field_path(field: &str, path: &str) -> Result<FieldPath, FieldError> {
    FieldPath::parse(path).map_err(|message| (field.to_owned(), message))
}

/// The values that a field is compared with. All have one type, so a value of another type is an error of the object.
fn scalars(field: &str, values: Vec<serde_json::Value>) -> Result<Vec<Value>, FieldError> {
    let wrong = |message: &str| (field.to_owned(), message.to_owned());
    let scalar = |value| match value {
        serde_json::Value::String(text) => Ok(Value::from(text)),
        serde_json::Value::Bool(value) => Ok(Value::Bool(value)),
        serde_json::Value::Number(number) => {
            number.as_i64().map(Value::Int).ok_or_else(|| wrong("expected a whole number"))
        }
        _ => Err(wrong("expected a string, a boolean or a whole number")),
    };
    let values = values.into_iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = values.first() else { return Err(wrong("is empty")) };
    if values.iter().any(|value| describe(value) != describe(first)) {
        return Err(wrong("expected values of one type"));
    }
    Ok(values)
}
